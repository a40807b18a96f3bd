//! What can be simulated: a slip in a scenario is told with its field and its bounds, and runs neither for days nor out of memory.

use std::ops::RangeInclusive;

use crate::{
    costs::{Costs, number},
    lengths::Lengths,
    scenario::{Scenario, Settings, Trouble},
    traffic::{Recorded, Synthetic, Traffic},
};

/// A value that is out of its bounds.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field} is {value}: it has to be from {least} to {most}")]
pub struct OutOfBounds {
    field: String,
    value: f64,
    least: f64,
    most: f64,
}

type Checked = Result<(), OutOfBounds>;

/// Any count that there has to be at least one of, as of tokens.
const COUNT: RangeInclusive<f64> = 1.0..=1e6;
const SHARE: RangeInclusive<f64> = 0.0..=1.0;
const TIME_S: RangeInclusive<f64> = 0.0..=1e6;
const COST_US: RangeInclusive<f64> = 0.0..=1e9;
/// What divides, or is drawn from.
const POSITIVE: RangeInclusive<f64> = 1e-6..=1e6;
/// Events of what must happen: about a minute's work.
const EVENTS: RangeInclusive<f64> = 0.0..=1e7;

fn within(field: &str, value: f64, bounds: RangeInclusive<f64>) -> Checked {
    if bounds.contains(&value) {
        return Ok(());
    }
    let (least, most) = bounds.into_inner();
    Err(OutOfBounds { field: field.to_owned(), value, least, most })
}

impl Scenario {
    /// Whether it can be simulated.
    ///
    /// # Errors
    /// Of the first value that is out of its bounds.
    pub fn check(&self) -> Checked {
        let replicas = number(self.replicas);
        within("replicas", replicas, 1.0..=1e4)?;
        within("gateways", number(self.gateways), 1.0..=1e3)?;
        within("seconds", self.seconds, POSITIVE)?;
        within("seconds of all replicas", replicas * self.seconds, EVENTS)?;
        within("warmup_s", self.warmup_s, TIME_S)?;
        self.settings.check()?;
        within("the number of sources in traffic", number(self.traffic.len()), 1.0..=100.0)?;
        let mut requests = 0.0;
        for traffic in &self.traffic {
            requests += match traffic {
                Traffic::Synthetic(synthetic) => {
                    synthetic.check()?;
                    synthetic.rate_per_s * self.seconds
                }
                Traffic::Recorded(recorded) => {
                    recorded.iter().try_for_each(Recorded::check)?;
                    number(recorded.len())
                }
            };
        }
        within("the number of requests", requests, EVENTS)?;
        self.troubles.iter().try_for_each(|trouble| trouble.check(self))
    }
}

impl Settings {
    fn check(&self) -> Checked {
        for (field, count) in [
            ("cores", self.cores),
            ("generation_threads", self.generation_threads),
            ("workers", self.workers),
            ("max_rows", self.max_rows),
        ] {
            within(&format!("settings.{field}"), number(count), 1.0..=1e3)?;
        }
        for (field, tokens) in
            [("granule", self.granule), ("chunk_tokens", self.chunk_tokens), ("batch_tokens", self.batch_tokens)]
        {
            within(&format!("settings.{field}"), number(tokens), COUNT)?;
        }
        within("settings.context_tokens", number(self.context_tokens), 2.0..=1e6)?;
        within("settings.cache_tokens", number(self.cache_tokens), number(self.granule)..=1e9)?;
        within("settings.max_queued_tokens", number(self.max_queued_tokens), 1.0..=1e12)?;
        within("settings.generation_max_wait_s", self.generation_max_wait_s, TIME_S)?;
        within("settings.max_wait_s", self.max_wait_s, TIME_S)?;
        within("settings.timeout_s", self.timeout_s, TIME_S)?;
        within("settings.bytes_per_token", self.bytes_per_token, 0.0..=1e3)?;
        within("settings.start_s", self.start_s, TIME_S)
    }
}

