//! The planner with a lock, a clock and threads: one worker for each session.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use hotpath_cores::{Cores, Permit};
use hotpath_fairness::Class;
use hotpath_runtime::Encode;
use tokio::sync::oneshot;

use crate::{
    job::{Failure, Job, Reply},
    planner::{Decision, Expiry, Full, Item, Limits, Load, Planner, Request, RequestId, Time},
    worker::{self, Observer, Run},
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
    workers: Vec<JoinHandle<()>>,
}

/// An admitted request. Dropping it cancels what has not run.
#[derive(Debug)]
pub struct Pending {
    shared: Arc<Shared>,
    id: RequestId,
    reply: oneshot::Receiver<Reply>,
    answered: bool,
}

/// What workers and callers share.
pub(crate) struct Shared {
    state: Mutex<State>,
    work_came: Condvar,
    start: Instant,
    cores: Arc<Cores>,
    observer: Arc<dyn Observer>,
}

#[derive(Debug)]
struct State {
    planner: Planner,
    /// The requests of which something is queued.
    jobs: HashMap<RequestId, Arc<Job>>,
    closing: bool,
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
    pub fn start(
        sessions: Vec<Box<dyn Encode>>,
        limits: Limits,
        cores: Arc<Cores>,
        observer: Arc<dyn Observer>,
    ) -> io::Result<Self> {
        let planner = Planner::new(Limits { workers: sessions.len(), ..limits });
        let state = Mutex::new(State { planner, jobs: HashMap::new(), closing: false });
        let shared = Arc::new(Shared { state, work_came: Condvar::new(), start: Instant::now(), cores, observer });
        let mut scheduler = Self { shared, workers: Vec::new() };
        for (number, session) in sessions.into_iter().enumerate() {
            let shared = scheduler.shared.clone();
            let thread = thread::Builder::new().name(format!("session-{number}"));
            scheduler.workers.push(thread.spawn(move || worker::work(&shared, session))?);
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
        let id = {
            let mut state = self.shared.lock();
            let id = state.planner.submit(self.shared.time(now), request)?;
            state.jobs.insert(id, Arc::new(job));
            id
        };
        if inputs == 1 {
            self.shared.work_came.notify_one();
        } else {
            self.shared.work_came.notify_all();
        }
        if work.class == Class::Interactive {
            self.shared.cores.reconsider(); // a worker may wait for a core with batch work, and has this behind it
        }
        Ok(Pending { shared: self.shared.clone(), id, reply, answered: false })
    }

    /// How much there is to do.
    #[must_use]
    pub fn load(&self) -> Load {
        self.shared.lock().planner.load()
    }

    /// Waits until everything queued has run and the sessions are gone.
    pub fn close(mut self) {
        self.shared.close();
        for worker in self.workers.drain(..) {
            let _ = worker.join(); // a worker's panic was answered where it happened
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
        let reply = (&mut self.reply).await.unwrap_or(Err(Failure::Closed));
        self.answered = true;
        reply
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.answered {
            self.shared.cancel(self.id);
        }
    }
}

impl Shared {
    /// Waits for the next batch. `None` once the scheduler is closing and nothing is queued.
    pub(crate) fn next_batch(&self) -> Option<Vec<Ticket>> {
        let mut state = self.lock();
        loop {
            let Decision { expired, batch } = state.planner.next(self.time(Instant::now()));
            for (id, expiry) in expired {
                let retry_after = state.planner.time_to_drain();
                if let Some(job) = state.jobs.remove(&id) {
                    job.fail(match expiry {
                        Expiry::Deadline => Failure::DeadlineExceeded,
                        Expiry::MaxWait => Failure::WaitedTooLong { retry_after },
                    });
                }
            }
            if !batch.is_empty() {
                return Some(state.tickets(batch));
            }
            if state.closing {
                return None;
            }
            state = self.work_came.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for a core for a run of some class, or of a higher one that waits behind it.
    pub(crate) fn core(&self, class: Class) -> Permit<'_> {
        // The cores' lock is taken first, and never while this state's is held.
        let interactive_waits = || self.lock().planner.waits(Class::Interactive);
        let highest = || if class == Class::Batch && interactive_waits() { Class::Interactive } else { class };
        self.cores.acquire(1, highest)
    }

    /// Takes note that a batch has run.
    pub(crate) fn finished(&self, inputs: usize, tokens: usize, took: Duration) {
        self.lock().planner.finished(inputs, tokens, took);
    }

    /// Drops what a request still has queued.
    pub(crate) fn cancel(&self, id: RequestId) {
        let mut state = self.lock();
        state.planner.cancel(id);
        state.jobs.remove(&id);
    }

    pub(crate) fn observe(&self, run: &Run) {
        self.observer.ran(run);
    }

    fn close(&self) {
        self.lock().closing = true;
        self.work_came.notify_all();
    }

    fn time(&self, moment: Instant) -> Time {
        moment.saturating_duration_since(self.start)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The planner's methods do not panic halfway, and a worker must not die of another's panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

impl std::fmt::Debug for Shared {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Shared").field("state", &self.state).finish_non_exhaustive()
    }
}
