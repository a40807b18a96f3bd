//! The engine over real sessions, and over ones that do as they are told.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test's panic is its failure")]

mod batch_invariance;
mod drafts;
mod faults;
mod formats;
mod solo;
mod yielding;

use hotpath_generation::{Observer, Ran};

struct Silent;

impl Observer for Silent {
    fn ran(&self, _: &Ran) {}
}
