//! How long things take: a few numbers, each measured.

use serde::Deserialize;

use crate::Time;

/// What was measured on a processor.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    /// Which processor.
    pub processor: String,
    /// How the numbers came about.
    pub source: String,
    /// A run of the decoder.
    pub decoder: DecoderCosts,
    /// A run of the encoder.
    pub encoder: EncoderCosts,
    /// What is round the runs.
    pub way: WayCosts,
}

/// A run of the decoder takes the sum of these, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderCosts {
    /// Each run.
    pub run_us: f64,
    /// Each continuation that has a token.
    pub row_us: f64,
    /// Each token that is in the cache before a continuation's.
    pub cached_token_us: f64,
    /// Each token of a prompt.
    pub prompt_token_us: f64,
    /// Each token that is in the cache before a token of a prompt.
    pub prompt_cached_token_us: f64,
    /// Each token that is copied from one slot to another.
    pub copied_token_us: f64,
}

/// A run of the encoder takes the sum of these, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderCosts {
    /// Each run.
    pub run_us: f64,
    /// Each token.
    pub token_us: f64,
}

/// The way through gateway and gRPC, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WayCosts {
    /// From the client to the hot path's queue, the tokenizer included.
    pub there_us: f64,
    /// From the end of a run to the client.
    pub back_us: f64,
}

impl Costs {
    /// Those that come with the repository.
    ///
    /// # Panics
    /// Never: a test reads them.
    #[must_use]
    pub fn default_costs() -> Self {
        serde_json::from_str(include_str!("../costs.json")).expect("they are a part of this crate")
    }
}

/// What a run of the decoder has, of which its time comes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct DecoderWork {
    pub rows: usize,
    /// Tokens before those of all rows, summed up.
    pub cached: usize,
    pub prompt: usize,
    /// Tokens before those of all prompts, summed up.
    pub prompt_cached: usize,
    pub copied: usize,
}

impl DecoderCosts {
    pub(crate) fn time(&self, work: &DecoderWork) -> Time {
        microseconds(
            self.run_us
                + self.row_us * number(work.rows)
                + self.cached_token_us * number(work.cached)
                + self.prompt_token_us * number(work.prompt)
                + self.prompt_cached_token_us * number(work.prompt_cached)
                + self.copied_token_us * number(work.copied),
        )
    }
}

impl EncoderCosts {
    pub(crate) fn time(&self, tokens: usize) -> Time {
        microseconds(self.run_us + self.token_us * number(tokens))
    }
}

impl WayCosts {
    pub(crate) fn there(&self) -> Time {
        microseconds(self.there_us)
    }

    pub(crate) fn back(&self) -> Time {
        microseconds(self.back_us)
    }
}

fn microseconds(count: f64) -> Time {
    Time::from_secs_f64(count.max(0.0) / 1e6)
}

#[allow(clippy::cast_precision_loss)] // counts are far below 2^52
pub(crate) fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_takes_the_sum_of_its_parts() {
        let costs = Costs::default_costs();
        let DecoderCosts { run_us, row_us, .. } = costs.decoder;
        let took = costs.decoder.time(&DecoderWork { rows: 8, ..DecoderWork::default() });
        assert_eq!(took, microseconds(run_us + 8.0 * row_us));
        assert!(costs.decoder.time(&DecoderWork { rows: 8, cached: 800, ..DecoderWork::default() }) > took);
        assert!(!costs.processor.is_empty() && !costs.source.is_empty());
    }
}
