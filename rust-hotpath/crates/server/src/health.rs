//! `grpc.health.v1`: one service name for each model, and the empty one for all of them.

use std::sync::Arc;

use hotpath_contract::inference::v1::ModelState;
use tokio::sync::Mutex;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::models::{Model, Models};

/// Tells the health service how the models are.
#[derive(Debug, Clone)]
pub struct Health {
    reporter: HealthReporter,
    models: Models,
    /// Held from looking at the models until that is told, so that what is told last is what was seen last.
    telling: Arc<Mutex<()>>,
}

impl Health {
    /// Nothing serves yet.
    pub async fn new(reporter: HealthReporter, models: Models) -> Self {
        let health = Self { reporter, models, telling: Arc::default() };
        health.nothing_serves().await;
        health
    }

    /// Tells of one model, and so of all. Those who watch hear of it even if it is no news: call it for news alone.
    pub async fn tell(&self, model: &Model) {
        let _telling = self.telling.lock().await;
        let ready = model.now().state == ModelState::Ready;
        self.reporter.set_service_status(service(model), status(ready)).await;
        self.reporter.set_service_status("", status(self.models.all_ready())).await;
    }

    /// Tells that nothing serves.
    pub async fn nothing_serves(&self) {
        self.reporter.set_service_status("", ServingStatus::NotServing).await;
        for model in self.models.iter() {
            self.reporter.set_service_status(service(model), ServingStatus::NotServing).await;
        }
    }

    /// Ends the streams of those who watch, which would keep their connections open.
    pub async fn end(mut self) {
        self.reporter.clear_service_status("").await;
        for model in self.models.clone().iter() {
            self.reporter.clear_service_status(&service(model)).await;
        }
    }
}

fn service(model: &Model) -> String {
    format!("model/{}", model.name())
}

fn status(ready: bool) -> ServingStatus {
    if ready { ServingStatus::Serving } else { ServingStatus::NotServing }
}
