//! `ModelService`: which models there are, ready or not.

use hotpath_contract::inference::v1::{
    Limits, ListModelsRequest, ListModelsResponse, Model as Description, model_service_server::ModelService,
};
use tonic::{Request, Response, Status};

use crate::models::{
    Model, Models,
    tasks::{kind, saturated},
};

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
        let source = &serving.source;
        description.task = kind(&source.bundle.manifest.task).into();
        description.revision = serving.revision().to_string();
        source.precision().clone_into(&mut description.precision);
        description.create_time = Some(source.bundle.create_time.into());
        description.owner.clone_from(&source.bundle.manifest.source.owner);
        description.limits = Some(Limits { max_inputs: saturated(max_inputs), ..Limits::default() });
        serving.task().describe(&mut description);
    }
    description
}
