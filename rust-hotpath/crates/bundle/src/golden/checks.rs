//! What every task's cases must be.

use crate::{Refused, manifest::Manifest};

/// Most cases of a file, tokens of all its cases, and bytes of all its texts: many times what any model's are.
const MOST_CASES: usize = 1024;
pub(super) const MOST_TOKENS: usize = 1 << 16;
pub(super) const MOST_BYTES: usize = 1 << 20;

/// Checks a case's ids: at least one, and neither more nor higher than the manifest's tokenizer allows.
pub(super) fn check_ids(ids: &[u32], manifest: &Manifest) -> Result<(), String> {
    let limits = manifest.tokenizer().map_err(|refused| refused.to_string())?;
    if ids.is_empty() || ids.len() > limits.max_tokens as usize {
        return Err(format!("{} ids are not 1 to {}", ids.len(), limits.max_tokens));
    }
    check_below_vocabulary(ids, manifest)
}

pub(super) fn check_below_vocabulary(ids: &[u32], manifest: &Manifest) -> Result<(), String> {
    let vocabulary_size = manifest.tokenizer().map_err(|refused| refused.to_string())?.vocabulary_size;
    match ids.iter().find(|id| **id >= vocabulary_size) {
        Some(id) => Err(format!("{id} is not below {vocabulary_size}")),
        None => Ok(()),
    }
}

/// Holds what a replay costs against a bound, so that no bundle keeps its reader busy: `sizes` are the cases' tokens or
/// bytes.
pub(super) fn check_size(
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
pub(super) fn differ(mut lengths: impl Iterator<Item = usize>) -> bool {
    let first = lengths.next();
    lengths.any(|length| Some(length) != first)
}
