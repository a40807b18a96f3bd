//! `InferenceService`: a request's way from its message to its reply.

use std::sync::Arc;

use bytes::Bytes;
use hotpath_contract::inference::v1::{
    ClassifyRequest, ClassifyResponse, EmbedRequest, EmbedResponse, GenerateRequest, Timings, TokenizeRequest,
    TokenizeResponse, inference_service_server::InferenceService,
};
use hotpath_encoding::{Done, Work};
use hotpath_runtime::shorten;
use tonic::{Request, Response, Status};

use crate::{
    call::Call,
    error::Error,
    generate::Replies,
    metrics::{Metrics, Outcome},
    models::{Models, embedding::Embedder},
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

    type GenerateStream = Replies;

    async fn generate(&self, request: Request<GenerateRequest>) -> Result<Response<Replies>, Status> {
        let call = Call::of(request.extensions());
        Ok(Response::new(self.generate_replies(call, request.into_inner()).await?))
    }

    async fn classify(&self, request: Request<ClassifyRequest>) -> Result<Response<ClassifyResponse>, Status> {
        let call = Call::of(request.extensions());
        Ok(Response::new(self.classify_texts(call, request.into_inner()).await?))
    }
}

impl Inference {
    async fn embed_inputs(&self, call: Call, request: EmbedRequest) -> Result<EmbedResponse, Error> {
        let model = self.models.find(&request.model)?;
        let turn = requests::turn(request.scheduling)?;
        let inputs = requests::inputs(request.inputs, self.max_inputs)?;
        let serving = model.ready()?;
        let embedder = serving.embedder()?;
        let dimensions = requests::dimensions(request.dimensions, &embedder.task.dimensions)?;

        let (owner, truncate, bytes) = (embedder.texts.clone(), request.truncate, bytes_of(&inputs));
        let tokenizing = move |caller: &_| tokenization::ids(&owner, inputs, truncate, caller);
        let tokenized = call.within_deadline(self.tokenization.run(&turn, bytes, tokenizing)).await?;
        let token_counts = tokenized.ids.iter().map(|ids| count(ids.len())).collect::<Result<_, _>>()?;
        let tokenize = call.started.elapsed();

        let work = Work { class: turn.class, key: turn.key, deadline: call.deadline, inputs: tokenized.ids };
        let done = self.run(&call, "Embed", model.name(), embedder, work).await?;
        let timings =
            Timings { tokenize: duration(tokenize), queue: duration(done.queue), inference: duration(done.inference) };
        Ok(EmbedResponse {
            revision: serving.bundle.revision.to_string(),
            dimensions,
            embeddings: little_endian(embedder, done.vectors, dimensions as usize),
            token_counts,
            truncated_inputs: tokenized.truncated,
            timings: Some(timings),
        })
    }

    /// Runs inputs and counts what became of them, also when the call is dropped meanwhile.
    pub(crate) async fn run(
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

    async fn tokenize_texts(&self, call: Call, request: TokenizeRequest) -> Result<TokenizeResponse, Error> {
        let model = self.models.find(&request.model)?;
        let turn = requests::turn(request.scheduling)?;
        requests::texts(&request.texts, self.max_inputs)?;
        let serving = model.ready()?;
        let bytes = request.texts.iter().map(String::len).sum();
        let texts = serving.texts()?;
        let tokenizing = move |caller: &_| tokenization::tokens(&texts, &request.texts, caller);
        let texts = call.within_deadline(self.tokenization.run(&turn, bytes, tokenizing)).await?;
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

/// A duration as it travels.
pub(crate) fn duration(took: std::time::Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(took).ok()
}

pub(crate) fn count(tokens: usize) -> Result<u32, Error> {
    u32::try_from(tokens).map_err(|error| Error::Internal { cause: error.to_string() })
}

/// The vectors as they travel: [inputs, dimensions] float32, little-endian, row-major.
fn little_endian(embedder: &Embedder, vectors: Vec<Vec<f32>>, dimensions: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(4 * vectors.len() * dimensions);
    for mut vector in vectors {
        shorten(&mut vector, dimensions, embedder.task.normalize);
        bytes.extend(vector.iter().flat_map(|x| x.to_le_bytes()));
    }
    bytes.into()
}
