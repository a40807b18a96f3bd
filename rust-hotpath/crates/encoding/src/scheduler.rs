//! The planner with a lock, a clock and threads: one worker for each session.

use std::{io, sync::Arc, thread, time::Instant};

use hotpath_cores::Cores;
use hotpath_fairness::{Class, Key, Monitor};
use hotpath_runtime::Encode;
use tokio::sync::oneshot;

use crate::{
    job::{Failure, Job, Reply},
    planner::{Full, Limits, Load, Request, RequestId},
    state::{Shared, State, cancel},
    worker::{self, Observer, Worker},
};

/// A request to run some texts.
#[derive(Debug, Clone)]
pub struct Work {
    /// Its class.
    pub class: Class,
    /// Whose turn it uses.
    pub key: Key,
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
    workers: usize,
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
        let workers = sessions.len();
        let state = State::new(Limits { workers, ..limits });
        let scheduler = Self { shared: Arc::new(Monitor::new(state)), cores: cores.clone(), workers };
        for (number, session) in sessions.into_iter().enumerate() {
            let thread = thread::Builder::new().name(format!("session-{number}"));
            let worker = Worker::new(session, cores.clone(), observer.clone());
            scheduler.shared.spawn(thread, worker, worker::work)?;
        }
        Ok(scheduler)
    }

    /// Whether a request of at least so many tokens would be queued now: who knows no more of it yet need not find out.
    ///
    /// # Errors
    /// [`Full`] when the queue would not hold it.
    pub fn check_room(&self, class: Class, key: &Key, at_least: usize) -> Result<(), Full> {
        // What comes when it is dead is told so by what it is submitted to.
        self.shared.change(|state, _| state.planner.check(class, key, at_least)).unwrap_or(Ok(()))
    }

    /// Queues a request.
    ///
    /// # Errors
    /// [`Full`] when the queue may not hold it.
    pub fn submit(&self, work: Work) -> Result<Pending, Full> {
        let (now, anonymous) = (Instant::now(), work.key.is_anonymous());
        let request = Request {
            class: work.class,
            key: work.key,
            deadline: work.deadline.map(|deadline| self.shared.time(deadline)),
            inputs: work.inputs.iter().map(Vec::len).collect(),
        };
        let inputs = request.inputs.len();
        let (job, reply) = Job::new(work.inputs, now);
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
            self.cores.interactive_arrived(anonymous); // a worker may wait for a core for batch work
        }
        Ok(Pending { shared: self.shared.clone(), id, reply, answered: false })
    }

    /// How many batches run at the same time, at most.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// How much there is to do.
    #[must_use]
    pub fn load(&self) -> Load {
        self.shared.change(|state, _| state.planner.load()).unwrap_or_default()
    }

    /// How fast it does that, as measured: 0 before anything ran.
    #[must_use]
    pub fn tokens_per_second(&self) -> f64 {
        self.shared.change(|state, _| state.planner.tokens_per_second()).unwrap_or_default()
    }

    /// Why nothing will run any more, if that is so: for the log and for operators.
    #[must_use]
    pub fn dead(&self) -> Option<String> {
        self.shared.dead().map(|dead| dead.to_string())
    }

    /// Waits until everything queued has run and the sessions are gone.
    pub fn close(self) {
        self.shared.close();
        self.shared.join();
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
