//! The planner with a lock, a clock, and the thread that owns the session.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use hotpath_cores::{Cores, Permit};
use hotpath_fairness::Class;
use hotpath_runtime::Decode;
use hotpath_text::Vocabulary;
use tokio::sync::mpsc;

use crate::{
    job::Job,
    looping::{self, Observer},
    masks::{Answer, Masks},
    planner::{Decision, Limits, Load, Planner, Request, RequestId, SequenceId, Time},
    sequence::Terms,
    work::{Event, Failure, Rejected, Work},
};

/// What an engine is made of, beside its session.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The planner's bounds.
    pub limits: Limits,
    /// The model's own stop ids.
    pub stop_ids: Vec<u32>,
    /// What tokens stand for.
    pub vocabulary: Arc<Vocabulary>,
    /// Events that a stream holds for its reader; more where a request has many choices.
    pub buffer: usize,
    /// The cores of this process.
    pub cores: Arc<Cores>,
    /// So many of them are taken for each run, one for each of the session's threads.
    pub threads: usize,
}

/// Continues prompts on one session, in the planner's order. Dropping it lets what is queued finish, and end.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    settings: Settings,
    /// Token ids are below this.
    vocabulary: usize,
}

/// The events of a request. Dropping it cancels the request; its rows are free before the next run.
#[derive(Debug)]
pub struct Stream {
    shared: Arc<Shared>,
    id: RequestId,
    events: mpsc::Receiver<Event>,
    /// Whether the loop waits for the reader.
    paused: Arc<AtomicBool>,
    ended: bool,
}

/// What the loop and callers share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    work_came: Condvar,
    start: Instant,
    cores: Arc<Cores>,
    threads: usize,
}

#[derive(Debug)]
struct State {
    planner: Planner,
    /// Requests that were queued since the loop last looked.
    arrivals: HashMap<RequestId, Job>,
    /// Requests that were cancelled since then; the planner says nothing more of those that were queued.
    cancelled: Vec<RequestId>,
    /// What formats said since then.
    answers: Vec<(SequenceId, Answer)>,
    closing: bool,
    /// Whether the loop has ended.
    gone: bool,
}

/// Tells those that the loop has not seen that it never will. In a loop that panics, they would wait for ever.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.gone = true;
        state.arrivals.clear();
    }
}

impl Engine {
    /// Starts the loop.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    ///
    /// # Panics
    /// When the session's cache is smaller than the limits say.
    pub fn start(session: Box<dyn Decode>, settings: Settings, observer: Arc<dyn Observer>) -> io::Result<Self> {
        let (limits, extent) = (settings.limits, session.extent());
        assert!(extent.rows >= limits.rows() && extent.capacity >= limits.context_tokens, "{extent:?}: {limits:?}");
        let state = State {
            planner: Planner::new(limits),
            arrivals: HashMap::new(),
            cancelled: Vec::new(),
            answers: Vec::new(),
            closing: false,
            gone: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            work_came: Condvar::new(),
            start: Instant::now(),
            cores: settings.cores.clone(),
            threads: settings.threads,
        });
        let of_masks = shared.clone();
        let masks = Masks::start(move |id, answer| of_masks.answer(id, answer))?;
        let (of_loop, vocabulary) = (shared.clone(), settings.vocabulary.clone());
        let thread = thread::Builder::new().name("generation".to_owned());
        let thread = thread.spawn(move || {
            let end = End(of_loop);
            looping::work(&end.0, session, masks, &vocabulary, &*observer);
        })?;
        Ok(Self { shared, thread: Some(thread), settings, vocabulary: extent.vocabulary })
    }

    /// Queues a request.
    ///
    /// # Errors
    /// [`Rejected`] when it is not possible, or the queue may not hold it.
    pub fn submit(&self, work: Work) -> Result<Stream, Rejected> {
        self.check(&work)?;
        let class = work.class;
        let prompt: Arc<[u32]> = work.prompt.into();
        let request = Request {
            class: work.class,
            key: work.key.clone(),
            deadline: work.deadline.map(|deadline| self.shared.time(deadline)),
            prompt: prompt.clone(),
            max_tokens: work.max_tokens,
            choices: work.choices,
        };
        let own = if work.stop.ignore_eos { &[] } else { self.settings.stop_ids.as_slice() };
        let terms = Terms {
            sampling: Arc::new(work.sampling),
            stop_ids: own.iter().chain(&work.stop.token_ids).copied().collect(),
            stop: work.stop,
            format: work.format,
            max_tokens: work.max_tokens,
            class: work.class,
            key: work.key,
        };
        // A step sends an event for each choice, and the last one of all must always have room.
        let (sender, events) = mpsc::channel(self.settings.buffer.max(2 * (work.choices + 1)));
        let paused = Arc::new(AtomicBool::new(false));
        let job = Job::new(prompt, terms, work.choices, sender, paused.clone());
        let id = {
            let mut state = self.shared.lock();
            let id = state.planner.submit(self.shared.now(), request)?;
            if !state.gone {
                state.arrivals.insert(id, job);
            }
            id
        };
        self.shared.work_came.notify_one();
        if class == Class::Interactive {
            self.shared.cores.reconsider(); // the loop may wait for cores with batch work, and has this behind it
        }
        Ok(Stream { shared: self.shared.clone(), id, events, paused, ended: false })
    }

    fn check(&self, work: &Work) -> Result<(), Rejected> {
        let vocabulary = self.vocabulary;
        work.sampling.check(vocabulary)?;
        match work.prompt.iter().chain(&work.stop.token_ids).find(|id| **id as usize >= vocabulary) {
            Some(id) => Err(Rejected::UnknownToken { id: *id, vocabulary }),
            None => Ok(()),
        }
    }

    /// The bounds that it keeps.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    /// How much there is to do.
    #[must_use]
    pub fn load(&self) -> Load {
        self.shared.lock().planner.load()
    }

    /// Waits until everything queued has ended, and the session and every thread are gone.
    pub fn close(mut self) {
        self.shared.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there ended every stream with `Failure::Closed`
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Stream {
    /// The next event; `None` after the last one.
    pub async fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        let event = self.events.recv().await.unwrap_or(Event::Failed(Failure::Closed));
        self.ended = matches!(event, Event::Done(_) | Event::Failed(_));
        // Half empty is room for some steps: to go on sooner would be to pause again at once.
        let has_room = self.events.capacity() >= self.events.max_capacity() / 2;
        if has_room && self.paused.swap(false, Ordering::SeqCst) {
            self.shared.resume(self.id);
        }
        Some(event)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.cancel(self.id);
        }
    }
}

