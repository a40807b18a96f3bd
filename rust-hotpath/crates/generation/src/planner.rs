//! Which rows run next. Pure: time comes in with each call, and nothing here waits, sleeps, or knows a thread or a tensor.
//!
//! The rules, in the order in which they bind: bounds; interactive before batch; fair between keys; a request is admitted
//! once there is room for the longest that it may become, so that nothing that runs ever lacks any; a chunk of a prompt
//! takes turns with a step of the rows that decode; and nothing runs for nobody.
//!
//! Each class has a batch of rows that decode in one step, without holes. In staging rows beside them
//! prompts are read, those wait that cannot go on, and prefixes of finished prompts are cached for those that begin alike.

mod admission;
mod capacity;
mod decision;
mod limits;
mod prefixes;
mod request;
mod rows;
mod slots;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use capacity::Capacity;
pub use decision::{Chunk, Decision, Decoding, Ended, Load, Run};
pub use hotpath_fairness::Class;
use hotpath_fairness::{Admission, Bounds, Deadlines, DrainRate, DrrQueue, Key, PerClass};
pub use limits::{Limits, Refusal};
use request::{Phase, RequestState, SequenceState, Ticket};
pub use request::{Request, RequestId, SequenceId};
pub use rows::RowChange;
use rows::Rows;

/// A moment, as the time since any fixed one.
pub type Time = Duration;

/// Tokens that a key's turn gives. Requests are longer; so a key waits for a turn or two more, in proportion.
const QUANTUM: usize = 1024;

/// Every so many chunks one goes to the key that has had none for longest, so that short prompts never starve a long one.
const FAIR_EVERY: u64 = 4;

/// The queue, the rows and the rules.
#[derive(Debug)]
pub struct Planner {
    limits: Limits,
    queues: PerClass<Queue>,
    requests: BTreeMap<RequestId, RequestState>,
    /// Those that do not wait in a queue, of which there may be thousands: what is done for each run looks at these alone.
    admitted: BTreeSet<RequestId>,
    expiries: Deadlines<(RequestId, Ended)>,
    /// To be dropped before the next run.
    cancelled: Vec<RequestId>,
    rows: Rows,
    /// Whether prefixes of finished prompts are cached.
    caches: bool,
    capacity: Capacity,
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
    tickets: DrrQueue<Ticket>,
    /// Of tokens that those who wait would reserve.
    admission: Admission,
}

