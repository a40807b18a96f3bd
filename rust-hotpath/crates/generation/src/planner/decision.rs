//! What the planner says: what to run, what ended, how much there is to do.

use super::{RequestId, RowChange, SequenceId, Time};

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

/// A chunk of a prompt to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Whose prompt.
    pub request: RequestId,
    /// Where.
    pub row: usize,
    /// Tokens of the prompt before it. For a request's first chunk these were reused.
    pub start: usize,
    /// Its tokens.
    pub tokens: usize,
    /// Whether the prompt ends with it.
    pub last: bool,
}

/// A row's part in a decode step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoding {
    /// Whose.
    pub sequence: SequenceId,
    /// Tokens that the row holds before the step.
    pub length: usize,
    /// Whether its last token runs once more, only because its row stands among the others: it is not known yet what may
    /// come next. The same is written again, and the logits are of no use.
    pub repeats: bool,
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Run {
    /// A chunk of a prompt.
    Prefill(Chunk),
    /// One token for each of the rows from `first` on.
    Decode {
        /// The first row.
        first: usize,
        /// The rows.
        rows: Vec<Decoding>,
    },
}

/// What to do now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Requests that ended without being finished.
    pub ended: Vec<(RequestId, Ended)>,
    /// Changes to rows, to be made in this order and before the run.
    pub changes: Vec<RowChange>,
    /// What to run. [`Planner::ran`] is to be told when it has.
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
    /// Tokens of cached prefixes.
    pub cached_tokens: usize,
}
