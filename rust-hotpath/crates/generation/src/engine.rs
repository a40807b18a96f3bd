//! The planner with a lock, a clock, and the thread that owns the session.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering, fence},
    },
    thread,
};

use hotpath_cores::Cores;
use hotpath_fairness::{Class, Full, Key, Monitor};
use hotpath_runtime::Decode;
use hotpath_text::Vocabulary;
use tokio::sync::{mpsc, oneshot};

use crate::{
    chunks::Chunks,
    job::Job,
    masks::Masks,
    planner::{Limits, Load, Request, RequestId},
    run_loop::{self, Loop, Observer},
    sequence::SequenceParams,
    state::{Probe, Shared, State},
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
    settings: Settings,
    /// Token ids are below this.
    vocabulary: usize,
}

/// The events of a request. Dropping it cancels the request; its slots are free before the next run.
#[derive(Debug)]
pub struct Stream {
    shared: Arc<Shared>,
    /// `None` when the loop was dead before.
    id: Option<RequestId>,
    events: mpsc::Receiver<Event>,
    /// Whether the loop waits for the reader.
    paused: Arc<AtomicBool>,
    /// The runs that read its prompt.
    chunks: Chunks,
    ended: bool,
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
        assert!(extent.slots >= limits.slots() && extent.capacity >= limits.context_tokens, "{extent:?}: {limits:?}");
        let shared = Arc::new(Monitor::new(State::new(limits)));
        let masks = Masks::start(&shared, |shared, id, reply| {
            let _ = shared.change(|state, _| state.replies.push((id, reply))); // where it is dead nobody asks
            shared.wake();
        })?;
        let (vocabulary, cores) = (settings.vocabulary.clone(), settings.cores.clone());
        let run_loop = Loop::new(shared.clone(), session, masks, vocabulary, cores, settings.threads, observer);
        let thread = thread::Builder::new().name("generation".to_owned());
        shared.spawn(thread, run_loop, |_, run_loop| run_loop::work(run_loop))?;
        Ok(Self { shared, settings, vocabulary: extent.vocabulary })
    }

    /// Whether a request of at least so many tokens, prompt included, for each of its choices would be queued now: who knows no
    /// more of it yet need not find out.
    ///
    /// # Errors
    /// [`Full`] when the queue would not hold it.
    pub fn check_room(&self, class: Class, key: &Key, at_least: usize, choices: usize) -> Result<(), Full> {
        // What comes when it is dead is told so by what it is submitted to.
        self.shared.change(|state, _| state.planner.check(class, key, at_least, choices)).unwrap_or(Ok(()))
    }

    /// Queues a request.
    ///
    /// # Errors
    /// [`Rejected`] when it is not possible, or the queue may not hold it.
    pub fn submit(&self, work: Work) -> Result<Stream, Rejected> {
        self.check(&work)?;
        let (class, anonymous) = (work.class, work.key.is_anonymous());
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
        let params = SequenceParams {
            sampling: Arc::new(work.sampling),
            stop_ids: own.iter().chain(&work.stop.token_ids).copied().collect(),
            stop: work.stop,
            format: work.format,
            max_tokens: work.max_tokens,
            draft_tokens: self.settings.limits.draft_tokens,
            class: work.class,
            key: work.key,
        };
        // A step sends an event for each choice, and the last one of all must always have room.
        let (sender, events) = mpsc::channel(self.settings.buffer.max(2 * (work.choices + 1)));
        let paused = Arc::new(AtomicBool::new(false));
        let job = Job::new(prompt, params, work.choices, sender, paused.clone());
        let chunks = job.chunks.clone();
        let queued = self.shared.change(|state, now| {
            let id = state.planner.submit(now, request)?;
            state.arrivals.insert(id, job);
            Ok::<_, Rejected>(id)
        });
        // What comes when it is dead is told so as what waited is.
        let id = queued.ok().transpose()?;
        self.shared.wake();
        if class == Class::Interactive {
            self.settings.cores.interactive_arrived(anonymous); // the loop may wait for cores for batch work
        }
        Ok(Stream { shared: self.shared.clone(), id, events, paused, chunks, ended: false })
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
        self.shared.change(|state, _| state.planner.load()).unwrap_or_default()
    }

    /// How fast it does that, as measured: 0 before anything ran.
    #[must_use]
    pub fn tokens_per_second(&self) -> f64 {
        self.shared.change(|state, _| state.planner.tokens_per_second()).unwrap_or_default()
    }

    /// Reads a prompt's first tokens in a slot of its own, between two runs: a sign of life that waits behind no request,
    /// whoever holds all places. A later probe takes the place of one that was not begun.
    ///
    /// # Errors
    /// [`Failure::RunFailed`], and [`Failure::Died`] also for one whose place was taken.
    pub async fn probe(&self, prompt: &[u32]) -> Result<(), Failure> {
        let (outcome, done) = oneshot::channel();
        let prompt = prompt[..prompt.len().min(self.settings.limits.chunk_tokens)].to_vec();
        let _ = self.shared.change(|state, _| state.probe = Some(Probe { prompt, outcome })); // dropped where it is dead
        self.shared.wake();
        done.await.unwrap_or_else(|_| Err(died(&self.shared)))
    }

    /// Lets go of what is kept for requests to come, of which there will be few: another engine takes over. What runs and waits
    /// goes on, and gives its memory back as it ends.
    pub fn retire(&self) {
        let _ = self.shared.change(|state, _| state.planner.retire()); // where it is dead nothing is kept
        self.shared.wake();
    }

    /// Why nothing will run any more, if that is so: for the log and for operators.
    #[must_use]
    pub fn dead(&self) -> Option<String> {
        self.shared.dead().map(|dead| dead.to_string())
    }

    /// Waits until everything queued has ended, and the session and every thread are gone.
    pub fn close(self) {
        self.shared.close();
        self.shared.join();
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
        let event = self.events.recv().await.unwrap_or_else(|| Event::Failed(died(&self.shared)));
        self.ended = matches!(event, Event::Done(_) | Event::Failed(_));
        // Half empty is room for some steps: to go on sooner would be to pause again at once.
        let has_room = self.events.capacity() >= self.events.max_capacity() / 2;
        // The loop sets `paused` and then looks for room, this makes room and then looks at `paused`: with a fence between
        // the two on both sides, at least one of them sees what the other did.
        fence(Ordering::SeqCst);
        if has_room && self.paused.swap(false, Ordering::SeqCst) {
            change(&self.shared, self.id, |state, id| state.planner.resume(id));
        }
        Some(event)
    }

    /// The runs that read the prompt, as they come to be: those before an event are there once it is told.
    #[must_use]
    pub fn chunks(&self) -> Chunks {
        self.chunks.clone()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.ended {
            change(&self.shared, self.id, |state, id| {
                state.planner.cancel(id);
                if state.arrivals.remove(&id).is_none() {
                    state.cancelled.push(id);
                }
            });
        }
    }
}

/// Why a stream got no end.
fn died(shared: &Shared) -> Failure {
    let cause = shared.dead().map(|dead| dead.to_string());
    Failure::Died(cause.unwrap_or_else(|| "it dropped the request".to_owned()))
}

/// Lets the planner take note of what a stream does, and the loop know. Where that is dead, nothing is left of the stream.
fn change(shared: &Shared, id: Option<RequestId>, work: impl FnOnce(&mut State, RequestId)) {
    if let Some(id) = id {
        let _ = shared.change(|state, _| work(state, id));
        shared.wake();
    }
}
