//! What came of a scenario, in figures.

use serde::Serialize;

use crate::{Time, costs::number, scenario::Policy};

/// What came of a scenario. Requests that came before the warm-up's end are not counted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The scenario's.
    pub name: String,
    /// The scenario's.
    pub seed: u64,
    /// The scenario's.
    pub replicas: usize,
    /// The scenario's.
    pub policy: Policy,
    /// What became of the requests.
    pub outcomes: Outcomes,
    /// Time to the first token, of those that were done, in milliseconds.
    pub first_token_ms: Distribution,
    /// Time to the end, in milliseconds.
    pub latency_ms: Distribution,
    /// From one token to the next, the mean of each reply, in milliseconds.
    pub token_ms: Distribution,
    /// Requests that were done in a second, while requests came.
    pub requests_per_s: f64,
    /// Tokens of replies that were done in a second, while requests came.
    pub output_tokens_per_s: f64,
    /// How much of the prompts was not computed again.
    pub reused_share: f64,
    /// How much of their time the cores worked while requests came: all, the busiest replica's, the idlest one's.
    pub utilisation: f64,
    /// The busiest replica's.
    pub utilisation_most: f64,
    /// The idlest one's.
    pub utilisation_least: f64,
    /// From the end of arrivals until the last request ended, in seconds.
    pub drained_s: f64,
    /// When the last update was through, in seconds; 0 without one.
    pub updated_s: f64,
    /// Events that were simulated.
    pub events: u64,
}

/// What became of the requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Outcomes {
    /// They were answered in full.
    pub done: usize,
    /// There was no room in the queue.
    pub refused: usize,
    /// They waited for too long.
    pub waited: usize,
    /// Their time was over.
    pub late: usize,
    /// No replica took them.
    pub unavailable: usize,
    /// The replica died under them.
    pub lost: usize,
    /// The replica failed at them.
    pub failed: usize,
}

impl Outcomes {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> usize {
        let Self { done, refused, waited, late, unavailable, lost, failed } = self;
        done + refused + waited + late + unavailable + lost + failed
    }

    pub(crate) fn count(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Done => &mut self.done,
            Outcome::Refused => &mut self.refused,
            Outcome::Waited => &mut self.waited,
            Outcome::Late => &mut self.late,
            Outcome::Unavailable => &mut self.unavailable,
            Outcome::Lost => &mut self.lost,
            Outcome::Failed => &mut self.failed,
        } += 1;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Refused,
    Waited,
    Late,
    Unavailable,
    Lost,
    Failed,
}

/// Some times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Distribution {
    /// How many.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Half of them are shorter.
    pub p50: f64,
    /// Nine of ten are shorter.
    pub p90: f64,
    /// 99 of 100 are shorter.
    pub p99: f64,
    /// The longest.
    pub most: f64,
}

impl Distribution {
    /// In milliseconds.
    pub(crate) fn of(mut times: Vec<Time>) -> Self {
        times.sort_unstable();
        let milliseconds = |time: Time| time.as_secs_f64() * 1e3;
        let Some(most) = times.last().copied() else { return Self::default() };
        let quantile = |of_100: usize| milliseconds(times[(times.len() * of_100).div_ceil(100).max(1) - 1]);
        Self {
            count: times.len(),
            mean: times.iter().map(|time| milliseconds(*time)).sum::<f64>() / number(times.len()),
            p50: quantile(50),
            p90: quantile(90),
            p99: quantile(99),
            most: milliseconds(most),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_times_themselves() {
        let times = (1..=200).rev().map(Time::from_millis).collect();
        let found = Distribution::of(times);
        let Distribution { count, mean, p50, p90, p99, most } = found;
        assert_eq!((count, mean, p50, p90, p99, most), (200, 100.5, 100.0, 180.0, 198.0, 200.0));
        assert_eq!(Distribution::of(vec![Time::from_millis(3)]).p99, 3.0);
        assert_eq!(Distribution::of(Vec::new()), Distribution::default());
    }
}
