//! `ModelService`: which models there are, ready or not, and how much they have to do.

use std::{future::ready, time::Duration};

use futures_util::{StreamExt, stream::BoxStream};
use hotpath_contract::inference::v1::{
    Limits, ListModelsRequest, ListModelsResponse, Model as Description, ModelLoad, WatchLoadRequest,
    WatchLoadResponse, model_service_server::ModelService,
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::IntervalStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::models::{
    Model, Models,
    tasks::{kind, saturated},
};

/// How often the load is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// The service.
#[derive(Debug)]
pub struct ModelList {
    /// What it lists.
    pub models: Models,
    /// Most inputs of a request.
    pub max_inputs: usize,
    /// Once cancelled, nobody watches any longer.
    pub draining: CancellationToken,
}

#[tonic::async_trait]
impl ModelService for ModelList {
    async fn list_models(&self, _: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        let models = self.models.iter().map(|model| describe(model, self.max_inputs)).collect();
        Ok(Response::new(ListModelsResponse { models }))
    }

    type WatchLoadStream = BoxStream<'static, Result<WatchLoadResponse, Status>>;

    async fn watch_load(&self, _: Request<WatchLoadRequest>) -> Result<Response<Self::WatchLoadStream>, Status> {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (models, mut said) = (self.models.clone(), None);
        let changes = IntervalStream::new(ticks).filter_map(move |_| {
            let now = WatchLoadResponse { models: models.iter().filter_map(|model| load(model)).collect() };
            let news = (said.as_ref() != Some(&now)).then(|| said.insert(now).clone());
            ready(news.map(Ok))
        });
        Ok(Response::new(changes.take_until(self.draining.clone().cancelled_owned()).boxed()))
    }
}

/// How much a model has to do; `None` when it cannot serve.
fn load(model: &Model) -> Option<ModelLoad> {
    let serving = model.now().serving?;
    Some(ModelLoad { model: model.name().to_owned(), ..serving.task().workload() })
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
        source.reason.clone_into(&mut description.precision_reason);
        description.create_time = Some(source.bundle.create_time.into());
        description.owner.clone_from(&source.bundle.manifest.source.owner);
        description.limits = Some(Limits { max_inputs: saturated(max_inputs), ..Limits::default() });
        serving.task().describe(&mut description);
    }
    description
}
