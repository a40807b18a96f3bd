//! Which rows run next. Pure: time comes in with each call, and nothing here waits, sleeps, or knows a thread or a tensor.
//!
//! The rules, in the order in which they bind: bounds; interactive before batch that has not waited for long; fair between keys; a request is admitted
//! once there is room for the longest that it may become, so that nothing that runs ever lacks any; a run has a token of
//! each continuation that can go on, and so much of prompts that these are not delayed by more than that; and nothing runs
//! for nobody. While interactive work is about, of this model or of another, a run of batch work is brief: a few of its
//! continuations in turn, or a little of prompts.
//!
//! A continuation has one slot of the cache for its life. What it holds stays there when it has ended, for prompts that begin
//! alike, until room is needed.

mod admission;
mod capacity;
mod decision;
mod limits;
mod pace;
mod prefixes;
mod request;
mod sequences;
mod slots;
mod time_slice;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use capacity::Capacity;
pub use decision::{Chunk, Counts, Decision, Ended, Load, Run, Step};
pub use hotpath_fairness::Class;
use hotpath_fairness::{Admission, Bounds, Deadlines, DrainRate, DrrQueue, Key, Patience, PerClass};
pub use limits::{Limits, Refusal};
use pace::Pace;
use request::{Phase, Place, RequestState, SequenceState, Ticket};
pub use request::{Request, RequestId, SequenceId};
pub use slots::SlotChange;
use slots::Slots;
use time_slice::SliceBudget;

/// Continuations that decode together at most where drafts are run. A run costs something and each row of it something more: beside
/// four steps a row must be accepted three times in ten to bring as much as the steps do on processors with AVX-512 VNNI, and six
/// times on those with AVX2 alone.
const DRAFTING: usize = 4;

/// A moment, as the time since any fixed one.
pub type Time = Duration;

/// Tokens that a key's turn gives. Requests are longer; so a key waits for a turn or two more, in proportion.
const QUANTUM: usize = 1024;

/// How long a run of batch work is to take while interactive work is about. Shorter runs spend their time on what each one costs: a step
/// of one row of a small decoder takes some three milliseconds.
pub const TIME_SLICE: Duration = Duration::from_millis(5);

/// In every so many runs the key goes first whose prompts have not for longest, so that short prompts never starve a long one.
const FAIR_EVERY: u64 = 4;

/// The queue, the slots and the rules.
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
    slots: Slots,
    /// Whether texts that have ended are cached.
    caches: bool,
    capacity: Capacity,
    queued_tokens: usize,
    /// Runs with chunks of prompts so far.
    prompt_runs: u64,
    drain: DrainRate,
    pace: PerClass<Pace>,
    slice: SliceBudget,
    patience: Patience,
    last_id: u64,
}

#[derive(Debug)]
struct Queue {
    tickets: DrrQueue<Ticket>,
    /// Of tokens that those who wait would reserve.
    admission: Admission,
}

