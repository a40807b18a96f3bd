//! `ModelService`: which models there are, ready or not.

use hotpath_contract::inference::v1::{
    Limits, ListModelsRequest, ListModelsResponse, Model as Description, Task, model_service_server::ModelService,
};
use tonic::{Request, Response, Status};

use crate::models::{Model, Models};

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
        task: Task::Embedding.into(),
        state: now.state.into(),
        status_message: now.message,
        ..Description::default()
    };
    if let Some(serving) = now.serving {
        let manifest = &serving.bundle.manifest;
        description.revision = serving.bundle.revision.to_string();
        serving.precision().clone_into(&mut description.precision);
        description.create_time = Some(serving.bundle.create_time.into());
        description.owner.clone_from(&manifest.source.owner);
        description.dimensions.clone_from(&manifest.embedding.dimensions);
        description.limits = Some(Limits {
            max_tokens: manifest.tokenizer.max_tokens,
            max_inputs: u32::try_from(max_inputs).unwrap_or(u32::MAX),
            vocabulary_size: manifest.tokenizer.vocabulary_size,
        });
    }
    description
}
