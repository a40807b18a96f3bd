//! Reads and verifies model bundles: the border between the research side, which writes them, and the hot path.
//!
//! What comes out of here is checked: every field is present and in its range, every file has the hash that the manifest
//! gives it, and the revision is what the content says. Malformed bytes give a [`Refused`], never a panic.
//!
//! Must not depend on ONNX Runtime, a tokenizer or an async runtime.

#![forbid(unsafe_code)]

mod fields;
mod folder;
mod golden;
mod manifest;
mod refused;
mod strict_json;
mod tasks;

pub use fields::is_model_name;
pub use folder::{Bundle, Revision, Stamp, hash};
pub use golden::{
    Golden, GoldenClassification, GoldenContinuation, GoldenEmbedding, GoldenGeneration, GoldenGenerations,
    GoldenPrompt,
};
pub use hotpath_contract::bundle::v1::{ChatPlace, ElementType, Pooling, Precision};
pub use manifest::{Axis, File, Graph, Manifest, OperatorSet, Source, Tensor, Tokenizer, Tolerance};
pub use refused::Refused;
pub use tasks::{
    Task,
    classification::{ClassLabel, Classification},
    embedding::Embedding,
    generation::{ChatTemplate, Generation, KvCache, MarkupPiece, Message, Role},
};
