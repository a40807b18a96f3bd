//! `InferenceService`: a request's way from its message to its reply.

use std::sync::Arc;

use bytes::Bytes;
use hotpath_contract::inference::v1::{
    EmbedRequest, EmbedResponse, Timings, TokenizeRequest, TokenizeResponse, inference_service_server::InferenceService,
};
use hotpath_runtime::shorten;
use hotpath_scheduler::{Done, Work};
use tonic::{Request, Response, Status};

use crate::{
    call::Call,
    error::Error,
    metrics::{Metrics, Outcome},
    models::{Models, serving::Serving},
    requests::{self, Input},
    tokenization::{self, Tokenization},
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

#[tonic::async_trait]
impl InferenceService for Inference {
    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        let call = Call::of(request.extensions());
        Ok(Response::new(self.embed_inputs(call, request.into_inner()).await?))
    }

    async fn tokenize(&self, request: Request<TokenizeRequest>) -> Result<Response<TokenizeResponse>, Status> {
        let call = Call::of(request.extensions());
        Ok(Response::new(self.tokenize_texts(call, request.into_inner()).await?))
    }
}

impl Inference {
    async fn embed_inputs(&self, call: Call, request: EmbedRequest) -> Result<EmbedResponse, Error> {
        let model = self.models.find(&request.model)?;
        let turn = requests::turn(request.scheduling)?;
        let inputs = requests::inputs(request.inputs, self.max_inputs)?;
        let serving = model.ready()?;
        let dimensions = requests::dimensions(request.dimensions, &serving.bundle.manifest.embedding.dimensions)?;

        let (owner, truncate, bytes) = (serving.clone(), request.truncate, bytes_of(&inputs));
        let tokenizing = move |caller: &_| tokenization::ids(&owner, inputs, truncate, caller);
        let tokenized = call.within_deadline(self.tokenization.run(bytes, tokenizing)).await?;
        let token_counts = tokenized.ids.iter().map(|ids| count(ids.len())).collect::<Result<_, _>>()?;
        let tokenize = call.started.elapsed();

        let work = Work { class: turn.class, key: turn.key, deadline: call.deadline, inputs: tokenized.ids };
        let done = self.run(call, model.name(), &serving, work).await?;
        let timings = Timings {
            tokenize: prost_types::Duration::try_from(tokenize).ok(),
            queue: prost_types::Duration::try_from(done.queue).ok(),
            inference: prost_types::Duration::try_from(done.inference).ok(),
        };
        Ok(EmbedResponse {
            revision: serving.bundle.revision.to_string(),
            dimensions,
            embeddings: little_endian(&serving, done.vectors, dimensions as usize),
            token_counts,
            truncated_inputs: tokenized.truncated,
            timings: Some(timings),
        })
    }

    /// Runs inputs and counts what became of them, also when the call is dropped meanwhile.
    async fn run(&self, call: Call, model: &str, serving: &Serving, work: Work) -> Result<Done, Error> {
        let mut ending =
            Ending { metrics: &self.metrics, model, inputs: work.inputs.len(), outcome: Outcome::Cancelled };
        let running = async { Ok(serving.scheduler.submit(work)?.result().await?) };
        let result = call.within_deadline(running).await;
        ending.outcome = match &result {
            Ok(_) => Outcome::Completed,
            Err(Error::DeadlineExceeded) => Outcome::Expired,
            Err(Error::QueueFull { .. } | Error::WaitedTooLong { .. }) => Outcome::Refused,
            Err(_) => Outcome::Failed,
        };
        if let Ok(done) = &result {
            self.metrics.queued(done.queue.as_secs_f64());
        }
        result
    }

    async fn tokenize_texts(&self, call: Call, request: TokenizeRequest) -> Result<TokenizeResponse, Error> {
        let model = self.models.find(&request.model)?;
        requests::texts(&request.texts, self.max_inputs)?;
        let serving = model.ready()?;
        let bytes = request.texts.iter().map(String::len).sum();
        let tokenizing = move |caller: &_| tokenization::tokens(&serving, &request.texts, caller);
        let texts = call.within_deadline(self.tokenization.run(bytes, tokenizing)).await?;
        Ok(TokenizeResponse { texts })
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

fn bytes_of(inputs: &[Input]) -> usize {
    let bytes = inputs.iter().map(|input| match input {
        Input::Text(text) => text.len(),
        Input::Ids(_) => 0, // nothing to tokenize
    });
    bytes.sum()
}

fn count(tokens: usize) -> Result<u32, Error> {
    u32::try_from(tokens).map_err(|error| Error::Internal { cause: error.to_string() })
}

/// The vectors as they travel: [inputs, dimensions] float32, little-endian, row-major.
fn little_endian(serving: &Serving, vectors: Vec<Vec<f32>>, dimensions: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(4 * vectors.len() * dimensions);
    for mut vector in vectors {
        shorten(&mut vector, dimensions, serving.bundle.manifest.embedding.normalize);
        bytes.extend(vector.iter().flat_map(|x| x.to_le_bytes()));
    }
    bytes.into()
}
