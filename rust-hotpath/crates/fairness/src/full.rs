//! Whether a queue takes something of a key, and what whoever is refused is told.

use std::time::Duration;

use crate::{Admission, DrainRate};

/// A queue takes no more of a key now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Full {
    /// When enough of the queue will have run, going by the measured rate.
    pub retry_after: Duration,
    /// How long what the key has in the queue takes by that rate, if nothing else runs; zero before anything was measured.
    pub waiting: Duration,
}

impl Full {
    /// Whether a queue takes so many tokens of a key: a key that has nothing in it is always let in, and any other within
    /// its share. What does not find room finds none with more tokens either.
    ///
    /// # Errors
    /// [`Full`] if it does not.
    pub fn check(
        admission: &Admission,
        key: &str,
        tokens: usize,
        drain: &DrainRate,
        workers: usize,
    ) -> Result<(), Self> {
        let (excess, of_key) = (admission.excess(key, tokens), admission.held_by(key));
        if excess == 0 || of_key == 0 {
            return Ok(());
        }
        let retry_after = drain.time_for(excess.min(admission.held()), workers);
        Err(Self { retry_after, waiting: drain.measured(of_key, workers) })
    }
}