impl Planner {
    /// An empty queue before empty rows.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let bounds = Bounds { shared: limits.max_queued_tokens, reserve: usize::MAX, small: QUANTUM };
        Self {
            limits,
            queues: PerClass::new(|_| Queue { tickets: DrrQueue::new(QUANTUM), admission: Admission::new(bounds) }),
            requests: BTreeMap::new(),
            admitted: BTreeSet::new(),
            expiries: Deadlines::default(),
            cancelled: Vec::new(),
            rows: Rows::new(limits.rows_per_class()),
            caches: true,
            capacity: Capacity::new(&limits),
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
            reserved_tokens: self.capacity.tokens(),
            cached_tokens: self.rows.cached_tokens(),
            ..Load::default()
        };
        for entry in self.requests.values() {
            match &entry.phase {
                Phase::Waiting => load.queued_requests += 1,
                Phase::Prefilling { .. } => load.prefilling += 1,
                Phase::Running(_) => {
                    let (decoding, parked) = entry.decoding_and_parked();
                    load.decoding += decoding;
                    load.parked += parked;
                }
            }
        }
        load
    }

    /// How fast it does that, as measured: 0 before anything ran.
    #[must_use]
    pub fn tokens_per_second(&self) -> f64 {
        self.drain.tokens_per_second(1)
    }

    /// Whether there is no request that is not done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Whether there is a request of a class.
    #[must_use]
    pub fn has(&self, class: Class) -> bool {
        self.requests.values().any(|entry| entry.class == class)
    }

    /// Whether a request waits to be admitted.
    #[must_use]
    pub fn is_waiting(&self, id: RequestId) -> bool {
        self.requests.get(&id).is_some_and(|entry| matches!(entry.phase, Phase::Waiting))
    }

    /// When all that waits will have run, going by the measured rate.
    #[must_use]
    pub fn time_to_drain(&self) -> Duration {
        self.drain.time_for(self.queued_tokens, 1)
    }

    /// Drops a request in whatever phase it is. Its rows are free before the next run.
    pub fn cancel(&mut self, id: RequestId) {
        match self.requests.get(&id).map(|entry| &entry.phase) {
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
            if self.requests.contains_key(&id) {
                self.drop_request(id);
                ended.push((id, Ended::Cancelled));
            }
        }
        self.expire(now, &mut ended);
        self.leave();
        self.join();
        self.park();
        self.admit();
        self.running = self.choose();
        let wake = if self.running.is_none() { self.expiries.next() } else { None };
        Decision { ended, changes: self.rows.take_changes(), run: self.running.clone(), wake }
    }

    /// Takes note that what [`Planner::next`] said has run. A prompt that has ended begins its continuations.
    pub fn ran(&mut self, took: Duration) {
        match self.running.take() {
            Some(Run::Prefill(chunk)) => {
                self.drain.note(chunk.tokens, took);
                if let Some(entry) = self.requests.get_mut(&chunk.request) {
                    entry.read(&chunk);
                    if chunk.last {
                        self.rows.share_staging(chunk.row, entry.choices);
                    }
                }
            }
            Some(Run::Decode { rows, .. }) => {
                let rows: Vec<Decoding> = rows.into_iter().filter(|row| !row.repeats).collect();
                self.drain.note(rows.len(), took);
                for row in rows {
                    if let Some(entry) = self.requests.get_mut(&row.sequence.request) {
                        entry.said(row.sequence.choice);
                    }
                }
            }
            None => (),
        }
    }

    /// Ends one continuation of a request.
    pub fn finish(&mut self, sequence: SequenceId) {
        if let Some(Phase::Running(sequences)) = self.requests.get_mut(&sequence.request).map(|entry| &mut entry.phase)
        {
            let state = &mut sequences[sequence.choice];
            *state = match *state {
                SequenceState::Decoding { length } => SequenceState::Leaving { length },
                SequenceState::Staged { row, length } => SequenceState::LeavingStaged { row, length },
                other => other,
            };
        }
    }

    /// Says that a request's reader does not keep up: nothing more is run for it until [`Planner::resume`].
    pub fn pause(&mut self, now: Time, id: RequestId) {
        let until = now + self.limits.max_parked;
        if let Some(entry) = self.requests.get_mut(&id).filter(|entry| entry.parked_until.is_none()) {
            entry.parked_until = Some(until);
            self.expiries.insert(Some(until), (id, Ended::SlowReader));
        }
    }

    /// Says that a request's reader has caught up.
    pub fn resume(&mut self, id: RequestId) {
        let until = self.requests.get_mut(&id).and_then(|entry| entry.parked_until.take());
        self.expiries.remove(until, (id, Ended::SlowReader));
    }

    /// Says that it is not known yet what may come next in a continuation that has had a part in a step. Until
    /// [`Planner::go_on`] steps that are run for others repeat its last token.
    pub fn wait(&mut self, sequence: SequenceId) {
        if let Some(entry) = self.requests.get_mut(&sequence.request) {
            entry.waiting.insert(sequence.choice);
        }
    }

    /// Says that a continuation that waits can go on.
    pub fn go_on(&mut self, sequence: SequenceId) {
        if let Some(entry) = self.requests.get_mut(&sequence.request) {
            entry.waiting.remove(&sequence.choice);
        }
    }

    /// Gives up all cached prefixes, and caches no others.
    pub fn retire(&mut self) {
        self.caches = false;
        while let Some(row) = self.rows.least_used(None) {
            self.rows.evict(row);
        }
    }

    /// Drops every request whose time is over.
    fn expire(&mut self, now: Time, ended: &mut Vec<(RequestId, Ended)>) {
        while let Some((id, why)) = self.expiries.pop(now) {
            ended.push((id, why));
            self.drop_request(id);
        }
    }

    /// What to run: interactive before batch, and of each class a chunk in turn with a step.
    fn choose(&mut self) -> Option<Run> {
        for class in [Class::Interactive, Class::Batch] {
            // A step is not run for those alone that do not know what may come next.
            let decodes = self.rows.batch(class).iter().any(|sequence| self.can_go_on(*sequence));
            let chunk = self.chunk(class);
            match chunk {
                Some(chunk) if !decodes || !self.chunk_went_last => {
                    self.chunk_went_last = true;
                    self.chunks += 1;
                    let chunks = self.chunks;
                    self.requests.entry(chunk.request).and_modify(|entry| entry.latest_chunk = chunks);
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
        let row = |sequence: &SequenceId| {
            let repeats = !self.can_go_on(*sequence);
            let length = self.requests[&sequence.request].length(sequence.choice) - usize::from(repeats);
            Decoding { sequence: *sequence, length, repeats }
        };
        Run::Decode { first: self.rows.first(class), rows: self.rows.batch(class).iter().map(row).collect() }
    }

    /// The next chunk of the prompt that has the least left; now and then of the oldest of the key that has had none for
    /// longest.
    fn chunk(&self, class: Class) -> Option<Chunk> {
        let prompts = self.admitted().filter_map(|(id, entry)| Some((id, entry, entry.left()?)));
        let prompts: Vec<_> = prompts.filter(|(_, entry, _)| entry.class == class).collect();
        let chosen = if self.chunks % FAIR_EVERY == FAIR_EVERY - 1 {
            let latest = |key: &str| {
                let of_key = prompts.iter().filter(|(_, entry, _)| *entry.prompt.key == *key);
                of_key.map(|(_, entry, _)| entry.latest_chunk).max()
            };
            prompts.iter().min_by_key(|(id, entry, _)| (latest(&entry.prompt.key), *id)) // ids ascend with arrival
        } else {
            prompts.iter().min_by_key(|(_, _, left)| *left)
        };
        chosen.and_then(|(id, entry, _)| entry.chunk(*id, self.limits.chunk_tokens))
    }

    fn admitted(&self) -> impl Iterator<Item = (RequestId, &RequestState)> {
        self.admitted.iter().map(|id| (*id, &self.requests[id]))
    }

    fn round_up(&self, tokens: usize) -> usize {
        tokens.next_multiple_of(self.limits.granule)
    }
}

/// Index of a class among batches, queues and sums.
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
    key: Key,
}
