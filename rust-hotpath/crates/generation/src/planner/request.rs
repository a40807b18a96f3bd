//! One request and its continuations, wherever they are.

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use hotpath_fairness::{Key, Queued};
use hotpath_runtime::chunk_at;

use super::{
    Chunk, Class, Ended, Prompt, Time,
    capacity::{Need, Part},
};

/// Names a request to its planner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(super) u64);

#[cfg(test)]
impl RequestId {
    /// For tests to which it does not matter.
    pub(crate) const ANY: Self = Self(0);
}

/// Names one of a request's continuations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId {
    /// The request.
    pub request: RequestId,
    /// Which of its choices.
    pub choice: usize,
}

/// What the planner must know of a request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its class.
    pub class: Class,
    /// Whose turn it uses.
    pub key: Key,
    /// When nobody waits for it any more.
    pub deadline: Option<Time>,
    /// The prompt's tokens; at least one.
    pub prompt: Arc<[u32]>,
    /// Most tokens of each continuation; at least one.
    pub max_tokens: usize,
    /// How many continuations; at least one.
    pub choices: usize,
}

/// A request in its queue.
#[derive(Debug)]
pub(super) struct Ticket {
    pub id: RequestId,
    pub tokens: usize,
}

impl Queued for Ticket {
    fn cost(&self) -> usize {
        self.tokens
    }
}

/// A request that is not done.
#[derive(Debug)]
pub(super) struct RequestState {
    pub class: Class,
    pub prompt: Prompt,
    pub choices: usize,
    /// Tokens that each of its continuations reserves, prompt included.
    pub reserves: usize,
    /// So many of those tokens count against the queue's bound while it waits.
    pub counted: usize,
    /// Its number in its queue.
    pub numbers: Range<u64>,
    /// How many were admitted before it that came later in turn, while it lacked room.
    pub passed: usize,
    /// Of what it takes its rows and tokens.
    pub part: Part,
    /// When it was admitted, or its latest chunk was run, in chunks.
    pub latest_chunk: u64,
    pub deadline: Option<Time>,
    /// When it will have waited for too long; `None` once it is admitted.
    pub patience: Option<Time>,
    /// When its reader will have kept it waiting for too long.
    pub parked_until: Option<Time>,
    /// Choices of which it is not known yet what may come next.
    pub waiting: BTreeSet<usize>,
    /// Tokens that its prompt's row took memory for before, where that row was a cached prefix's.
    pub held: usize,
    pub phase: Phase,
}

#[derive(Debug)]
pub(super) enum Phase {
    Waiting,
    /// Its prompt is read, up to `done`.
    Prefilling {
        row: usize,
        done: usize,
    },
    /// By choice.
    Running(Vec<SequenceState>),
}

/// Where a continuation is. `length` is the number of tokens that its row holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SequenceState {
    /// In a staging row: it has not joined yet, or waits.
    Staged {
        row: usize,
        length: usize,
    },
    /// In its class' batch.
    Decoding {
        length: usize,
    },
    /// Finished, and still in the batch.
    Leaving {
        length: usize,
    },
    /// Finished, and still in a staging row.
    LeavingStaged {
        row: usize,
        length: usize,
    },
    Gone,
}

impl RequestState {
    pub(super) fn new(request: Request, reserves: usize, counted: usize, patience: Time) -> Self {
        Self {
            class: request.class,
            prompt: Prompt { tokens: request.prompt, key: request.key },
            choices: request.choices,
            reserves,
            counted,
            numbers: 0..0,
            passed: 0,
            part: Part::Shared,
            latest_chunk: 0,
            deadline: request.deadline,
            patience: Some(patience),
            parked_until: None,
            waiting: BTreeSet::new(),
            held: 0,
            phase: Phase::Waiting,
        }
    }

    /// Tokens that it reserves in all.
    pub(super) fn tokens(&self) -> usize {
        self.reserves * self.choices
    }

    /// What it takes for as long as it is admitted.
    pub(super) fn need(&self) -> Need {
        Need { rows: self.choices, tokens: self.tokens() }
    }

    /// Whether a continuation may say something in the next step.
    pub(super) fn can_go_on(&self, choice: usize) -> bool {
        self.parked_until.is_none() && !self.waiting.contains(&choice)
    }

    /// How many of its continuations decode, and how many wait for what they need to go on.
    pub(super) fn decoding_and_parked(&self) -> (usize, usize) {
        let Phase::Running(sequences) = &self.phase else { return (0, 0) };
        sequences.iter().enumerate().fold((0, 0), |(decoding, parked), (choice, state)| match state {
            SequenceState::Decoding { .. } if self.can_go_on(choice) => (decoding + 1, parked),
            SequenceState::Decoding { .. } | SequenceState::Staged { .. } if !self.can_go_on(choice) => {
                (decoding, parked + 1)
            }
            _ => (decoding, parked),
        })
    }

    /// Every moment at which it ends by itself, and why.
    pub(super) fn expiries(&self) -> [(Option<Time>, Ended); 3] {
        [(self.deadline, Ended::Deadline), (self.patience, Ended::MaxWait), (self.parked_until, Ended::SlowReader)]
    }

    /// Tokens of the prompt that are still to be read; `None` when it is not being read.
    pub(super) fn left(&self) -> Option<usize> {
        match self.phase {
            Phase::Prefilling { done, .. } => Some(self.prompt.tokens.len() - done),
            _ => None,
        }
    }

    /// The next chunk of the prompt.
    pub(super) fn chunk(&self, request: RequestId, chunk_tokens: usize) -> Option<Chunk> {
        let Phase::Prefilling { row, done } = self.phase else { return None };
        let tokens = chunk_at(done, self.prompt.tokens.len(), chunk_tokens);
        Some(Chunk { request, row, start: done, tokens, last: done + tokens == self.prompt.tokens.len() })
    }

    /// Takes note that a chunk was read.
    pub(super) fn read(&mut self, chunk: &Chunk) {
        let length = chunk.start + chunk.tokens;
        self.phase = if chunk.last {
            Phase::Running(vec![SequenceState::Staged { row: chunk.row, length }; self.choices])
        } else {
            Phase::Prefilling { row: chunk.row, done: length }
        };
    }

    /// Takes note that a continuation's row has one more token.
    pub(super) fn said(&mut self, choice: usize) {
        if let Phase::Running(sequences) = &mut self.phase
            && let SequenceState::Decoding { length } = &mut sequences[choice]
        {
            *length += 1;
        }
    }

    /// Tokens in a continuation's row.
    pub(super) fn length(&self, choice: usize) -> usize {
        match &self.phase {
            Phase::Running(sequences) => match sequences[choice] {
                SequenceState::Staged { length, .. }
                | SequenceState::LeavingStaged { length, .. }
                | SequenceState::Decoding { length }
                | SequenceState::Leaving { length } => length,
                SequenceState::Gone => 0,
            },
            _ => 0,
        }
    }
}
