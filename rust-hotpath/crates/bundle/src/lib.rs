//! Reads and verifies model bundles: the border between the research side, which writes them, and the hot path.
//!
//! What comes out of here is checked: every field is present and in its range, every file has the hash that the manifest
//! gives it, and the revision is what the content says. Malformed bytes give a [`Refused`], never a panic.
//!
//! Must not depend on ONNX Runtime, a tokenizer or an async runtime.

#![forbid(unsafe_code)]

mod classification;
mod folder;
mod generation;
mod golden;
mod manifest;
mod refused;
mod strict_json;

pub use classification::{ClassLabel, Classification};
pub use folder::{Bundle, Revision, Stamp, hash};
pub use generation::{ChatTemplate, Generation, KvCache, MarkupPiece, Message, Role};
pub use golden::{
    Golden, GoldenChunkPlan, GoldenClassification, GoldenContinuation, GoldenEmbedding, GoldenGeneration,
    GoldenGenerations, GoldenPrompt,
};
pub use hotpath_contract::bundle::v1::{ChatPlace, CpuFeature, ElementType, Pooling, Precision};
pub use manifest::{Axis, Embedding, File, Graph, Manifest, Source, Task, Tensor, Tokenizer, Tolerance, is_model_name};
pub use refused::Refused;
