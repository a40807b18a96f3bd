//! What the methods of the service share.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hotpath_encoding::{Done, Work};
use hotpath_fairness::Turn;

use crate::{
    call::Call,
    error::Error,
    metrics::{Metrics, Outcome},
    models::{Models, tasks::embedding::Embedder},
    tokenization::Tokenization,
    traces::{CANCELLED, Trace, after, conventions},
};

/// The service.
#[derive(Debug)]
pub struct Inference {
    /// What requests may name.
    pub models: Models,
    /// Where texts are tokenized.
    pub tokenization: Tokenization,
    /// Most inputs of a request.
    pub max_inputs: usize,
    /// Counts inputs.
    pub metrics: Arc<Metrics>,
}

impl Inference {
    /// Refuses some inputs while that costs little: before they are tokenized, where the least tokens that they may have do not
    /// find room. They are counted as refused.
    pub(super) fn check_room(
        &self,
        turn: &Turn,
        model: &str,
        embedder: &Embedder,
        inputs: usize,
        at_least: usize,
    ) -> Result<(), Error> {
        let room = embedder.scheduler.check_room(turn.class, &turn.key, at_least);
        room.inspect_err(|_| self.metrics.inputs(model, Outcome::Refused, inputs))?;
        Ok(())
    }

    /// Runs inputs and counts what became of them, also when the call is dropped meanwhile.
    pub(super) async fn run(
        &self,
        call: &Call,
        method: &'static str,
        model: &str,
        embedder: &Embedder,
        work: Work,
    ) -> Result<Done, Error> {
        let mut ending =
            Ending { metrics: &self.metrics, model, inputs: work.inputs.len(), outcome: Outcome::Cancelled };
        let mut recording = call.trace.as_deref().map(|trace| Recording::new(trace, model, &work));
        let running = async { Ok(embedder.scheduler.submit(work)?.result().await?) };
        let result = call.within_deadline(running).await;
        ending.outcome = Outcome::of(&result);
        if let Some(recording) = &mut recording {
            recording.result = result.as_ref().map(|done| (done.queue, done.inference)).map_err(Error::reason_name);
        }
        if let Ok(done) = &result {
            self.metrics.queued(model, method, done.queue.as_secs_f64(), call.trace.as_deref());
        }
        result
    }
}

/// Records where the time of a request's inputs went, when it ends; one that is dropped was cancelled.
struct Recording<'a> {
    trace: &'a Trace,
    model: &'a str,
    inputs: usize,
    tokens: usize,
    queued: Instant,
    result: Result<(Duration, Duration), &'static str>,
}

impl<'a> Recording<'a> {
    fn new(trace: &'a Trace, model: &'a str, work: &Work) -> Self {
        let (inputs, tokens) = (work.inputs.len(), work.inputs.iter().map(Vec::len).sum());
        Self { trace, model, inputs, tokens, queued: Instant::now(), result: Err(CANCELLED) }
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        match self.result {
            Ok((queue, inference)) => {
                let runs = after(self.queued, queue);
                self.trace.child("queue", self.queued, runs).end(None);
                let what = [
                    conventions::model(self.model),
                    conventions::inputs(self.inputs),
                    conventions::tokens(self.tokens),
                ];
                self.trace.child("inference", runs, after(runs, inference)).with(what).end(None);
            }
            Err(reason) => self.trace.child("queue", self.queued, Instant::now()).end(Some(reason)),
        }
    }
}

/// Counts inputs when their request ends; one that is dropped was cancelled.
struct Ending<'a> {
    metrics: &'a Metrics,
    model: &'a str,
    inputs: usize,
    outcome: Outcome,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.metrics.inputs(self.model, self.outcome, self.inputs);
    }
}

/// A duration as it travels.
pub(super) fn duration(took: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(took).ok()
}

/// A number of tokens as it travels.
pub(super) fn count(tokens: usize) -> Result<u32, Error> {
    u32::try_from(tokens).map_err(|error| Error::Internal { cause: error.to_string() })
}
