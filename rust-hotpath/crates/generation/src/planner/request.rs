//! One request and its continuations, wherever they are.

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use hotpath_fairness::{Key, Queued};

use super::{
    Chunk, Class, Ended, Prompt, Step, Time,
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
    /// Most tokens of each of its continuations, prompt included.
    pub most: usize,
    /// Tokens that each of them reserves.
    pub reserves: usize,
    /// So many of those tokens count against the queue's bound while it waits.
    pub counted: usize,
    /// Its number in its queue.
    pub numbers: Range<u64>,
    /// How many were admitted before it that came later in turn, while it lacked room.
    pub passed: usize,
    /// Of what it takes its slots and tokens.
    pub part: Part,
    /// When it was admitted, or its prompt went first for the last time, in runs with chunks.
    pub went_first: u64,
    pub deadline: Option<Time>,
    /// When it will have waited for too long; `None` once it is admitted.
    pub patience: Option<Time>,
    /// When its reader will have kept it waiting for too long.
    pub parked_until: Option<Time>,
    /// Choices of which it is not known yet what may come next.
    pub waiting: BTreeSet<usize>,
    pub phase: Phase,
}

#[derive(Debug)]
pub(super) enum Phase {
    Waiting,
    /// Its prompt is read, up to `done`, into a slot that takes memory for `held` tokens at least.
    Prefilling {
        slot: usize,
        done: usize,
        held: usize,
    },
    /// By choice.
    Running(Vec<SequenceState>),
}

/// A continuation.
#[derive(Debug, Clone)]
pub(super) struct SequenceState {
    pub place: Place,
    /// What it said. The last token is what it runs next; those before it are in its slot, behind the prompt.
    pub said: Vec<u32>,
    pub finished: bool,
    /// Tokens that its slot takes memory for at least.
    pub held: usize,
}

/// Where a continuation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It has no slot of its own yet: its prompt is in that of the first one.
    Prompt,
    Slot(usize),
    Left,
}

impl SequenceState {
    pub(super) fn has_left(&self) -> bool {
        self.place == Place::Left
    }
}

impl RequestState {
    pub(super) fn new(request: Request, reserves: usize, counted: usize, patience: Time) -> Self {
        Self {
            class: request.class,
            most: request.prompt.len() + request.max_tokens,
            prompt: Prompt { tokens: request.prompt, key: request.key },
            choices: request.choices,
            reserves,
            counted,
            numbers: 0..0,
            passed: 0,
            part: Part::Shared,
            went_first: 0,
            deadline: request.deadline,
            patience: Some(patience),
            parked_until: None,
            waiting: BTreeSet::new(),
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
        let running = sequences.iter().enumerate().filter(|(_, sequence)| !sequence.finished);
        running.fold(
            (0, 0),
            |(decoding, parked), (choice, _)| {
                if self.can_go_on(choice) { (decoding + 1, parked) } else { (decoding, parked + 1) }
            },
        )
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

    /// The next chunk of the prompt, of at most so many tokens. Its memory counts from now on: a run that fails has taken it too.
    pub(super) fn chunk(&mut self, request: RequestId, most: usize) -> Option<Chunk> {
        let Phase::Prefilling { slot, done, held } = &mut self.phase else { return None };
        let (slot, done, left) = (*slot, *done, self.prompt.tokens.len() - *done);
        *held = (done + left.min(most)).max(*held);
        Some(Chunk { request, slot, start: done, tokens: left.min(most), last: left <= most })
    }

    /// Takes note that a chunk was read.
    pub(super) fn read(&mut self, chunk: &Chunk) {
        let Phase::Prefilling { slot, held, .. } = self.phase else { return };
        let done = chunk.start + chunk.tokens;
        self.phase = if chunk.last {
            let forked = SequenceState { place: Place::Prompt, said: Vec::new(), finished: false, held: 0 };
            let mut sequences = vec![forked; self.choices];
            (sequences[0].place, sequences[0].held) = (Place::Slot(slot), held);
            Phase::Running(sequences)
        } else {
            Phase::Prefilling { slot, done, held }
        };
    }

    /// The next step of a continuation, without a draft, if it can go on.
    pub(super) fn step(&self, sequence: SequenceId) -> Option<Step> {
        let Phase::Running(sequences) = &self.phase else { return None };
        let state = &sequences[sequence.choice];
        let goes_on = !state.finished && !state.said.is_empty() && self.can_go_on(sequence.choice);
        match state.place {
            Place::Slot(slot) if goes_on => {
                Some(Step { sequence, slot, position: self.length(sequence.choice), draft: 0 })
            }
            _ => None,
        }
    }

    /// Takes note of what a continuation said.
    pub(super) fn said(&mut self, choice: usize, tokens: &[u32]) {
        if let Phase::Running(sequences) = &mut self.phase {
            sequences[choice].said.extend_from_slice(tokens);
        }
    }

    /// Most tokens, of so many, that a step's draft may have. The token after a draft is the last one at most, and is never run.
    pub(super) fn draft(&self, step: &Step, tokens: usize) -> usize {
        tokens.min(self.most.saturating_sub(step.position + 2))
    }

    /// Takes note of what memory a step may take: whatever comes of it, it is not given back before the slot is.
    pub(super) fn takes(&mut self, step: &Step) {
        if let Phase::Running(sequences) = &mut self.phase {
            let held = &mut sequences[step.sequence.choice].held;
            *held = (step.position + 1 + step.draft).max(*held);
        }
    }

    /// Tokens in a continuation's slot.
    pub(super) fn length(&self, choice: usize) -> usize {
        let said = match &self.phase {
            Phase::Running(sequences) => sequences[choice].said.len(),
            _ => 0,
        };
        self.prompt.tokens.len() + said.saturating_sub(1)
    }

    /// What those are.
    pub(super) fn text(&self, choice: usize) -> Prompt {
        let said = match &self.phase {
            Phase::Running(sequences) => sequences[choice].said.as_slice(),
            _ => &[],
        };
        let said = &said[..said.len().saturating_sub(1)];
        Prompt { tokens: self.prompt.tokens.iter().chain(said).copied().collect(), key: self.prompt.key.clone() }
    }

    /// Tokens that a continuation's slot takes memory for.
    pub(super) fn held(&self, choice: usize) -> usize {
        let before = match &self.phase {
            Phase::Running(sequences) => sequences[choice].held,
            _ => 0,
        };
        self.length(choice).max(before)
    }
}
