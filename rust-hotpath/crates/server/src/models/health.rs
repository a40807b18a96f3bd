//! `grpc.health.v1`: one service name for each model, and the empty one for the process.

use std::sync::Arc;

use hotpath_contract::inference::v1::ModelState;
use tokio::sync::Mutex;
use tonic_health::{ServingStatus, server::HealthReporter};

use super::registry::{Model, Models};

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

    /// Tells of one model, and so of the process. Those who watch hear of it even if it is no news: call it for news alone.
    pub async fn tell(&self, model: &Model) {
        let _telling = self.telling.lock().await;
        let ready = model.now().state == ModelState::Ready;
        self.reporter.set_service_status(service(model), status(ready)).await;
        self.reporter.set_service_status("", status(self.models.are_ready())).await;
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

#[cfg(test)]
mod tests {
    use tonic::Request;
    use tonic_health::{
        pb::{HealthCheckRequest, health_check_response::ServingStatus, health_server::Health as _},
        server::HealthService,
    };

    use super::*;
    use crate::models::Now;

    /// What is told under a service name when two models have been told of.
    async fn told(states: [ModelState; 2], service: &str) -> ServingStatus {
        let models = Models::new(&["a".to_owned(), "b".to_owned()]);
        let reporter = HealthReporter::new();
        let health = Health::new(reporter.clone(), models.clone()).await;
        for (model, state) in models.iter().zip(states) {
            model.set(Now { state, ..model.now() });
            health.tell(model).await;
        }
        let request = Request::new(HealthCheckRequest { service: service.to_owned() });
        HealthService::from_health_reporter(reporter).check(request).await.unwrap().into_inner().status()
    }

    #[tokio::test]
    async fn the_process_serves_while_a_model_does_and_none_is_loading() {
        use ModelState::{Failed, Loading, Ready};
        use ServingStatus::{NotServing, Serving};
        for (states, expected) in [
            ([Ready, Ready], Serving),
            ([Failed, Ready], Serving),
            ([Ready, Failed], Serving),
            ([Failed, Failed], NotServing),
            ([Loading, Ready], NotServing),
            ([Ready, Loading], NotServing),
            ([Loading, Failed], NotServing),
        ] {
            assert_eq!(told(states, "").await, expected, "{states:?}");
        }
    }

    #[tokio::test]
    async fn each_model_is_told_for_itself() {
        let states = [ModelState::Failed, ModelState::Ready];
        assert_eq!(told(states, "model/a").await, ServingStatus::NotServing);
        assert_eq!(told(states, "model/b").await, ServingStatus::Serving);
    }
}
