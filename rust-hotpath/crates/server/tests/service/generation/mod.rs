//! Continuations over gRPC, by a decoder with random weights.

mod batch_invariance;
mod ends;
mod formats;
mod golden;
mod refusals;
mod replies;
pub mod support;
mod traces;
