//! `ModelService`: which models there are, ready or not.

use hotpath_contract::inference::v1::{
    Limits, ListModelsRequest, ListModelsResponse, Model as Description, model_service_server::ModelService,
};
use tonic::{Request, Response, Status};

use crate::models::{Model, Models, serving::Worker};

/// The service.
#[derive(Debug)]
pub struct ModelList {
    /// What it lists.
    pub models: Models,
    /// Most inputs of a request.
    pub max_inputs: usize,
}

#[tonic::async_trait]
impl ModelService for ModelList {
    async fn list_models(&self, _: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        let models = self.models.iter().map(|model| describe(model, self.max_inputs)).collect();
        Ok(Response::new(ListModelsResponse { models }))
    }
}

fn describe(model: &Model, max_inputs: usize) -> Description {
    let now = model.now();
    let mut description = Description {
        name: model.name().to_owned(),
        task: now.task.into(),
        state: now.state.into(),
        status_message: now.message,
        ..Description::default()
    };
    if let Some(serving) = now.serving {
        let manifest = &serving.bundle.manifest;
        description.task = serving.task().into();
        description.revision = serving.bundle.revision.to_string();
        serving.precision().clone_into(&mut description.precision);
        description.create_time = Some(serving.bundle.create_time.into());
        description.owner.clone_from(&manifest.source.owner);
        let mut limits = Limits { max_inputs: number(max_inputs), ..Limits::default() };
        if let Ok(texts) = serving.texts() {
            limits.max_tokens = texts.limits.max_tokens;
            limits.vocabulary_size = texts.limits.vocabulary_size;
        }
        match &serving.worker {
            Worker::Embedding(embedder) => description.dimensions.clone_from(&embedder.task.dimensions),
            Worker::Generation(generator) => {
                limits.max_tokens = number(generator.max_tokens());
                limits.max_choices = number(generator.max_choices);
                description.default_max_tokens = number(generator.default_max_tokens);
                description.chat = generator.chat.is_some();
            }
            // Texts of any length, and no token ids: the limits above are its encoder's.
            Worker::Classification(_) => (limits.max_tokens, limits.vocabulary_size) = (0, 0),
        }
        description.limits = Some(limits);
    }
    description
}

fn number(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}
