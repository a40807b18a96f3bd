//! What the planner says: what to run, what ended, how much there is to do.

use super::{Class, RequestId, SequenceId, SlotChange, Time};

/// Why a request ended that was not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ended {
    /// Nobody waits for it.
    Cancelled,
    /// Its deadline passed.
    Deadline,
    /// Its prompt was not begun within [`Limits::max_wait`].
    MaxWait,
    /// Its reader kept it waiting for longer than [`Limits::max_parked`].
    SlowReader,
}

/// A run: all of one class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its class.
    pub class: Class,
    /// Parts of prompts, each of another one.
    pub chunks: Vec<Chunk>,
    /// A token of each continuation that can go on; of some of them in a time slice.
    pub steps: Vec<Step>,
}

/// A part of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Whose prompt.
    pub request: RequestId,
    /// Where.
    pub slot: usize,
    /// Tokens of the prompt before it. For a request's first chunk these were reused.
    pub start: usize,
    /// Its tokens.
    pub tokens: usize,
    /// Whether the prompt ends with it.
    pub last: bool,
}

/// What a continuation said last, to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Whose.
    pub sequence: SequenceId,
    /// Where.
    pub slot: usize,
    /// Tokens before it.
    pub position: usize,
    /// Most tokens that may be drafted, and run behind it.
    pub draft: usize,
}

/// What a run had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tokens of prompts.
    pub prompt_tokens: usize,
    /// Steps.
    pub steps: usize,
    /// Tokens that were drafted behind them.
    pub drafted: usize,
    /// Those of them that were said.
    pub accepted: usize,
}

/// What to do now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Requests that ended without being finished.
    pub ended: Vec<(RequestId, Ended)>,
    /// Changes to slots, to be made in this order and before the run.
    pub changes: Vec<SlotChange>,
    /// What to run. The planner is to be told what came of it.
    pub run: Option<Run>,
    /// Without a run: when something will end by itself.
    pub wake: Option<Time>,
}

/// How much there is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that wait.
    pub queued_requests: usize,
    /// Tokens that they would reserve.
    pub queued_tokens: usize,
    /// Prompts that are being read.
    pub prefilling: usize,
    /// Continuations that decode.
    pub decoding: usize,
    /// Continuations that wait for their reader, or for what may come next.
    pub parked: usize,
    /// Tokens that admitted requests have reserved.
    pub reserved_tokens: usize,
    /// Tokens of cached texts.
    pub cached_tokens: usize,
    /// Rows that admitted requests have, of the class that has more.
    pub rows: usize,
}
