//! The bounds that a planner keeps, and what it says to what is beyond them.

use std::time::Duration;

use hotpath_fairness::Full;

use super::Class;

/// The bounds that a planner keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Continuations of one class that are admitted, and so decode in one run; beside them an eighth as many, at least one,
    /// of keys that have no other.
    pub batch: usize,
    /// Tokens that all slots may hold together. An eighth is for keys that have nothing else.
    pub cache_tokens: usize,
    /// Memory for tokens comes in pieces of this many.
    pub granule: usize,
    /// Most tokens of one slot: prompt and continuation.
    pub context_tokens: usize,
    /// Tokens of prompts that a run takes at most; beside steps fewer, so that these wait little longer for it.
    pub chunk_tokens: usize,
    /// Most tokens that are drafted of a continuation in a run, where few continuations decode; 0 for none.
    pub draft_tokens: usize,
    /// A shorter beginning than this is not worth to be cached, or reused.
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

/// What is shared has so many parts, and the reserve is one more or one of them.
const RESERVE: usize = 8;

/// So many keys at least find something in the reserve.
const NEWCOMERS: usize = 4;

impl Limits {
    /// Slots that a cache needs: one for each continuation of any class, as many for cached texts, and the last one for signs
    /// of life.
    #[must_use]
    pub fn slots(&self) -> usize {
        4 * self.rows_per_class() + 1
    }

    /// Most continuations of one class.
    #[must_use]
    pub fn rows_per_class(&self) -> usize {
        self.batch + self.reserve_rows()
    }

    /// Tokens that a class may reserve. Batch work leaves half of the cache alone, so that interactive work finds room.
    #[must_use]
    pub fn of_class(&self, class: Class) -> usize {
        match class {
            Class::Interactive => self.cache_tokens,
            Class::Batch => self.cache_tokens / 2,
        }
    }

    pub(super) fn reserve_rows(&self) -> usize {
        (self.batch / RESERVE).max(1)
    }

    /// Rows that one key may have of the reserve.
    pub(super) fn small_rows(&self) -> usize {
        (self.reserve_rows() / NEWCOMERS).max(1)
    }

    /// Tokens of a class' that are for keys that have nothing else.
    pub(super) fn reserve_tokens(&self, class: Class) -> usize {
        self.of_class(class) / RESERVE
    }

    /// Tokens that one key may have of the reserve.
    #[must_use]
    pub fn small_tokens(&self, class: Class) -> usize {
        (self.reserve_tokens(class) / NEWCOMERS).next_multiple_of(self.granule)
    }

    /// Tokens that a class' keys share.
    pub(super) fn shared_tokens(&self, class: Class) -> usize {
        self.of_class(class) - self.reserve_tokens(class)
    }

    /// Most tokens, prompt included, of each of so many continuations of one prompt.
    #[must_use]
    pub fn longest(&self, class: Class, choices: usize) -> usize {
        let each = self.shared_tokens(class) / choices.max(1) / self.granule * self.granule;
        self.context_tokens.min(each)
    }
}

/// Why a request is not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no prompt, or nothing to say after it.
    #[error("a request has at least one token of prompt, one of continuation and one choice")]
    Empty,
    /// It could become longer than a slot.
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
    Full(Full),
}
