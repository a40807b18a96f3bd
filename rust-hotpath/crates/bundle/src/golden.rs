//! The golden cases: what the reference implementation says of some texts.

mod checks;
mod classification;
mod embedding;
mod generation;

pub use classification::GoldenClassification;
pub use embedding::GoldenEmbedding;
pub use generation::{GoldenContinuation, GoldenGeneration, GoldenGenerations, GoldenPrompt};

use crate::{Refused, manifest::Manifest, tasks::Task};

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
