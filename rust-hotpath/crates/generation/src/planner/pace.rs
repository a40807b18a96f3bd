//! How many tokens of prompts a run takes beside continuations: so many that these wait a few times as long as without, as
//! measured. Runs of steps alone and of prompts differ by processor, by model, and by how long the texts are.

use std::time::Duration;

/// A run with parts of prompts takes about so many times as long as one without.
const LONGER: f64 = 3.0;

/// With fewer tokens a prompt would hardly come on.
const LEAST: usize = 8;

/// After so many runs with both, steps run alone once: as long as prompts wait nothing else says how long these take.
const MOST_MIXED: usize = 7;

/// What the latest run counts for.
const WEIGHT: f64 = 0.2;

/// Seconds of a class' latest runs.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Of a run of steps alone.
    steps: Option<f64>,
    /// That each token of a prompt adds.
    token: Option<f64>,
    /// Runs with both since steps ran alone.
    mixed: usize,
}

impl Pace {
    /// Takes note of a run without drafts.
    #[allow(clippy::cast_precision_loss)] // token counts are far below 2^52
    pub(super) fn note(&mut self, prompt_tokens: usize, steps: usize, took: Duration) {
        let took = took.as_secs_f64();
        if prompt_tokens == 0 {
            self.mixed = 0;
            blend(&mut self.steps, took);
        } else {
            self.mixed += usize::from(steps > 0);
            let of_steps = if steps == 0 { Some(0.0) } else { self.steps };
            if let Some(of_steps) = of_steps {
                blend(&mut self.token, (took - of_steps).max(0.0) / prompt_tokens as f64);
            }
        }
    }

    /// Whether steps are to run alone, so that it is known how long they take.
    pub(super) fn is_due(&self) -> bool {
        self.mixed >= MOST_MIXED
    }

    /// Tokens of prompts beside steps, of at most so many.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // it is clamped
    pub(super) fn beside_steps(&self, most: usize) -> usize {
        let fits = match (self.steps, self.token) {
            (Some(steps), Some(token)) if token > 0.0 => ((LONGER - 1.0) * steps / token) as usize,
            _ => LEAST, // until both are measured
        };
        fits.clamp(LEAST.min(most), most)
    }
}

fn blend(average: &mut Option<f64>, latest: f64) {
    *average = Some(average.map_or(latest, |average| average + WEIGHT * (latest - average)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_with_prompts_takes_three_times_as_long_as_one_without() {
        let mut pace = Pace::default();
        assert_eq!(pace.beside_steps(64), LEAST, "nothing is known");
        let (step, token) = (Duration::from_millis(4), Duration::from_micros(600));
        for _ in 0..50 {
            pace.note(0, 1, step);
            let tokens = pace.beside_steps(64);
            pace.note(tokens, 1, step + token * u32::try_from(tokens).unwrap());
        }
        assert_eq!(pace.beside_steps(64), 13);
        assert_eq!(pace.beside_steps(10), 10, "never more than the setting says");
        (0..100).for_each(|_| pace.note(0, 32, 10 * step));
        assert_eq!(pace.beside_steps(64), 64, "more streams take longer themselves");
        (0..100).for_each(|_| pace.note(8, 1, Duration::from_secs(1)));
        assert_eq!(pace.beside_steps(64), LEAST, "a prompt comes on in any case");
        assert_eq!(pace.beside_steps(4), 4);
    }

    #[test]
    fn what_steps_take_is_measured_under_prompts_that_never_end() {
        let mut pace = Pace::default();
        let (step, token) = (Duration::from_millis(4), Duration::from_micros(600));
        for _ in 0..MOST_MIXED {
            assert!(!pace.is_due());
            pace.note(8, 1, step + 8 * token);
            assert_eq!(pace.beside_steps(64), LEAST, "which part of it is the prompt's is not known");
        }
        assert!(pace.is_due());
        pace.note(0, 1, step);
        assert!(!pace.is_due());
        pace.note(8, 1, step + 8 * token);
        assert_eq!(pace.beside_steps(64), 13);
        (0..100).for_each(|_| pace.note(64, 0, 64 * token));
        assert!(!pace.is_due(), "prompts alone keep no steps waiting");
    }
}
