//! What is asked of a simulation.

use hotpath_encoding::planner as encoding;
use hotpath_generation::planner as generation;
use serde::Deserialize;

use crate::{Time, traffic::Traffic};

/// A fleet, its traffic and what goes wrong.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// For whoever reads the report.
    pub name: String,
    /// Of all that is random.
    #[serde(default = "one")]
    pub seed: u64,
    /// How many hot paths.
    pub replicas: usize,
    /// How many gateways, each of which knows its own calls, and what replicas tell.
    #[serde(default = "one_of")]
    pub gateways: usize,
    /// By which rule they choose.
    pub policy: Policy,
    /// What comes.
    pub traffic: Vec<Traffic>,
    /// For so long requests come; those that came are seen to their ends.
    pub seconds: f64,
    /// What came before is not counted.
    #[serde(default)]
    pub warmup_s: f64,
    /// What each replica is.
    #[serde(default)]
    pub settings: Settings,
    /// What goes wrong.
    #[serde(default)]
    pub troubles: Vec<Trouble>,
}

/// How a gateway chooses a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The gateway's own: what belongs together goes to one replica unless that is overloaded, all else to the less loaded of two.
    Affinity,
    /// The less loaded of two taken at random, whatever belongs together.
    LeastOfTwo,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
}

/// A hot path's settings; the defaults are the hot path's own, but for drafts, which depend on what texts say.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Processors of each replica.
    pub cores: usize,
    /// How many of them a run of the decoder takes: those that its costs were measured with.
    pub generation_threads: usize,
    /// Sessions of the encoder, each of which takes one.
    pub workers: usize,
    /// Continuations that decode together.
    pub max_rows: usize,
    /// Tokens that the decoder's cache holds.
    pub cache_tokens: usize,
    /// Memory for tokens comes in pieces of so many.
    pub granule: usize,
    /// The longest text of the decoder.
    pub context_tokens: usize,
    /// Tokens of prompts in a run.
    pub chunk_tokens: usize,
    /// Tokens of texts in a run of the encoder.
    pub batch_tokens: usize,
    /// Tokens that may wait.
    pub max_queued_tokens: usize,
    /// Longest wait of a generation, in seconds.
    pub generation_max_wait_s: f64,
    /// Longest wait of a text for the encoder, in seconds.
    pub max_wait_s: f64,
    /// How long the gateway lets a request take, in seconds.
    pub timeout_s: f64,
    /// Tokens that a call counts as for each token of its prompt: the gateway does not know these, and counts bytes.
    pub bytes_per_token: f64,
    /// From the start of a process until it has proved its models, in seconds.
    pub start_s: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cores: 1,
            generation_threads: 1,
            workers: 1,
            max_rows: 32,
            cache_tokens: 46_592, // a gibibyte of SmolLM2's
            granule: 32,
            context_tokens: 8192,
            chunk_tokens: 64,
            batch_tokens: 112,
            max_queued_tokens: 65_536,
            generation_max_wait_s: 60.0,
            max_wait_s: 10.0,
            timeout_s: 300.0,
            bytes_per_token: 4.0,
            start_s: 7.2, // docs/architecture.md
        }
    }
}

impl Settings {
    pub(crate) fn generation(&self) -> generation::Limits {
        generation::Limits {
            batch: self.max_rows,
            cache_tokens: self.cache_tokens,
            granule: self.granule,
            context_tokens: self.context_tokens,
            chunk_tokens: self.chunk_tokens,
            draft_tokens: 0,
            reuse_tokens: 16,
            max_queued_tokens: self.max_queued_tokens,
            max_wait: Time::from_secs_f64(self.generation_max_wait_s),
            max_parked: Time::from_secs(10),
            share_prefixes: false,
        }
    }

    pub(crate) fn encoding(&self) -> encoding::Limits {
        encoding::Limits {
            workers: self.workers,
            batch_tokens: self.batch_tokens,
            max_queued_tokens: self.max_queued_tokens,
            max_wait: Time::from_secs_f64(self.max_wait_s),
        }
    }
}

/// What goes wrong, or is done to a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Trouble {
    /// A replica's runs take so many times as long.
    Slow {
        /// Which.
        replica: usize,
        /// So many times.
        times: f64,
        /// From when, in seconds.
        from_s: f64,
        /// For how long.
        for_s: f64,
    },
    /// A share of the calls of a replica fails at once, though it is connected and its canaries succeed.
    Fails {
        /// Which.
        replica: usize,
        /// Of its calls.
        share: f64,
        /// From when, in seconds.
        from_s: f64,
        /// For how long.
        for_s: f64,
    },
    /// A replica's process dies, with all that it has, and is started again.
    Dies {
        /// Which.
        replica: usize,
        /// When, in seconds.
        at_s: f64,
    },
    /// Any replica dies now and then.
    DiesAtRandom {
        /// Seconds between two deaths of one of them, in the mean.
        every_s: f64,
    },
    /// Each replica is drained, ended and started again, so many at a time.
    RollingUpdate {
        /// When it begins, in seconds.
        from_s: f64,
        /// How many at a time.
        at_once: usize,
    },
}

fn one() -> u64 {
    1
}

fn one_of() -> usize {
    1
}
