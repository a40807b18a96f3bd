//! A worker: takes a core and then a batch, runs it on its session, answers. What goes wrong in a run stays in that run.

use std::{
    slice,
    sync::Arc,
    time::{Duration, Instant},
};

use hotpath_cores::Cores;
use hotpath_fairness::fenced;
use hotpath_runtime::Encode;

use crate::{
    job::Failure,
    state::{Shared, Ticket, cancel, core, finished, next_batch, wait},
};

/// Sees every run of a session.
pub trait Observer: Send + Sync {
    /// A run begins. Called by workers, as the next is: neither may wait.
    fn begins(&self) {}

    /// A run has ended.
    fn ran(&self, run: &Run);
}

/// One run of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its inputs.
    pub inputs: usize,
    /// Their tokens.
    pub tokens: usize,
    /// How long it took.
    pub took: Duration,
    /// Why it failed. A batch that failed runs again, one input at a time.
    pub error: Option<String>,
}

/// What a worker owns. If it dies, those who wait for its batch are told why before the batch is dropped.
pub(crate) struct Worker {
    session: Box<dyn Encode>,
    cores: Arc<Cores>,
    observer: Arc<dyn Observer>,
    batch: Vec<Ticket>,
}

impl Worker {
    pub(crate) fn new(session: Box<dyn Encode>, cores: Arc<Cores>, observer: Arc<dyn Observer>) -> Self {
        Self { session, cores, observer, batch: Vec::new() }
    }
}

/// Works until the scheduler is closed and nothing is queued, or it is dead.
pub(crate) fn work(shared: &Arc<Shared>, worker: &mut Worker) {
    while wait(shared) {
        let core = core(shared, &worker.cores);
        worker.batch = next_batch(shared, &core);
        if worker.batch.is_empty() {
            continue;
        }
        let began = Instant::now();
        for ticket in &worker.batch {
            ticket.job.begin(began);
        }
        let outcomes = run(&mut *worker.session, &*worker.observer, &worker.batch);
        drop(core);
        let tokens = worker.batch.iter().map(|ticket| ticket.item.tokens).sum();
        finished(shared, worker.batch.len(), tokens, began.elapsed());
        for (ticket, outcome) in worker.batch.iter().zip(outcomes) {
            match outcome {
                Ok(vector) => ticket.job.complete(ticket.item.input, vector),
                Err(cause) => {
                    ticket.job.fail(Failure::RunFailed { input: ticket.item.input, cause });
                    cancel(shared, ticket.item.request);
                }
            }
        }
        worker.batch.clear();
    }
}

/// Runs a batch, and where it fails each of its inputs alone, so that a bad one fails alone.
fn run(session: &mut dyn Encode, observer: &dyn Observer, batch: &[Ticket]) -> Vec<Result<Vec<f32>, String>> {
    match attempt(session, observer, batch) {
        Ok(vectors) => vectors.into_iter().map(Ok).collect(),
        Err(cause) if batch.len() == 1 => vec![Err(cause)],
        Err(_) => batch.iter().flat_map(|ticket| run(session, observer, slice::from_ref(ticket))).collect(),
    }
}

fn attempt(session: &mut dyn Encode, observer: &dyn Observer, batch: &[Ticket]) -> Result<Vec<Vec<f32>>, String> {
    let texts: Vec<&[u32]> = batch.iter().map(|ticket| ticket.job.input(ticket.item.input)).collect();
    let began = Instant::now();
    let _ = fenced(|| observer.begins()); // what it makes of a run is no part of the run
    // A session keeps nothing from one run to the next but buffers, which each run fills anew: a panic leaves it usable.
    let outcome = match fenced(|| session.encode(&texts)) {
        Ok(Ok(vectors)) if vectors.len() == texts.len() => Ok(vectors),
        Ok(Ok(vectors)) => Err(format!("{} vectors for {} inputs", vectors.len(), texts.len())),
        Ok(Err(error)) => Err(error.0),
        Err(panic) => Err(panic),
    };
    let run = Run {
        inputs: batch.len(),
        tokens: batch.iter().map(|ticket| ticket.item.tokens).sum(),
        took: began.elapsed(),
        error: outcome.as_ref().err().cloned(),
    };
    let _ = fenced(|| observer.ran(&run));
    outcome
}
