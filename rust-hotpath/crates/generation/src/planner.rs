//! Which rows run next. Pure: time comes in with each call, and nothing here waits, sleeps, or knows a thread or a tensor.
//!
//! The rules, in the order in which they bind: bounds; interactive before batch; fair between keys; a request is admitted
//! once there is room for the longest that it may become, so that nothing that runs ever lacks any; a chunk of a prompt
//! takes turns with a step of the rows that decode; and nothing runs for nobody.
//!
//! Rows of the cache have places. Each class has an area of rows that decode in one step, kept without holes. Beside them
//! prompts are read, slow readers wait, and beginnings of finished prompts are kept for those that begin alike.

mod admission;
mod prefixes;
mod request;
mod rows;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

pub use hotpath_scheduler::{Class, planner::Time};
use hotpath_scheduler::{DrainRate, turns::Turns};
use request::{Known, Phase, Place, Ticket};
pub use request::{Request, RequestId, SequenceId};
pub use rows::RowChange;
use rows::Rows;

/// Tokens that a key's turn gives. Requests are longer; so a key waits for a turn or two more, in proportion.
const QUANTUM: usize = 1024;

/// Every so many chunks one goes to the prompt that has waited longest, so that short ones never starve a long one.
const OLDEST_EVERY: u64 = 4;

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
    /// Most tokens that wait, counted as requests reserve them. Only a request that finds the queue empty may be larger.
    pub max_queued_tokens: usize,
    /// Longest wait of a request until its prompt is read.
    pub max_wait: Duration,
    /// Longest time that a reader may keep its continuations waiting.
    pub max_parked: Duration,
    /// Whether a prompt's beginning is reused for other keys than the one that it was computed for.
    pub share_prefixes: bool,
}

impl Limits {
    /// Rows that a cache needs: an area for each class, and beside them a row for each continuation that may wait.
    #[must_use]
    pub fn rows(&self) -> usize {
        4 * self.batch
    }

    /// Most tokens, prompt included, of each of so many continuations of one prompt.
    #[must_use]
    pub fn longest(&self, choices: usize) -> usize {
        let each = self.cache_tokens / choices.max(1) / self.granule * self.granule;
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

/// Why a request ended that was not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// Tokens that the row holds.
    pub length: usize,
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
    /// Continuations that wait for their reader.
    pub parked: usize,
    /// Tokens that admitted requests have reserved.
    pub reserved_tokens: usize,
    /// Tokens of kept beginnings.
    pub kept_tokens: usize,
}

/// The queue, the rows and the rules.
#[derive(Debug)]
pub struct Planner {
    limits: Limits,
    /// By class; a request that is at the head is taken from the queue and waits for room.
    queues: [Queue; 2],
    known: BTreeMap<RequestId, Known>,
    expiries: BTreeSet<(Time, RequestId)>,
    /// To be dropped before the next run.
    cancelled: Vec<RequestId>,
    rows: Rows,
    reserved: [usize; 2],
    queued_tokens: usize,
    /// What runs since the last decision.
    running: Option<Run>,
    chunks: u64,
    chunk_went_last: bool,
    drain: DrainRate,
    last_id: u64,
}

#[derive(Debug)]
struct Queue {
    turns: Turns<Ticket>,
    head: Option<RequestId>,
}

impl Planner {
    /// An empty queue before empty rows.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let queue = || Queue { turns: Turns::new(QUANTUM), head: None };
        Self {
            limits,
            queues: [queue(), queue()],
            known: BTreeMap::new(),
            expiries: BTreeSet::new(),
            cancelled: Vec::new(),
            rows: Rows::new(limits.batch),
            reserved: [0; 2],
            queued_tokens: 0,
            running: None,
            chunks: 0,
            chunk_went_last: false,
            drain: DrainRate::default(),
            last_id: 0,
        }
    }

    /// How much there is to do.
    #[must_use]
    pub fn load(&self) -> Load {
        let mut load = Load {
            queued_tokens: self.queued_tokens,
            reserved_tokens: self.reserved.iter().sum(),
            kept_tokens: self.rows.kept_tokens(),
            ..Load::default()
        };
        for known in self.known.values() {
            match &known.phase {
                Phase::Waiting => load.queued_requests += 1,
                Phase::Prefilling { .. } => load.prefilling += 1,
                Phase::Running(sequences) => {
                    load.decoding += sequences.iter().filter(|place| matches!(place, Place::Decoding { .. })).count();
                    let beside = sequences.iter().filter(|place| matches!(place, Place::Beside { .. })).count();
                    load.parked += if known.parked_until.is_some() { beside } else { 0 };
                }
            }
        }
        load
    }

    /// Whether there is no request that is not done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether a request waits to be admitted.
    #[must_use]
    pub fn is_waiting(&self, id: RequestId) -> bool {
        self.known.get(&id).is_some_and(|known| matches!(known.phase, Phase::Waiting))
    }

    /// When all that waits will have run, going by the measured rate.
    #[must_use]
    pub fn time_to_drain(&self) -> Duration {
        self.drain.time_for(self.queued_tokens, 1)
    }

