//! The golden cases: what the reference implementation says of some texts.

mod classification;
mod embedding;
mod generation;

pub use classification::GoldenClassification;
pub use embedding::GoldenEmbedding;
pub use generation::{GoldenChunkPlan, GoldenContinuation, GoldenGeneration, GoldenGenerations, GoldenPrompt};

use crate::{Manifest, Refused, Task};

/// Most cases of a file, tokens of all its cases, and bytes of all its texts: many times what any model's are.
const MOST_CASES: usize = 1024;
const MOST_TOKENS: usize = 1 << 16;
const MOST_BYTES: usize = 1 << 20;

/// A checked golden file, of the manifest's task.
#[derive(Debug, Clone, PartialEq)]
pub enum Golden {
    /// `triptych.bundle.v1.GoldenFile`.
    Embeddings(Vec<GoldenEmbedding>),
    /// `triptych.bundle.v1.GenerationGoldenFile`.
    Generations(GoldenGenerations),
    /// `triptych.bundle.v1.ClassificationGoldenFile`.
    Classifications(Vec<GoldenClassification>),
}

/// Parses and checks the golden file's bytes against the manifest that they come with.
pub(crate) fn parse(json: &[u8], manifest: &Manifest) -> Result<Golden, Refused> {
    match &manifest.task {
        Task::Embedding(task) => Ok(Golden::Embeddings(embedding::parse(json, manifest, task)?)),
        Task::Generation(_) => Ok(Golden::Generations(generation::parse(json, manifest)?)),
        Task::Classification(task) => Ok(Golden::Classifications(classification::parse(json, manifest, task)?)),
    }
}

/// Checks a case's ids: at least one, and neither more nor higher than the manifest's tokenizer allows.
fn check_ids(ids: &[u32], manifest: &Manifest) -> Result<(), String> {
    let limits = manifest.tokenizer().map_err(|refused| refused.to_string())?;
    if ids.is_empty() || ids.len() > limits.max_tokens as usize {
        return Err(format!("{} ids are not 1 to {}", ids.len(), limits.max_tokens));
    }
    check_below_vocabulary(ids, manifest)
}

fn check_below_vocabulary(ids: &[u32], manifest: &Manifest) -> Result<(), String> {
    let vocabulary_size = manifest.tokenizer().map_err(|refused| refused.to_string())?.vocabulary_size;
    match ids.iter().find(|id| **id >= vocabulary_size) {
        Some(id) => Err(format!("{id} is not below {vocabulary_size}")),
        None => Ok(()),
    }
}

/// Holds what a replay costs against a bound, so that no bundle keeps its reader busy: `sizes` are the cases' tokens or bytes.
fn check_size(
    file: &str,
    field: &str,
    sizes: impl Iterator<Item = usize>,
    unit: &str,
    most: usize,
) -> Result<(), Refused> {
    let (count, sum) = sizes.fold((0, 0_usize), |(count, sum), size| (count + 1, sum.saturating_add(size)));
    if count > MOST_CASES || sum > most {
        let problem = format!("are {count} of {sum} {unit} in all; at most {MOST_CASES} of {most} are replayed");
        return Err(Refused::field(file, field, problem));
    }
    Ok(())
}

/// Whether there are at least two lengths, without which a batch proves nothing.
fn differ(mut lengths: impl Iterator<Item = usize>) -> bool {
    let first = lengths.next();
    lengths.any(|length| Some(length) != first)
}
