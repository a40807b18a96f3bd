//! Which texts an encoder runs next, and the workers that run them.
//!
//! [`planner`] decides; it is pure, so that its rules are tested as properties of any interleaving of events. [`Scheduler`]
//! gives it a lock, a clock and one thread for each session.
//!
//! Must not depend on gRPC or on what a bundle is, and knows a session only as [`hotpath_runtime::Encode`].

#![forbid(unsafe_code)]

mod job;
pub mod planner;
mod scheduler;
mod state;
mod worker;

pub use job::{Done, Failure};
pub use planner::{Full, Limits, Load};
pub use scheduler::{Pending, Scheduler, Work};
pub use worker::{Observer, Run};
