//! Whether a model works: when an inference succeeded last, and what is under way.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hotpath_encoding as encoding;
use hotpath_generation as generation;

use crate::metrics::Metrics;

/// Failed runs are logged no more often than this, with how many were not.
const LOGGED_EVERY: Duration = Duration::from_secs(10);

/// A model's runs, as seen by the workers; passes each run on.
#[derive(Debug)]
pub struct Pulse {
    model: String,
    metrics: Arc<Metrics>,
    runs: Mutex<Runs>,
}

#[derive(Debug)]
struct Runs {
    /// When an inference succeeded last, or this began.
    succeeded: Instant,
    /// When the newest of the runs that are under way began.
    began: Option<Instant>,
    under_way: usize,
    /// Whether the last run failed.
    failing: bool,
    logged: Option<Instant>,
    not_logged: u64,
}

impl Pulse {
    /// A pulse that begins now.
    #[must_use]
    pub fn new(model: String, metrics: Arc<Metrics>) -> Self {
        let (succeeded, began, logged) = (Instant::now(), None, None);
        let runs = Runs { succeeded, began, under_way: 0, failing: false, logged, not_logged: 0 };
        Self { model, metrics, runs: Mutex::new(runs) }
    }

    /// How long ago an inference succeeded, or this began.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.runs().succeeded.elapsed()
    }

    /// Whether an inference succeeded within a time; or whether one is under way that began within it, and the last one did
    /// not fail: a run may take long, and nobody can say of it yet that it failed.
    #[must_use]
    pub fn is_alive(&self, within: Duration) -> bool {
        let runs = self.runs();
        let lately = |moment: Instant| moment.elapsed() <= within;
        lately(runs.succeeded) || (runs.under_way > 0 && !runs.failing && runs.began.is_some_and(lately))
    }

    /// Takes note that an inference succeeded.
    pub fn beat(&self) {
        let mut runs = self.runs();
        (runs.succeeded, runs.failing) = (Instant::now(), false);
    }

    fn began(&self) {
        let mut runs = self.runs();
        runs.began = Some(Instant::now());
        runs.under_way += 1;
    }

    fn ended(&self, error: Option<&str>) {
        self.runs().under_way -= 1;
        match error {
            None => self.beat(),
            Some(cause) => self.failed(cause),
        }
    }

    /// Counts a failed run, and logs why, unless that was done just now.
    fn failed(&self, cause: &str) {
        self.metrics.run_failed(&self.model);
        let mut runs = self.runs();
        runs.failing = true;
        if runs.logged.is_some_and(|logged| logged.elapsed() < LOGGED_EVERY) {
            runs.not_logged += 1;
            return;
        }
        let not_logged = std::mem::take(&mut runs.not_logged);
        runs.logged = Some(Instant::now());
        tracing::warn!(model = self.model, cause, not_logged, "a run failed");
    }

    fn runs(&self) -> MutexGuard<'_, Runs> {
        // Plain numbers: nothing that holds the lock leaves them half changed.
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl encoding::Observer for Pulse {
    fn begins(&self) {
        self.began();
    }

    fn ran(&self, run: &encoding::Run) {
        self.ended(run.error.as_deref());
        self.metrics.ran(&self.model, run);
    }
}

impl generation::Observer for Pulse {
    fn begins(&self) {
        self.began();
    }

    fn ran(&self, run: &generation::Ran) {
        self.ended(run.error.as_deref());
        self.metrics.generated(&self.model, run);
    }

    fn drafted(&self, drafted: usize, accepted: usize) {
        self.metrics.drafted(&self.model, drafted, accepted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn a_run_that_is_under_way_keeps_a_model_alive_unless_the_last_one_failed() {
        let pulse = Pulse::new("a".to_owned(), Arc::new(Metrics::new("test")));
        assert!(pulse.is_alive(LONG), "it has just begun");
        assert!(!pulse.is_alive(Duration::ZERO));
        let Some(long_ago) = Instant::now().checked_sub(2 * LONG) else { return }; // the machine is that young
        pulse.runs().succeeded = long_ago;
        assert!(!pulse.is_alive(LONG));
        pulse.began();
        assert!(pulse.is_alive(LONG));
        pulse.runs().began = Some(long_ago);
        assert!(!pulse.is_alive(LONG), "it takes longer than any may");
        pulse.ended(Some("as a fault would"));
        pulse.began();
        assert!(!pulse.is_alive(LONG), "who fails each time is not alive because he tries again");
        pulse.ended(None);
        assert!(pulse.is_alive(LONG));
    }

    #[test]
    fn failed_runs_are_all_counted_and_some_logged() {
        let metrics = Arc::new(Metrics::new("test"));
        let pulse = Pulse::new("a".to_owned(), metrics.clone());
        (0..5).for_each(|_| pulse.failed("as a fault would"));
        let text = metrics.text();
        assert!(text.contains("hotpath_run_failures_total{model=\"a\"} 5"), "{text}");
        assert_eq!(pulse.runs().not_logged, 4);
    }
}