impl Planner {
    /// An empty queue before empty slots.
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
            slots: Slots::new(limits.slots() - 1),
            caches: true,
            capacity: Capacity::new(&limits),
            queued_tokens: 0,
            prompt_runs: 0,
            drain: DrainRate::default(),
            pace: PerClass::new(|_| Pace::default()),
            slice: SliceBudget::default(),
            patience: Patience::default(),
            last_id: 0,
        }
    }

    /// How much there is to do.
    #[must_use]
    pub fn load(&self) -> Load {
        let mut load = Load {
            queued_tokens: self.queued_tokens,
            reserved_tokens: self.capacity.tokens(),
            cached_tokens: self.slots.cached_tokens(),
            rows: self.capacity.rows(),
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

    /// Whether anything can run.
    #[must_use]
    pub fn can_run(&self) -> bool {
        Class::ALL.into_iter().any(|class| self.has_work(class))
    }

    /// Whether interactive work waits for a run, or for a place that batch work may have.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        !self.queues.of(Class::Interactive).tickets.is_empty() || self.has_work(Class::Interactive)
    }

    /// Whether something of a class can run.
    fn has_work(&self, class: Class) -> bool {
        self.prompts(class).next().is_some() || self.steps(class).next().is_some()
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

    /// Drops a request in whatever phase it is. Its slots are free before the next run.
    pub fn cancel(&mut self, id: RequestId) {
        match self.requests.get(&id).map(|entry| &entry.phase) {
            Some(Phase::Waiting) => self.unqueue(id),
            Some(_) => self.cancelled.push(id),
            None => (),
        }
    }

    /// What to do before the next run. To be called between runs only.
    pub fn settle(&mut self, now: Time) -> Decision {
        self.fork();
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
        self.admit();
        Decision { ended, changes: self.slots.take_changes(), run: None, wake: self.expiries.next() }
    }

    /// The same, with what to run on cores that are there. A run of batch work takes about its time slice, if it has one.
    pub fn next(&mut self, now: Time, time_slice: Option<Duration>) -> Decision {
        let settled = self.settle(now);
        let run = self.choose(now, time_slice);
        let wake = settled.wake.filter(|_| run.is_none());
        Decision { run, wake, ..settled }
    }

    /// Takes note of how long a run took.
    pub fn ran(&mut self, class: Class, counts: Counts, took: Duration) {
        let Counts { prompt_tokens, steps, drafted, accepted } = counts;
        self.drain.note(prompt_tokens + steps + accepted, took);
        let is_sliced = self.slice.note(counts, took);
        if drafted == 0 && !is_sliced {
            self.pace.of_mut(class).note(prompt_tokens, steps, took); // with drafts steps take longer
        }
    }

    /// Takes note that a chunk was read. A prompt that has ended begins its continuations.
    pub fn read(&mut self, chunk: &Chunk) {
        if let Some(entry) = self.requests.get_mut(&chunk.request) {
            entry.read(chunk);
        }
    }

    /// Takes note of what a continuation said after it was run, or after its prompt was read.
    pub fn said(&mut self, sequence: SequenceId, tokens: &[u32]) {
        if let Some(entry) = self.requests.get_mut(&sequence.request) {
            entry.said(sequence.choice, tokens);
        }
    }

    /// Ends one continuation of a request.
    pub fn finish(&mut self, sequence: SequenceId) {
        if let Some(Phase::Running(sequences)) = self.requests.get_mut(&sequence.request).map(|entry| &mut entry.phase)
        {
            sequences[sequence.choice].finished = true;
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

    /// Says that it is not known yet what may come next in a continuation. It has no part in a run until [`Planner::go_on`].
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

    /// Gives up all cached texts, and caches no others.
    pub fn retire(&mut self) {
        self.caches = false;
        while let Some(slot) = self.slots.least_used(None) {
            self.slots.release(slot);
        }
    }

    /// Drops every request whose time is over.
    fn expire(&mut self, now: Time, ended: &mut Vec<(RequestId, Ended)>) {
        while let Some((id, why)) = self.expiries.pop(now) {
            ended.push((id, why));
            self.drop_request(id);
        }
    }

    /// What to run: interactive before batch that has not waited for long.
    fn choose(&mut self, now: Time, time_slice: Option<Duration>) -> Option<Run> {
        let has_work = PerClass::new(|class| self.has_work(class));
        let class = self.patience.turn(now, |class| *has_work.of(class))?;
        let is_sliced = self.slice.begin(time_slice.filter(|_| class == Class::Batch)).is_some();
        let run = if is_sliced { self.sliced_run(class) } else { self.full_run(class) };
        for step in &run.steps {
            self.requests.entry(step.sequence.request).and_modify(|entry| entry.takes(step));
        }
        Some(run)
    }

    fn full_run(&mut self, class: Class) -> Run {
        let mut steps: Vec<Step> = self.steps(class).collect();
        let (most, pace) = (self.limits.chunk_tokens, self.pace.of(class));
        let most = if self.has_streams(class) { pace.beside_steps(most) } else { most };
        let measures = !steps.is_empty() && pace.is_due();
        let chunks = if measures { Vec::new() } else { self.chunks(class, most) };
        if chunks.is_empty() && !measures && steps.len() <= DRAFTING {
            for step in &mut steps {
                step.draft = self.requests[&step.sequence.request].draft(step, self.limits.draft_tokens);
            }
        }
        Run { class, chunks, steps }
    }

    /// Some steps, or a little of prompts.
    fn sliced_run(&mut self, class: Class) -> Run {
        let steps: Vec<Step> = self.steps(class).collect();
        let has_prompts = self.prompts(class).next().is_some();
        if self.slice.is_of_prompts(!steps.is_empty(), has_prompts) {
            let chunks = self.chunks(class, self.slice.tokens(self.limits.chunk_tokens));
            Run { class, chunks, steps: Vec::new() }
        } else {
            Run { class, chunks: Vec::new(), steps: self.slice.steps(steps) }
        }
    }

    /// Whether a run keeps a continuation waiting whose reader keeps up. One that waits for its format goes on at any moment.
    fn has_streams(&self, class: Class) -> bool {
        let mut of_class = self.admitted().filter(|(_, entry)| entry.class == class && entry.parked_until.is_none());
        of_class.any(|(_, entry)| {
            matches!(&entry.phase, Phase::Running(sequences) if sequences.iter().any(|sequence| !sequence.finished))
        })
    }

    /// A token of each continuation that can go on.
    fn steps(&self, class: Class) -> impl Iterator<Item = Step> {
        let of_class = self.admitted().filter(move |(_, entry)| entry.class == class);
        of_class.flat_map(|(request, entry)| {
            (0..entry.choices).filter_map(move |choice| entry.step(SequenceId { request, choice }))
        })
    }

    /// Prompts, the one that has the least left first, as far as there is room for so many tokens of them. Now and then the oldest of the
    /// key whose prompts have not gone first for longest goes before.
    fn chunks(&mut self, class: Class, most: usize) -> Vec<Chunk> {
        let mut prompts: Vec<(usize, RequestId)> = self.prompts(class).collect();
        if prompts.is_empty() {
            return Vec::new();
        }
        prompts.sort_unstable(); // ids ascend with arrival
        if self.prompt_runs % FAIR_EVERY == FAIR_EVERY - 1 {
            let latest = |key: &str| {
                let of_key = prompts.iter().map(|(_, id)| &self.requests[id]).filter(|entry| *entry.prompt.key == *key);
                of_key.map(|entry| entry.went_first).max()
            };
            let due =
                prompts.iter().enumerate().min_by_key(|(_, (_, id))| (latest(&self.requests[id].prompt.key), *id));
            let due = due.map_or(0, |(place, _)| place);
            prompts[..=due].rotate_right(1);
        }
        self.prompt_runs += 1;
        let (mut room, mut chunks) = (most, Vec::new());
        for (_, id) in prompts {
            let Some(entry) = self.requests.get_mut(&id) else { continue };
            let Some(chunk) = entry.chunk(id, room).filter(|chunk| chunk.tokens > 0) else { break };
            if chunks.is_empty() {
                entry.went_first = self.prompt_runs; // what it leaves to others is no turn of theirs
            }
            room -= chunk.tokens;
            chunks.push(chunk);
        }
        chunks
    }

    /// Prompts that are being read, by how much is left of each.
    fn prompts(&self, class: Class) -> impl Iterator<Item = (usize, RequestId)> {
        let of_class = self.admitted().filter(move |(_, entry)| entry.class == class);
        of_class.filter_map(|(id, entry)| Some((entry.left()?, id)))
    }

    fn admitted(&self) -> impl Iterator<Item = (RequestId, &RequestState)> {
        self.admitted.iter().map(|id| (*id, &self.requests[id]))
    }

    fn round_up(&self, tokens: usize) -> usize {
        tokens.next_multiple_of(self.limits.granule)
    }
}

/// Tokens and whose they are: what a beginning is compared by.
#[derive(Debug, Clone)]
struct Prompt {
    tokens: Arc<[u32]>,
    key: Key,
}
