//! When a model last worked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hotpath_encoding as scheduler;
use hotpath_generation as generation;

use crate::metrics::Metrics;

/// When a run last succeeded, as seen by the workers; passes each run on.
#[derive(Debug)]
pub struct Pulse {
    start: Instant,
    /// Milliseconds from `start` to the last success.
    last: AtomicU64,
    metrics: Arc<Metrics>,
}

impl Pulse {
    /// A pulse that begins now.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { start: Instant::now(), last: AtomicU64::new(0), metrics }
    }

    /// How long ago a run succeeded, or this began.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    /// Takes note that an inference succeeded.
    pub fn beat(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.fetch_max(now, Ordering::Relaxed);
    }
}

impl scheduler::Observer for Pulse {
    fn ran(&self, run: &scheduler::Run) {
        if run.error.is_none() {
            self.beat();
        }
        self.metrics.ran(run);
    }
}

impl generation::Observer for Pulse {
    fn ran(&self, run: &generation::Ran) {
        if run.error.is_none() {
            self.beat();
        }
        self.metrics.generated(run);
    }
}
