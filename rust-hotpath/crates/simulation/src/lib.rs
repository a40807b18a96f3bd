//! A fleet of hot paths on paper: events in the order of their times, and what each of them causes.
//!
//! A replica is the planners that the hot path runs, and [`Costs`] that say how long a run takes, as measured. [`rule`] is the
//! gateway's choice of a replica, held to the same cases as the gateway's own. Everything that is random comes of a seed, so a
//! [`Scenario`] has one [`Report`].
//!
//! Must not depend on a clock, a thread or a session, nor on how figures are shown.

#![forbid(unsafe_code)]

mod bounds;
mod costs;
mod gateway;
mod lengths;
mod random;
mod replica;
mod report;
pub mod rule;
mod scenario;
mod tally;
mod traffic;
mod trouble;
mod world;

pub use bounds::OutOfBounds;
pub use costs::{Costs, DecoderCosts, EncoderCosts, WayCosts};
pub use lengths::Lengths;
pub use report::{Distribution, Outcomes, Report};
pub use scenario::{Policy, Scenario, Settings, Trouble};
pub use traffic::{Bursts, Recorded, Returns, Synthetic, Traffic};
pub use world::simulate;

/// A moment, as the time since the simulation began.
pub type Time = std::time::Duration;
