//! The planner with a lock, a clock and threads: one worker for each session.

use std::{
    collections::HashMap,
    io,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use hotpath_cores::{Cores, Permit};
use hotpath_fairness::{Class, Look, Monitor};
use hotpath_runtime::Encode;
use tokio::sync::oneshot;

use crate::{
    job::{Failure, Job, Reply},
    planner::{Decision, Expiry, Full, Item, Limits, Load, Planner, Request, RequestId},
    worker::{self, Observer, Worker},
};

/// A request to run some texts.
#[derive(Debug, Clone)]
pub struct Work {
    /// Its class.
    pub class: Class,
    /// Whose turn it uses.
    pub key: Arc<str>,
    /// When nobody waits for it any more.
    pub deadline: Option<Instant>,
    /// The token ids of each of its inputs; at least one input, of at least one token each.
    pub inputs: Vec<Vec<u32>>,
}

/// Runs requests on some sessions, in the planner's order. Dropping it lets the workers finish what is queued and end.
#[derive(Debug)]
pub struct Scheduler {
    shared: Arc<Shared>,
    cores: Arc<Cores>,
    workers: Vec<JoinHandle<()>>,
}

/// An admitted request. Dropping it cancels what has not run.
#[derive(Debug)]
pub struct Pending {
    shared: Arc<Shared>,
    /// `None` when the scheduler was dead before.
    id: Option<RequestId>,
    reply: oneshot::Receiver<Reply>,
    answered: bool,
}

/// What workers and callers share.
pub(crate) type Shared = Monitor<State>;

#[derive(Debug)]
pub(crate) struct State {
    planner: Planner,
    /// The requests of which something is queued.
    jobs: HashMap<RequestId, Arc<Job>>,
}

/// One input, on its way to a session.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub item: Item,
    pub job: Arc<Job>,
}

impl Scheduler {
    /// Starts one worker for each session; their number replaces [`Limits::workers`]. A run takes one of the cores.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    #[allow(clippy::needless_pass_by_value)] // they are the workers' from here on
    pub fn start(
        sessions: Vec<Box<dyn Encode>>,
        limits: Limits,
        cores: Arc<Cores>,
        observer: Arc<dyn Observer>,
    ) -> io::Result<Self> {
        let planner = Planner::new(Limits { workers: sessions.len(), ..limits });
        let shared = Arc::new(Monitor::new(State { planner, jobs: HashMap::new() }));
        let mut scheduler = Self { shared, cores: cores.clone(), workers: Vec::new() };
        for (number, session) in sessions.into_iter().enumerate() {
            let worker = Worker::new(session, cores.clone(), observer.clone());
            scheduler.workers.push(scheduler.shared.spawn(format!("session-{number}"), worker, worker::work)?);
        }
        Ok(scheduler)
    }

    /// Queues a request.
    ///
    /// # Errors
    /// [`Full`] when the queue may not hold it.
    pub fn submit(&self, work: Work) -> Result<Pending, Full> {
        let now = Instant::now();
        let request = Request {
            class: work.class,
            key: work.key,
            deadline: work.deadline.map(|deadline| self.shared.time(deadline)),
            inputs: work.inputs.iter().map(Vec::len).collect(),
        };
        let inputs = request.inputs.len();
        let (job, reply) = Job::new(work.class, work.inputs, now);
        let queued = self.shared.change(|state, now| {
            let id = state.planner.submit(now, request)?;
            state.jobs.insert(id, Arc::new(job));
            Ok(id)
        });
        // What comes when it is dead is told so as what waited is.
        let id = queued.ok().transpose()?;
        if inputs == 1 {
            self.shared.wake();
        } else {
            self.shared.wake_all();
        }
        if work.class == Class::Interactive {
            self.cores.reconsider(); // a worker may wait for a core with batch work, and has this behind it
        }
        Ok(Pending { shared: self.shared.clone(), id, reply, answered: false })
    }

    /// How much there is to do.
    #[must_use]
    pub fn load(&self) -> Load {
        self.shared.change(|state, _| state.planner.load()).unwrap_or_default()
    }

    /// Why nothing will run any more, if that is so: for the log and for operators.
    #[must_use]
    pub fn dead(&self) -> Option<String> {
        self.shared.dead().map(|dead| dead.to_string())
    }

    /// Waits until everything queued has run and the sessions are gone.
    pub fn close(mut self) {
        self.shared.close();
        for worker in self.workers.drain(..) {
            let _ = worker.join(); // a worker's panic was told where it happened
        }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Pending {
    /// Waits for the results.
    ///
    /// # Errors
    /// [`Failure`] says why there are none.
    pub async fn result(mut self) -> Reply {
        let died = |_| {
            let cause = self.shared.dead().map(|dead| dead.to_string());
            Err(Failure::Died(cause.unwrap_or_else(|| "a worker dropped the request".to_owned())))
        };
        let reply = (&mut self.reply).await.unwrap_or_else(died);
        self.answered = true;
        reply
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(id) = self.id.filter(|_| !self.answered) {
            cancel(&self.shared, id);
        }
    }
}

/// Waits for the next batch. `None` once there will be no other.
pub(crate) fn next_batch(shared: &Shared) -> Option<Vec<Ticket>> {
    let look = |state: &mut State, now| {
        let Decision { expired, batch } = state.planner.next(now);
        for (id, expiry) in expired {
            let retry_after = state.planner.time_to_drain();
            if let Some(job) = state.jobs.remove(&id) {
                job.fail(match expiry {
                    Expiry::Deadline => Failure::DeadlineExceeded,
                    Expiry::MaxWait => Failure::WaitedTooLong { retry_after },
                });
            }
        }
        if batch.is_empty() { Look::Idle } else { Look::Found(state.tickets(batch)) }
    };
    shared.take(look).ok().flatten()
}

/// Waits for a core for a run of some class, or of a higher one that waits behind it.
pub(crate) fn core<'a>(shared: &Arc<Shared>, cores: &'a Cores, class: Class) -> Permit<'a> {
    // The cores' lock is taken first, and never while this state's is held.
    let shared = shared.clone();
    let interactive_waits = move || shared.change(|state, _| state.planner.waits(Class::Interactive)).unwrap_or(false);
    let highest = move || if class == Class::Batch && interactive_waits() { Class::Interactive } else { class };
    cores.acquire(1, highest)
}

/// Takes note that a batch has run.
pub(crate) fn finished(shared: &Shared, inputs: usize, tokens: usize, took: Duration) {
    let _ = shared.change(|state, _| state.planner.finished(inputs, tokens, took)); // where it is dead nobody asks
}

/// Drops what a request still has queued.
pub(crate) fn cancel(shared: &Shared, id: RequestId) {
    let cancelled = shared.change(|state, _| {
        state.planner.cancel(id);
        state.jobs.remove(&id)
    });
    drop(cancelled); // where it is dead, everything is dropped
}

impl State {
    /// Gives each item of a batch its job, and forgets the jobs of which nothing is queued any more.
    fn tickets(&mut self, batch: Vec<Item>) -> Vec<Ticket> {
        let tickets =
            batch.into_iter().filter_map(|item| Some(Ticket { item, job: self.jobs.get(&item.request)?.clone() }));
        let tickets: Vec<Ticket> = tickets.collect();
        for ticket in &tickets {
            if !self.planner.is_waiting(ticket.item.request) {
                self.jobs.remove(&ticket.item.request);
            }
        }
        tickets
    }
}
