//! Who runs next, and the workers that run it.
//!
//! [`planner`] decides; it is pure, so that its rules are tested as properties of any interleaving of events. [`Scheduler`]
//! gives it a lock, a clock and one thread for each session.
//!
//! Must not depend on gRPC or on what a bundle is, and knows a session only as [`hotpath_runtime::Encode`].

#![forbid(unsafe_code)]

mod drain;
pub mod planner;
mod turns;
