//! Who runs next. Pure: time comes in with each call, and nothing here waits, sleeps or knows a thread.
//!
//! The rules, in the order in which they bind: bounds, interactive before batch that has not waited for long, fair between keys, batches bounded by
//! tokens, no artificial wait, and nothing runs for nobody. While workers idle, a batch leaves them their share. While
//! interactive work is about, a batch of batch work is bounded by time.

use std::{collections::HashMap, ops::Range, time::Duration};

pub use hotpath_fairness::Full;
use hotpath_fairness::{Admission, Bounds, ByClass, Class, Deadlines, DrainRate, Key, Patience, PerClass, Queued};

/// A moment, as the time since any fixed one.
pub type Time = Duration;

/// How long a run of batch work is to take while interactive work is about. Shorter runs spend their time on what each one costs, and
/// longer ones have whoever comes wait for them, and for all the replies that leave at once when they end.
pub const TIME_SLICE: Duration = Duration::from_millis(2);

/// The bounds that a planner keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many batches run at the same time.
    pub workers: usize,
    /// A batch takes inputs until this many tokens. An input that is longer goes alone.
    pub batch_tokens: usize,
    /// Most tokens of one class that wait, of which each key may have its share. A key that has nothing waiting is always
    /// let in: what is more than its share of a request counts as waiting only as room comes.
    pub max_queued_tokens: usize,
    /// Longest wait of a request until its first input runs.
    pub max_wait: Duration,
}

/// Names a request to its planner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

/// What the planner must know of a request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its class.
    pub class: Class,
    /// Whose turn it uses.
    pub key: Key,
    /// When nobody waits for it any more.
    pub deadline: Option<Time>,
    /// Tokens of each of its inputs; at least 1 each.
    pub inputs: Vec<usize>,
}

/// One input, taken from the queue to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// The request that it belongs to.
    pub request: RequestId,
    /// Its index among the request's inputs.
    pub input: usize,
    /// Its length.
    pub tokens: usize,
}

impl Queued for Item {
    fn cost(&self) -> usize {
        self.tokens
    }
}

/// Why a request left the queue without being run to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expiry {
    /// Its deadline passed.
    Deadline,
    /// None of its inputs ran within [`Limits::max_wait`].
    MaxWait,
}

/// What to do now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Requests that were dropped; what they had queued will not run.
    pub expired: Vec<(RequestId, Expiry)>,
    /// What to run as one batch; empty when nothing waits. Each batch is to be reported to [`Planner::finished`].
    pub batch: Vec<Item>,
}

/// How much there is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Tokens that wait.
    pub queued_tokens: usize,
    /// Inputs that wait.
    pub queued_inputs: usize,
    /// Inputs that run.
    pub running_inputs: usize,
    /// Their tokens.
    pub running_tokens: usize,
    /// Batches that these are.
    pub running_batches: usize,
    /// Requests of which something waits.
    pub waiting_requests: usize,
}

/// A request of which something is queued.
#[derive(Debug)]
struct Waiting {
    class: Class,
    key: Key,
    /// The numbers of its inputs in their queue.
    numbers: Range<u64>,
    inputs: usize,
    tokens: usize,
    /// So many of its tokens count against the bound.
    admitted: usize,
    deadline: Option<Time>,
    /// When it will have waited for too long; `None` once its first input runs.
    patience: Option<Time>,
}

/// The queue and the rules by which it is emptied.
#[derive(Debug)]
pub struct Planner {
    limits: Limits,
    queues: ByClass<Item>,
    /// Of tokens that wait.
    admissions: PerClass<Admission>,
    waiting: HashMap<RequestId, Waiting>,
    expiries: Deadlines<(RequestId, Expiry)>,
    load: Load,
    running_batches: usize,
    drain: DrainRate,
    patience: Patience,
    last_id: u64,
}

