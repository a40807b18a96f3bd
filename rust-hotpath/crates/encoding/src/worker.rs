//! A worker: takes a batch, runs it on its session, answers. What goes wrong in a run stays in that run.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    slice,
    time::{Duration, Instant},
};

use hotpath_runtime::Encode;

use crate::{
    job::Failure,
    scheduler::{Shared, Ticket},
};

/// Sees every run of a session.
pub trait Observer: Send + Sync {
    /// A run has ended. Called by workers, between batches: it must not wait.
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

/// Works until the scheduler is closed and nothing is queued.
pub(crate) fn work(shared: &Shared, mut session: Box<dyn Encode>) {
    while let Some(batch) = shared.next_batch() {
        let core = batch.first().map(|ticket| shared.core(ticket.job.class));
        let began = Instant::now();
        for ticket in &batch {
            ticket.job.begin(began);
        }
        let outcomes = run(shared, &mut *session, &batch);
        drop(core);
        let tokens = batch.iter().map(|ticket| ticket.item.tokens).sum();
        shared.finished(batch.len(), tokens, began.elapsed());
        for (ticket, outcome) in batch.iter().zip(outcomes) {
            match outcome {
                Ok(vector) => ticket.job.complete(ticket.item.input, vector),
                Err(cause) => {
                    ticket.job.fail(Failure::RunFailed { input: ticket.item.input, cause });
                    shared.cancel(ticket.item.request);
                }
            }
        }
    }
}

/// Runs a batch, and where it fails each of its inputs alone, so that a bad one fails alone.
fn run(shared: &Shared, session: &mut dyn Encode, batch: &[Ticket]) -> Vec<Result<Vec<f32>, String>> {
    match attempt(shared, session, batch) {
        Ok(vectors) => vectors.into_iter().map(Ok).collect(),
        Err(cause) if batch.len() == 1 => vec![Err(cause)],
        Err(_) => batch.iter().flat_map(|ticket| run(shared, session, slice::from_ref(ticket))).collect(),
    }
}

fn attempt(shared: &Shared, session: &mut dyn Encode, batch: &[Ticket]) -> Result<Vec<Vec<f32>>, String> {
    let texts: Vec<&[u32]> = batch.iter().map(|ticket| ticket.job.input(ticket.item.input)).collect();
    let began = Instant::now();
    // A session keeps nothing from one run to the next but buffers, which each run fills anew: a panic leaves it usable.
    let outcome = match catch_unwind(AssertUnwindSafe(|| session.encode(&texts))) {
        Ok(Ok(vectors)) if vectors.len() == texts.len() => Ok(vectors),
        Ok(Ok(vectors)) => Err(format!("{} vectors for {} inputs", vectors.len(), texts.len())),
        Ok(Err(error)) => Err(error.0),
        Err(panic) => Err(format!("panic: {}", message(&*panic))),
    };
    shared.observe(&Run {
        inputs: batch.len(),
        tokens: batch.iter().map(|ticket| ticket.item.tokens).sum(),
        took: began.elapsed(),
        error: outcome.as_ref().err().cloned(),
    });
    outcome
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}
