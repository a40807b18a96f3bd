//! What models do: one module for each task.

pub(crate) mod classification;
pub(crate) mod embedding;
pub(crate) mod generation;

use classification::Classification;
use embedding::Embedding;
use generation::Generation;

/// What a model does, and what a caller must know to do it.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// Text to vector.
    Embedding(Embedding),
    /// Text to its continuation.
    Generation(Generation),
    /// Text to scores of labels.
    Classification(Classification),
}