impl Planner {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let bounds = Bounds { shared: limits.max_queued_tokens, reserve: usize::MAX, small: limits.batch_tokens };
        Self {
            limits,
            queues: ByClass::queues(limits.batch_tokens),
            admissions: PerClass::new(|_| Admission::new(bounds)),
            waiting: HashMap::new(),
            expiries: Deadlines::default(),
            load: Load::default(),
            running_batches: 0,
            drain: DrainRate::default(),
            patience: Patience::default(),
            last_id: 0,
        }
    }

    /// How much there is to do.
    #[must_use]
    pub fn load(&self) -> Load {
        Load { running_batches: self.running_batches, waiting_requests: self.waiting.len(), ..self.load }
    }

    /// How fast it does what there is to do, as measured: 0 before anything ran.
    #[must_use]
    pub fn tokens_per_second(&self) -> f64 {
        self.drain.tokens_per_second(self.limits.workers)
    }

    /// The highest class of which something is queued.
    #[must_use]
    pub fn highest(&self) -> Option<Class> {
        Class::ALL.into_iter().find(|class| !self.queues.of(*class).is_empty())
    }

    /// Whether a request has something queued.
    #[must_use]
    pub fn is_waiting(&self, id: RequestId) -> bool {
        self.waiting.contains_key(&id)
    }

    /// When all that waits will have run, going by the measured rate.
    #[must_use]
    pub fn time_to_drain(&self) -> Duration {
        self.drain.time_for(self.load.queued_tokens, self.limits.workers)
    }

    /// Whether a request of at least so many tokens would be queued now. What is refused here with the least that it may have,
    /// [`Planner::submit`] would refuse with all that it has.
    ///
    /// # Errors
    /// Those of [`Planner::submit`].
    pub fn check(&self, class: Class, key: &str, at_least: usize) -> Result<(), Full> {
        Full::check(self.admissions.of(class), key, at_least, &self.drain, self.limits.workers)
    }

    /// Queues a request's inputs one by one.
    ///
    /// # Errors
    /// [`Full`] when the key has something waiting, and this would be more than its share of [`Limits::max_queued_tokens`].
    pub fn submit(&mut self, now: Time, request: Request) -> Result<RequestId, Full> {
        let tokens: usize = request.inputs.iter().sum();
        self.check(request.class, &request.key, tokens)?;
        let admission = self.admissions.of_mut(request.class);
        let admitted = tokens.min(admission.room(&request.key));
        admission.take(&request.key, admitted);
        self.last_id += 1;
        let id = RequestId(self.last_id);
        self.load.queued_tokens += tokens;
        self.load.queued_inputs += request.inputs.len();
        let items = request.inputs.iter().enumerate().map(|(input, &tokens)| Item { request: id, input, tokens });
        let numbers = self.queues.of_mut(request.class).push(&request.key, items);
        let waiting = Waiting {
            class: request.class,
            key: request.key,
            numbers,
            inputs: request.inputs.len(),
            tokens,
            admitted,
            deadline: request.deadline,
            patience: Some(now + self.limits.max_wait),
        };
        self.expiries.insert(waiting.deadline, (id, Expiry::Deadline));
        self.expiries.insert(waiting.patience, (id, Expiry::MaxWait));
        self.waiting.insert(id, waiting);
        Ok(id)
    }

    /// Drops what a request still has queued. What runs already is not stopped.
    pub fn cancel(&mut self, id: RequestId) {
        let Some(waiting) = self.waiting.remove(&id) else { return };
        self.forget_expiries(id, &waiting);
        self.admissions.of_mut(waiting.class).give_back(&waiting.key, waiting.admitted);
        for item in self.queues.of_mut(waiting.class).remove(&waiting.key, waiting.numbers) {
            self.load.queued_tokens -= item.tokens;
            self.load.queued_inputs -= 1;
        }
    }

    /// What a free worker does now that it has a core. Batch work with a time slice has no more tokens than run in that time,
    /// as measured, or one input.
    pub fn next(&mut self, now: Time, time_slice: Option<Duration>) -> Decision {
        let expired = self.expire(now);
        let turn = self.patience.turn(now, |class| !self.queues.of(class).is_empty());
        let Some(class) = turn else { return Decision { expired, batch: Vec::new() } };
        let time_slice = time_slice.filter(|_| class == Class::Batch);
        let most = time_slice.map_or(self.limits.batch_tokens, |time_slice| self.drain.tokens_in(time_slice));
        let turns = self.queues.of_mut(class);
        let idle = self.limits.workers.saturating_sub(self.running_batches).max(1);
        let batch = turns.take(turns.cost().div_ceil(idle).min(self.limits.batch_tokens).min(most));
        self.running_batches += 1;
        for item in &batch {
            self.load.queued_tokens -= item.tokens;
            self.load.queued_inputs -= 1;
            self.load.running_inputs += 1;
            self.load.running_tokens += item.tokens;
            self.taken(item);
        }
        Decision { expired, batch }
    }

    /// Takes note that a batch of [`Planner::next`] has run, well or not.
    pub fn finished(&mut self, inputs: usize, tokens: usize, took: Duration) {
        self.load.running_inputs -= inputs;
        self.load.running_tokens -= tokens;
        self.running_batches -= 1;
        self.drain.note(tokens, took);
    }

    /// Drops every request whose time is over.
    fn expire(&mut self, now: Time) -> Vec<(RequestId, Expiry)> {
        let mut expired = Vec::new();
        while let Some((id, expiry)) = self.expiries.pop(now) {
            expired.push((id, expiry));
            self.cancel(id);
        }
        expired
    }

    fn forget_expiries(&mut self, id: RequestId, waiting: &Waiting) {
        self.expiries.remove(waiting.deadline, (id, Expiry::Deadline));
        self.expiries.remove(waiting.patience, (id, Expiry::MaxWait));
    }

    /// Takes note that one input of a request left the queue to run.
    fn taken(&mut self, item: &Item) {
        let id = item.request;
        let Some(waiting) = self.waiting.get_mut(&id) else { return };
        self.expiries.remove(waiting.patience.take(), (id, Expiry::MaxWait));
        waiting.inputs -= 1;
        waiting.tokens -= item.tokens;
        let over = waiting.admitted.saturating_sub(waiting.tokens);
        waiting.admitted -= over;
        self.admissions.of_mut(waiting.class).give_back(&waiting.key, over);
        if waiting.inputs == 0 {
            self.expiries.remove(waiting.deadline, (id, Expiry::Deadline));
            self.waiting.remove(&id);
        }
    }
}
