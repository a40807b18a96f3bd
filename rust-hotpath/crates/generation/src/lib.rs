//! Continuous batching: which rows of a decoder run next, and what each of them says.
//!
//! Must not depend on gRPC or on what a bundle is, and knows a session only as [`hotpath_runtime::Decode`].

#![forbid(unsafe_code)]

mod sampler;

pub use sampler::{Choice, InvalidSampling, Logprob, NoChoice, Sampler, Sampling};
