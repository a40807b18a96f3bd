//! Continuous batching: which rows of a decoder run next, and what each of them says.
//!
//! [`planner`] decides; it is pure, so that its rules are tested as properties of any interleaving of events. [`Engine`]
//! gives it a lock, a clock, and the thread that owns the session. What a row says depends on its own prompt, settings and
//! seed, whoever runs beside it.
//!
//! Must not depend on gRPC or on what a bundle is, and knows a session only as [`hotpath_runtime::Decode`].

#![forbid(unsafe_code)]

mod chunks;
mod draft;
mod engine;
mod format;
mod job;
mod masks;
pub mod planner;
mod run_loop;
mod sampler;
mod sequence;
mod state;
mod work;

pub use hotpath_fairness::Full;

pub use chunks::{ChunkRun, Chunks};
pub use engine::{Engine, Settings, Stream};
pub use format::{AHEAD, Ahead, Format, Grammar, InvalidFormat, Mask};
pub use planner::{Class, Limits, Load, Refusal};
pub use run_loop::{Kind, Observer, Ran};
pub use sampler::{Choice, InvalidSampling, Logprob, NoChoice, Sampler, Sampling};
pub use work::{Delta, Done, Event, Failure, Finish, Rejected, Started, Stop, Work};
