//! What a caller asks for, and what it is told as it goes on.

use std::time::{Duration, Instant};

use hotpath_fairness::{Class, Key};

use crate::{
    format::Format,
    planner,
    sampler::{Choice, InvalidSampling, Sampling},
};

/// A prompt to continue.
#[derive(Debug, Clone)]
pub struct Work {
    /// Its class.
    pub class: Class,
    /// Whose turn it uses.
    pub key: Key,
    /// When nobody waits for it any more.
    pub deadline: Option<Instant>,
    /// The prompt's token ids; at least one.
    pub prompt: Vec<u32>,
    /// Most tokens of each continuation; at least one.
    pub max_tokens: usize,
    /// How many continuations; at least one. They share the prompt's computation.
    pub choices: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// What ends a continuation before that.
    pub stop: Stop,
    /// What the text must parse as.
    pub format: Option<Format>,
}

/// What ends a continuation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stop {
    /// Ends before the first of these; empty ones are never found. No part of them is ever told.
    pub strings: Vec<String>,
    /// Ends at any of these tokens, beside the model's own.
    pub token_ids: Vec<u32>,
    /// Whether the model's own stop ids are tokens like any other.
    pub ignore_eos: bool,
}

/// Why work is not queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It is larger than is possible, or the queue is full.
    #[error(transparent)]
    Refused(#[from] planner::Refusal),
    /// A field of its sampling is out of range.
    #[error(transparent)]
    Sampling(#[from] InvalidSampling),
    /// A token of the prompt, or a stop id, is not in the vocabulary.
    #[error("token id {id} is not below {vocabulary}")]
    UnknownToken {
        /// The token.
        id: u32,
        /// Ids are below this.
        vocabulary: usize,
    },
}

/// What a caller is told. Every stream ends with [`Event::Done`] or [`Event::Failed`].
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The prompt is being read. Told first, unless nothing is.
    Started(Started),
    /// A continuation goes on.
    Delta(Delta),
    /// All continuations have ended.
    Done(Done),
    /// They are not continued.
    Failed(Failure),
}

/// What a request takes in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them whose computation is reused.
    pub cached_tokens: usize,
}

/// One more token of a continuation.
#[derive(Debug, Clone, PartialEq)]
pub struct Delta {
    /// Which continuation.
    pub choice: usize,
    /// The token. Its text may come later, or never, as that of a stop token.
    pub token: Choice,
    /// Text that is certain now; whole characters.
    pub text: String,
    /// Why the continuation ends with it.
    pub finish: Option<Finish>,
}

/// Why a continuation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// A stop id came, which is among the tokens.
    StopToken(u32),
    /// The stop string of this index came.
    StopString(usize),
    /// It has as many tokens as it may.
    Length,
}

/// What a request took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them whose computation was reused.
    pub cached_tokens: usize,
    /// Tokens of all continuations, stop ids included.
    pub completion_tokens: usize,
    /// From queueing until the prompt's first chunk ran.
    pub queue: Duration,
    /// From then until the first token.
    pub prefill: Duration,
    /// From then until the end.
    pub decode: Duration,
}

/// Why a request that was queued is not continued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Its deadline passed.
    #[error("the deadline passed")]
    DeadlineExceeded,
    /// It was queued for too long.
    #[error("queued for too long")]
    WaitedTooLong {
        /// When the queue will have drained, going by the measured rate.
        retry_after: Duration,
    },
    /// Its reader did not keep up, and its buffer was full for too long.
    #[error("the reader did not keep up")]
    SlowReader,
    /// Its format cannot say what may come next: the library's words.
    #[error("the format cannot be followed: {0}")]
    Format(String),
    /// A run failed, alone too, or its logits were no numbers, or what is made of them panicked.
    #[error("{0}")]
    RunFailed(String),
    /// The loop died: why. For the log, not for callers.
    #[error("the loop died: {0}")]
    Died(String),
}