impl Synthetic {
    fn check(&self) -> Checked {
        within("rate_per_s", self.rate_per_s, POSITIVE)?;
        self.prompt.check("prompt", 1e6)?;
        self.inputs.check("inputs", 2048.0)?;
        self.output.map_or(Ok(()), |output| output.check("output", 1e6))?;
        within("spare_tokens", number(self.spare_tokens), 0.0..=1e6)?;
        within("tenants", number(self.tenants), 0.0..=1e6)?;
        within("batch_share", self.batch_share, SHARE)?;
        if let Some(bursts) = self.bursts {
            within("bursts.times", bursts.times, POSITIVE)?;
            within("bursts.for_s", bursts.for_s, 1e-3..=1e6)?;
            within("bursts.after_s", bursts.after_s, 1e-3..=1e6)?;
        }
        if let Some(returns) = self.returns {
            within("returns.share", returns.share, 0.0..=0.99)?; // of those that never end there are no first turns
            within("returns.think_s", returns.think_s, TIME_S)?;
            returns.question.check("returns.question", 1e6)?;
        }
        Ok(())
    }
}

impl Recorded {
    fn check(&self) -> Checked {
        within("at_s", self.at_s, TIME_S)?;
        within("prompt_tokens", number(self.prompt_tokens), 0.0..=1e6)?;
        within("output_tokens", number(self.output_tokens), 0.0..=1e6)
    }
}

impl Lengths {
    fn check(&self, of: &str, most_of_all: f64) -> Checked {
        match *self {
            Self::Exactly(length) => within(of, number(length), 0.0..=most_of_all),
            Self::Exponential { mean, most } => {
                within(&format!("{of}.exponential.mean"), mean, 0.0..=1e6)?;
                within(&format!("{of}.exponential.most"), number(most), 0.0..=most_of_all)
            }
            Self::Lognormal { median, sigma, most } => {
                within(&format!("{of}.lognormal.median"), median, 0.0..=1e6)?;
                within(&format!("{of}.lognormal.sigma"), sigma, 0.0..=10.0)?;
                within(&format!("{of}.lognormal.most"), number(most), 0.0..=most_of_all)
            }
        }
    }
}

impl Trouble {
    fn check(&self, scenario: &Scenario) -> Checked {
        let replicas = number(scenario.replicas);
        let one_of_them = |replica| within("replica", number(replica), 0.0..=replicas - 1.0);
        match *self {
            Self::Slow { replica, times, from_s, for_s } => {
                one_of_them(replica)?;
                within("slow.times", times, POSITIVE)?;
                within("slow.from_s", from_s, TIME_S)?;
                within("slow.for_s", for_s, TIME_S)
            }
            Self::Fails { replica, share, from_s, for_s } => {
                one_of_them(replica)?;
                within("fails.share", share, SHARE)?;
                within("fails.from_s", from_s, TIME_S)?;
                within("fails.for_s", for_s, TIME_S)
            }
            Self::Dies { replica, at_s } => {
                one_of_them(replica)?;
                within("dies.at_s", at_s, TIME_S)
            }
            Self::DiesAtRandom { every_s } => {
                within("dies_at_random.every_s", every_s, POSITIVE)?;
                within("the number of deaths", replicas * scenario.seconds / every_s, EVENTS)
            }
            Self::RollingUpdate { from_s, at_once } => {
                within("rolling_update.from_s", from_s, TIME_S)?;
                within("rolling_update.at_once", number(at_once), 0.0..=1e6)
            }
        }
    }
}

impl Costs {
    /// Whether runs take a time.
    ///
    /// # Errors
    /// Of the first value that is out of its bounds.
    pub fn check(&self) -> Checked {
        let Self { decoder, encoder, way, .. } = self;
        for (field, cost) in [
            ("decoder.run_us", decoder.run_us),
            ("decoder.row_us", decoder.row_us),
            ("decoder.cached_token_us", decoder.cached_token_us),
            ("decoder.prompt_token_us", decoder.prompt_token_us),
            ("decoder.prompt_cached_token_us", decoder.prompt_cached_token_us),
            ("decoder.copied_token_us", decoder.copied_token_us),
            ("encoder.run_us", encoder.run_us),
            ("encoder.token_us", encoder.token_us),
            ("way.there_us", way.there_us),
            ("way.back_us", way.back_us),
        ] {
            within(field, cost, COST_US)?;
        }
        Ok(())
    }
}
