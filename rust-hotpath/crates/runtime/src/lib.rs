//! The only crate that knows ONNX Runtime: its library, its sessions, its tensors.
//!
//! Its foreign errors end here: what leaves this crate is [`Refused`](hotpath_bundle::Refused), [`LibraryError`] or
//! [`RunError`].
//!
//! Must not depend on a tokenizer, on scheduling or on gRPC.

mod decoder;
mod encoder;
mod exit;
mod graph;
mod head;
mod kernels;
mod library;
mod pack;
mod pooling;
mod session;

pub use decoder::{Decode, Decoder, Extent, Row};
pub use encoder::Encoder;
pub use exit::exit_now;
pub use graph::processor;
pub use head::Head;
pub use kernels::Kernels;
pub use library::{Library, LibraryError};
pub use pooling::shorten;
pub use session::Threads;

/// One session that turns token ids into vectors. The seam between the scheduler and ONNX Runtime, so that the scheduler
/// is tested with sessions that fail on demand.
pub trait Encode: Send {
    /// Runs some texts as one batch and gives each one's vector, in their order. A text's vector is the same to the last
    /// bit whatever else is in the batch.
    ///
    /// # Errors
    /// [`RunError`] when the batch failed as a whole.
    fn encode(&mut self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError>;
}

/// A run failed. The message is for the log, not for callers.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct RunError(pub String);

impl From<ort::Error> for RunError {
    fn from(error: ort::Error) -> Self {
        Self(error.to_string())
    }
}
