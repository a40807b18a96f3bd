//! Fairness between keys: how much of a queue each may fill, and whose turn is next. Every queue of the hot path uses it.
//!
//! What decides is pure: time comes in with each call, and nothing of it waits, locks or knows a thread. What a unit of cost is,
//! tokens or bytes, is the queue's own business. Two modules alone are the other half, the lock and the waiting around it:
//! [`Monitor`] for threads that share a state, and [`turnstile`] for calls that want one of a number of permits.
//!
//! Must not depend on any other crate of the workspace.

#![forbid(unsafe_code)]

mod admission;
mod classes;
mod deadlines;
mod drain;
mod drr_queue;
mod full;
mod key;
mod monitor;
mod patience;
pub mod turnstile;

pub use admission::{Admission, Bounds};
pub use classes::{ByClass, Class, PerClass, Turn};
pub use deadlines::Deadlines;
pub use drain::DrainRate;
pub use drr_queue::{DrrQueue, Queued};
pub use full::Full;
pub use key::Key;
pub use monitor::{Dead, Look, Monitor, fenced};
pub use patience::{PATIENCE, Patience};
