//! One request on its way through the workers: its ids, its results as they come, and who waits for them.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

/// A request's results.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// One vector for each input, in their order.
    pub vectors: Vec<Vec<f32>>,
    /// From queueing until the first input's run began.
    pub queue: Duration,
    /// From then until the last input's result.
    pub inference: Duration,
}

/// Why a request that was admitted has no results.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Its deadline passed while it was queued.
    #[error("the deadline passed in the queue")]
    DeadlineExceeded,
    /// It was queued for too long.
    #[error("queued for too long")]
    WaitedTooLong {
        /// When the queue will have drained, going by the measured rate.
        retry_after: Duration,
    },
    /// The run of one of its inputs failed, alone too.
    #[error("input {input}: {cause}")]
    RunFailed {
        /// Index of the input.
        input: usize,
        /// For the log, not for callers.
        cause: String,
    },
    /// The scheduler died: why. For the log, not for callers.
    #[error("the scheduler died: {0}")]
    Died(String),
}

/// What becomes of a request.
pub(crate) type Reply = Result<Done, Failure>;

/// A request that is queued or runs.
#[derive(Debug)]
pub(crate) struct Job {
    inputs: Vec<Vec<u32>>,
    queued: Instant,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    vectors: Vec<Vec<f32>>,
    left: usize,
    began: Option<Instant>,
    /// Gone once the request was answered, or nobody waits.
    reply: Option<oneshot::Sender<Reply>>,
}

impl Job {
    pub(crate) fn new(inputs: Vec<Vec<u32>>, queued: Instant) -> (Self, oneshot::Receiver<Reply>) {
        let (sender, receiver) = oneshot::channel();
        let vectors = vec![Vec::new(); inputs.len()];
        let progress = Progress { vectors, left: inputs.len(), began: None, reply: Some(sender) };
        (Self { inputs, queued, progress: Mutex::new(progress) }, receiver)
    }

    pub(crate) fn input(&self, index: usize) -> &[u32] {
        &self.inputs[index]
    }

    /// Takes note that the run of one of the inputs begins.
    pub(crate) fn begin(&self, now: Instant) {
        self.progress().began.get_or_insert(now);
    }

    /// Takes one input's vector; the last one answers the request.
    pub(crate) fn complete(&self, index: usize, vector: Vec<f32>) {
        let mut progress = self.progress();
        progress.vectors[index] = vector;
        progress.left -= 1;
        if progress.left > 0 {
            return;
        }
        let now = Instant::now();
        let began = progress.began.unwrap_or(now);
        let vectors = std::mem::take(&mut progress.vectors);
        let done = Done { vectors, queue: began - self.queued, inference: now - began };
        answer(&mut progress, Ok(done));
    }

    /// Answers the request with a failure, unless it was answered before.
    pub(crate) fn fail(&self, failure: Failure) {
        answer(&mut self.progress(), Err(failure));
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        // Nothing that holds the lock leaves it half changed, so a panic elsewhere does no harm to what it guards.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer(progress: &mut Progress, reply: Reply) {
    if let Some(sender) = progress.reply.take() {
        let _ = sender.send(reply); // the caller may be gone, which is its right
    }
}
