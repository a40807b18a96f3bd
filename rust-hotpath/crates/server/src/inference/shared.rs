//! What the methods of the service share.

use std::{sync::Arc, time::Duration};

use hotpath_encoding::{Done, Work};
use hotpath_fairness::Turn;

use crate::{
    call::Call,
    error::Error,
    metrics::{Metrics, Outcome},
    models::{Models, tasks::embedding::Embedder},
    tokenization::Tokenization,
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
        let running = async { Ok(embedder.scheduler.submit(work)?.result().await?) };
        let result = call.within_deadline(running).await;
        ending.outcome = Outcome::of(&result);
        if let Ok(done) = &result {
            self.metrics.queued(model, method, done.queue.as_secs_f64());
        }
        result
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
