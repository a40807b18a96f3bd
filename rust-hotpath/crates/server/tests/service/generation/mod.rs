//! Continuations over gRPC, by a decoder with random weights.

mod company;
mod ends;
mod formats;
mod golden;
mod refusals;
mod replies;
pub mod support;
