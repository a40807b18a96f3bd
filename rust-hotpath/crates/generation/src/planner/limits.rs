//! The bounds that a planner keeps, and what it says to what is beyond them.

use std::time::Duration;

use super::Class;

/// The bounds that a planner keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most continuations of one class that are admitted, and so decode in one step.
    pub batch: usize,
    /// Tokens that all rows may hold together.
    pub cache_tokens: usize,
    /// Memory for tokens comes in pieces of this many.
    pub granule: usize,
    /// Most tokens of one row: prompt and continuation.
    pub context_tokens: usize,
    /// Tokens of a prompt that are run at once; at least 3.
    pub chunk_tokens: usize,
    /// A prompt's beginning is kept and reused in pieces of this many tokens; at least 2.
    pub reuse_tokens: usize,
    /// Most tokens of one class that wait, counted as requests reserve them, of which each key may have its share. A key
    /// that has nothing waiting is always let in.
    pub max_queued_tokens: usize,
    /// Longest wait of a request until its prompt is read.
    pub max_wait: Duration,
    /// Longest time that a reader may keep its continuations waiting.
    pub max_parked: Duration,
    /// Whether a prompt's beginning is reused for other keys than the one that it was computed for.
    pub share_prefixes: bool,
}

impl Limits {
    /// Rows that a cache needs: an area for each class, beside them a row for each continuation that may wait, and the last
    /// one for signs of life.
    #[must_use]
    pub fn rows(&self) -> usize {
        4 * self.batch + 1
    }

    /// Tokens that a class may reserve. Batch work leaves half of the cache alone, so that interactive work finds room.
    #[must_use]
    pub fn share(&self, class: Class) -> usize {
        match class {
            Class::Interactive => self.cache_tokens,
            Class::Batch => self.cache_tokens / 2,
        }
    }

    /// Most tokens, prompt included, of each of so many continuations of one prompt.
    #[must_use]
    pub fn longest(&self, class: Class, choices: usize) -> usize {
        let each = self.share(class) / choices.max(1) / self.granule * self.granule;
        self.context_tokens.min(each)
    }
}

/// Why a request is not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no prompt, or nothing to say after it.
    #[error("a request has at least one token of prompt, one of continuation and one choice")]
    Empty,
    /// It could become longer than a row.
    #[error("prompt and continuation have {tokens} tokens; at most {limit} are possible")]
    TooLong {
        /// Tokens of prompt and continuation.
        tokens: usize,
        /// The most that are possible.
        limit: usize,
    },
    /// More choices than may run together.
    #[error("{choices} choices; at most {limit} are possible")]
    TooManyChoices {
        /// Choices.
        choices: usize,
        /// The most that are possible.
        limit: usize,
    },
    /// The queue is full.
    #[error("the queue is full")]
    Full {
        /// When enough of it will have run, going by the measured rate.
        retry_after: Duration,
    },
}
