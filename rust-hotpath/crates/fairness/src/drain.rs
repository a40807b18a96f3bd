//! How fast the queue drains, as measured, for the delay that a refused caller is told.

use std::time::Duration;

/// What one more run leaves of the weight of those before it: about the last thirty count.
const DECAY: f64 = 0.97;

/// Told before anything was measured.
const UNMEASURED: Duration = Duration::from_secs(1);

/// Nobody is told to come back sooner: a retry costs more than so short a wait.
const SHORTEST: Duration = Duration::from_millis(100);

/// Nobody is told to come back later: SDKs do not believe more than a minute or two.
const LONGEST: Duration = Duration::from_mins(1);

/// Tokens and seconds of the latest runs, both fading at the same pace, so that their ratio is one worker's rate.
#[derive(Debug, Default)]
pub struct DrainRate {
    tokens: f64,
    seconds: f64,
}

impl DrainRate {
    /// Takes note that a run of so many tokens took so long.
    #[allow(clippy::cast_precision_loss)] // token counts are far below 2^52
    pub fn note(&mut self, tokens: usize, took: Duration) {
        self.tokens = self.tokens * DECAY + tokens as f64;
        self.seconds = self.seconds * DECAY + took.as_secs_f64();
    }

    /// Tokens that some workers do in a second; 0 before anything was measured.
    #[allow(clippy::cast_precision_loss)]
    #[must_use]
    pub fn tokens_per_second(&self, workers: usize) -> f64 {
        if self.seconds > 0.0 { self.tokens / self.seconds * workers.max(1) as f64 } else { 0.0 }
    }

    /// Tokens that one worker does in a time; 0 before anything was measured.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // it saturates, and is not negative
    #[must_use]
    pub fn tokens_in(&self, time: Duration) -> usize {
        (self.tokens_per_second(1) * time.as_secs_f64()) as usize
    }

    /// How long some workers need for so many tokens, as a caller is told it.
    #[must_use]
    pub fn time_for(&self, tokens: usize, workers: usize) -> Duration {
        if self.tokens <= 0.0 {
            return UNMEASURED;
        }
        self.measured(tokens, workers).clamp(SHORTEST, LONGEST)
    }

    /// The same as it was measured, however short; zero before that, and at most a minute.
    #[allow(clippy::cast_precision_loss)]
    #[must_use]
    pub fn measured(&self, tokens: usize, workers: usize) -> Duration {
        if self.tokens <= 0.0 {
            return Duration::ZERO;
        }
        let seconds = tokens as f64 * self.seconds / (self.tokens * workers.max(1) as f64);
        Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_is_what_the_measured_rate_says() {
        let mut drain = DrainRate::default();
        assert_eq!((drain.time_for(1000, 2), drain.tokens_per_second(2)), (UNMEASURED, 0.0));
        assert_eq!((drain.measured(1000, 2), drain.tokens_in(Duration::from_secs(1))), (Duration::ZERO, 0));
        for _ in 0..200 {
            drain.note(100, Duration::from_millis(10)); // 10 000 tokens a second and worker
        }
        let close = |delay: Duration, seconds: f64| (delay.as_secs_f64() - seconds).abs() < 0.001;
        assert!(close(drain.time_for(40_000, 2), 2.0));
        assert!(close(drain.time_for(40_000, 1), 4.0));
        assert!(close(drain.measured(200, 2), 0.01), "however short");
        assert!((drain.tokens_per_second(2) - 20_000.0).abs() < 1.0);
        assert!((49..=51).contains(&drain.tokens_in(Duration::from_millis(5))), "of one of them");
        for _ in 0..200 {
            drain.note(100, Duration::from_millis(20)); // half as fast now
        }
        assert!((3.9..4.1).contains(&drain.time_for(40_000, 2).as_secs_f64()));
    }

    #[test]
    fn the_delay_is_bounded() {
        let mut drain = DrainRate::default();
        drain.note(1, Duration::from_secs(1));
        assert_eq!((drain.time_for(usize::MAX, 1), drain.measured(usize::MAX, 1)), (LONGEST, LONGEST));
        assert_eq!(drain.time_for(0, 1), SHORTEST);
    }
}