    /// Drops a request in whatever phase it is. Its rows are free before the next run.
    pub fn cancel(&mut self, id: RequestId) {
        match self.known.get(&id).map(|known| &known.phase) {
            Some(Phase::Waiting) => self.unqueue(id),
            Some(_) => self.cancelled.push(id),
            None => (),
        }
    }

    /// What to do now. To be called between runs only.
    pub fn next(&mut self, now: Time) -> Decision {
        self.leave(); // first, so that what is finished is not ended as well
        let mut ended = Vec::new();
        for id in std::mem::take(&mut self.cancelled) {
            if self.known.contains_key(&id) {
                self.drop_request(id);
                ended.push((id, Ended::Cancelled));
            }
        }
        self.expire(now, &mut ended);
        self.leave();
        self.park();
        self.join();
        self.admit();
        self.running = self.choose();
        let wake = if self.running.is_none() { self.expiries.first().map(|(time, _)| *time) } else { None };
        Decision { ended, changes: self.rows.take_changes(), run: self.running.clone(), wake }
    }

    /// Takes note that what [`Planner::next`] said has run. A prompt that has ended begins its continuations.
    pub fn ran(&mut self, took: Duration) {
        match self.running.take() {
            Some(Run::Prefill(chunk)) => {
                self.drain.note(chunk.tokens, took);
                if let Some(known) = self.known.get_mut(&chunk.request) {
                    known.read(&chunk);
                    if chunk.last {
                        self.rows.share_side(chunk.row, known.choices);
                    }
                }
            }
            Some(Run::Decode { rows, .. }) => {
                self.drain.note(rows.len(), took);
                for row in rows {
                    if let Some(known) = self.known.get_mut(&row.sequence.request) {
                        known.said(row.sequence.choice);
                    }
                }
            }
            None => (),
        }
    }

    /// Ends one continuation of a request.
    pub fn finish(&mut self, sequence: SequenceId) {
        if let Some(Phase::Running(places)) = self.known.get_mut(&sequence.request).map(|known| &mut known.phase) {
            let place = &mut places[sequence.choice];
            *place = match *place {
                Place::Decoding { length } => Place::Leaving { length },
                Place::Beside { row, length } => Place::LeavingFrom { row, length },
                other => other,
            };
        }
    }

    /// Says that a request's reader does not keep up: nothing more is run for it until [`Planner::resume`].
    pub fn pause(&mut self, now: Time, id: RequestId) {
        let until = now + self.limits.max_parked;
        if let Some(known) = self.known.get_mut(&id).filter(|known| known.parked_until.is_none()) {
            known.parked_until = Some(until);
            self.expiries.insert((until, id));
        }
    }

    /// Says that a request's reader has caught up.
    pub fn resume(&mut self, id: RequestId) {
        if let Some(until) = self.known.get_mut(&id).and_then(|known| known.parked_until.take()) {
            self.expiries.remove(&(until, id));
        }
    }

    /// Drops every request whose time is over.
    fn expire(&mut self, now: Time, ended: &mut Vec<(RequestId, Ended)>) {
        while let Some((time, id)) = self.expiries.first().copied().filter(|(time, _)| *time <= now) {
            let why = self.known.get(&id).map_or(Ended::Cancelled, |known| known.why(time));
            ended.push((id, why));
            self.drop_request(id);
        }
    }

    /// What to run: interactive before batch, and of each class a chunk in turn with a step.
    fn choose(&mut self) -> Option<Run> {
        for class in [Class::Interactive, Class::Batch] {
            let decodes = !self.rows.area(class).is_empty();
            let chunk = self.chunk(class);
            match chunk {
                Some(chunk) if !decodes || !self.chunk_went_last => {
                    self.chunk_went_last = true;
                    self.chunks += 1;
                    return Some(Run::Prefill(chunk));
                }
                _ if decodes => {
                    self.chunk_went_last = false;
                    return Some(self.step(class));
                }
                _ => (),
            }
        }
        None
    }

    fn step(&self, class: Class) -> Run {
        let row = |sequence: &SequenceId| Decoding {
            sequence: *sequence,
            length: self.known[&sequence.request].length(sequence.choice),
        };
        Run::Decode { first: self.rows.first(class), rows: self.rows.area(class).iter().map(row).collect() }
    }

    /// The next chunk of the prompt that has the least left; now and then of the one that has waited longest.
    fn chunk(&self, class: Class) -> Option<Chunk> {
        let prompts = self.known.iter().filter(|(_, known)| known.class == class);
        let mut chunks =
            prompts.filter_map(|(id, known)| Some((known.left()?, known.chunk(*id, self.limits.chunk_tokens)?)));
        let chunk = if self.chunks % OLDEST_EVERY == OLDEST_EVERY - 1 {
            chunks.next() // ids ascend with arrival
        } else {
            chunks.min_by_key(|(left, _)| *left)
        };
        chunk.map(|(_, chunk)| chunk)
    }

    fn round_up(&self, tokens: usize) -> usize {
        tokens.next_multiple_of(self.limits.granule)
    }
}

/// Index of a class among areas, queues and sums.
fn index(class: Class) -> usize {
    match class {
        Class::Interactive => 0,
        Class::Batch => 1,
    }
}

/// A prompt and whose it is: what a beginning is compared by.
#[derive(Debug, Clone)]
struct Prompt {
    tokens: Arc<[u32]>,
    key: Arc<str>,
}