impl Shared {
    /// What formats said since the last call.
    pub(crate) fn answers(&self) -> Vec<(SequenceId, Answer)> {
        std::mem::take(&mut self.lock().answers)
    }

    /// Waits for something to do, or for what a format says. `None` once the engine is closing and nothing is left.
    pub(crate) fn next(&self, jobs: &mut HashMap<RequestId, Job>) -> Option<Decision> {
        let mut state = self.lock();
        loop {
            let decision = state.planner.next(self.now());
            jobs.extend(state.arrivals.drain());
            for id in state.cancelled.drain(..) {
                jobs.remove(&id);
            }
            let is_news = decision.run.is_some() || !decision.ended.is_empty() || !decision.changes.is_empty();
            if is_news || !state.answers.is_empty() {
                return Some(decision);
            }
            if state.closing && state.planner.is_empty() {
                return None;
            }
            let wait = decision.wake.map_or(Duration::MAX, |wake| wake.saturating_sub(self.now()));
            let woken = self.work_came.wait_timeout(state, wait);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for cores for a run of some class, or of a higher one that waits behind it.
    pub(crate) fn cores(&self, class: Class) -> Permit<'_> {
        // The cores' lock is taken first, and never while this state's is held.
        let interactive_waits = || self.lock().planner.has(Class::Interactive);
        let highest = || if class == Class::Batch && interactive_waits() { Class::Interactive } else { class };
        let mut permit = self.cores.acquire(self.threads, highest);
        if class == Class::Interactive {
            permit.will_come_back();
        }
        permit
    }

    /// Lets the planner take note of something.
    pub(crate) fn note<T>(&self, note: impl FnOnce(&mut Planner, Time) -> T) -> T {
        note(&mut self.lock().planner, self.now())
    }

    fn answer(&self, id: SequenceId, answer: Answer) {
        self.lock().answers.push((id, answer));
        self.work_came.notify_one();
    }

    fn resume(&self, id: RequestId) {
        self.lock().planner.resume(id);
        self.work_came.notify_one();
    }

    fn cancel(&self, id: RequestId) {
        let mut state = self.lock();
        state.planner.cancel(id);
        if state.arrivals.remove(&id).is_none() {
            state.cancelled.push(id);
        }
        drop(state);
        self.work_came.notify_one();
    }

    fn close(&self) {
        self.lock().closing = true;
        self.work_came.notify_one();
    }

    fn now(&self) -> Time {
        self.start.elapsed()
    }

    fn time(&self, moment: Instant) -> Time {
        moment.saturating_duration_since(self.start)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The planner's methods do not panic halfway, and a caller must not die of the loop's panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
