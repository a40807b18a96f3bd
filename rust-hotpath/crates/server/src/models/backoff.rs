//! When what failed is tried again.

use std::time::{Duration, Instant};

/// The longest wait.
const LONGEST: Duration = Duration::from_mins(1);

/// Waits that double from one failure to the next.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    wait: Option<Duration>,
    until: Option<Instant>,
}

impl Backoff {
    /// Nothing failed yet.
    pub(super) fn new(first: Duration) -> Self {
        Self { first, wait: None, until: None }
    }

    /// Takes note of a failure, and gives the wait until the next attempt.
    pub(super) fn failed(&mut self, now: Instant) -> Duration {
        let wait = self.wait.map_or(self.first, |wait| (wait * 2).min(LONGEST));
        (self.wait, self.until) = (Some(wait), Some(now + wait));
        wait
    }

    /// Whether it may be tried.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// Forgets earlier failures once it has gone well for as long as the longest wait.
    pub(super) fn went_well_since(&mut self, since: Instant, now: Instant) {
        if now.saturating_duration_since(since) >= LONGEST {
            *self = Self::new(self.first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_are_forgotten_after_one() {
        let (start, first) = (Instant::now(), Duration::from_secs(1));
        let not_yet = start + LONGEST.saturating_sub(first);
        let mut backoff = Backoff::new(first);
        assert!(backoff.is_due(start));
        let waits: Vec<u64> = (0..8).map(|_| backoff.failed(start).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(!backoff.is_due(not_yet) && backoff.is_due(start + LONGEST));
        backoff.went_well_since(start, not_yet);
        assert_eq!(backoff.failed(start), LONGEST);
        backoff.went_well_since(start, start + LONGEST);
        assert!(backoff.is_due(start));
        assert_eq!(backoff.failed(start), first);
    }
}
