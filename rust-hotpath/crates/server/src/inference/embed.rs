//! `Embed`: a request's way from its message to its vectors.

use bytes::Bytes;
use hotpath_contract::inference::v1::{EmbedRequest, EmbedResponse, Timings};
use hotpath_encoding::Work;
use hotpath_runtime::shorten;

use super::shared::{Inference, count, duration};
use crate::{
    call::Call,
    error::Error,
    models::tasks::embedding::Embedder,
    requests::{self, Input},
    tokenization,
};

impl Inference {
    pub(super) async fn embed_inputs(&self, call: Call, request: EmbedRequest) -> Result<EmbedResponse, Error> {
        let model = self.models.find(&request.model)?;
        let (turn, max_charge) = requests::scheduling(request.scheduling)?;
        let inputs = requests::inputs(request.inputs, self.max_inputs)?;
        let serving = model.ready()?;
        let embedder = serving.embedder()?;
        let dimensions = requests::dimensions(request.dimensions, &embedder.task.dimensions)?;

        if let Some(at_least) = tokenization::at_least(&embedder.texts, &inputs, request.truncate) {
            self.check_room(&turn, model.name(), embedder, inputs.len(), at_least)?;
        }
        let (owner, truncate, bytes) = (embedder.texts.clone(), request.truncate, bytes_of(&inputs));
        let tokenizing = move |caller: &_| tokenization::ids(&owner, inputs, truncate, caller);
        let tokenized = call.in_span("tokenize", self.tokenization.run(&turn, bytes, tokenizing)).await?;
        max_charge.allows(tokenized.ids.iter().map(Vec::len).sum())?;
        let token_counts = tokenized.ids.iter().map(|ids| count(ids.len())).collect::<Result<_, _>>()?;
        let tokenize = call.started.elapsed();

        let work = Work { class: turn.class, key: turn.key, deadline: call.deadline, inputs: tokenized.ids };
        let done = self.run(&call, "Embed", model.name(), embedder, work).await?;
        let timings =
            Timings { tokenize: duration(tokenize), queue: duration(done.queue), inference: duration(done.inference) };
        Ok(EmbedResponse {
            revision: serving.revision().to_string(),
            dimensions,
            embeddings: little_endian(embedder, done.vectors, dimensions as usize),
            token_counts,
            truncated_inputs: tokenized.truncated,
            timings: Some(timings),
        })
    }
}

fn bytes_of(inputs: &[Input]) -> usize {
    let bytes = inputs.iter().map(|input| match input {
        Input::Text(text) => text.len(),
        Input::Ids(_) => 0, // nothing to tokenize
    });
    bytes.sum()
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
