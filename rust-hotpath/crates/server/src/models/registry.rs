//! The configured models, and where each stands now.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use hotpath_contract::inference::v1::{ModelState, Task};
use tokio::sync::watch;

use super::{
    serving::Serving,
    tasks::{classification::Encoder, embedding::Embedder},
};
use crate::{error::Error, metrics::Metrics};

/// One configured model.
#[derive(Debug)]
pub struct Model {
    name: String,
    now: watch::Sender<Now>,
}

/// Where a model stands.
#[derive(Debug, Clone)]
pub struct Now {
    /// Its state.
    pub state: ModelState,
    /// What it does, as its newest manifest says; embedding as long as none was read.
    pub task: Task,
    /// The revision that passed its checks last.
    pub serving: Option<Arc<Serving>>,
    /// Why it cannot serve, or why its newest revision was refused.
    pub message: String,
}

impl Model {
    /// A model of which nothing was read yet.
    #[must_use]
    pub fn new(name: String) -> Self {
        let now = Now { state: ModelState::Loading, task: Task::Embedding, serving: None, message: String::new() };
        Self { name, now: watch::Sender::new(now) }
    }

    /// Its name in requests.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it stands.
    #[must_use]
    pub fn now(&self) -> Now {
        self.now.borrow().clone()
    }

    /// What requests run on.
    ///
    /// # Errors
    /// [`Error::ModelNotReady`].
    pub fn ready(&self) -> Result<Arc<Serving>, Error> {
        let now = self.now();
        let serving = now.serving.filter(|_| now.state == ModelState::Ready);
        serving.ok_or_else(|| Error::ModelNotReady { model: self.name.clone() })
    }

    pub(crate) fn set(&self, now: Now) {
        self.now.send_replace(now);
    }
}

impl Encoder for Model {
    fn embedder(&self) -> Result<Arc<Embedder>, &'static str> {
        let serving = self.ready().map_err(|_| "is not ready")?;
        serving.embedder().cloned().map_err(|_| "makes no vectors")
    }

    fn loading(&self) -> Option<BoxFuture<'_, ()>> {
        let now = self.now();
        // Another head is no encoder; and to wait for one that waits for this would be to wait forever.
        let settles = now.state == ModelState::Loading && now.task == Task::Embedding;
        let mut news = self.now.subscribe();
        let settled = async move {
            // No error: the sender lives as long as this.
            let _ = news.wait_for(|now| now.state != ModelState::Loading).await;
        };
        settles.then(|| settled.boxed())
    }
}

/// Every configured model, ordered by name.
#[derive(Debug, Clone)]
pub struct Models(Arc<[Arc<Model>]>);

impl Models {
    /// Models of these names, of which nothing was read yet.
    #[must_use]
    pub fn new(names: &[String]) -> Self {
        let mut names = names.to_vec();
        names.sort();
        names.dedup();
        Self(names.into_iter().map(|name| Arc::new(Model::new(name))).collect())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.0.iter()
    }

    /// The model that a request names.
    ///
    /// # Errors
    /// [`Error::MissingField`] and [`Error::ModelNotFound`].
    pub fn find(&self, name: &str) -> Result<&Arc<Model>, Error> {
        if name.is_empty() {
            return Err(Error::MissingField { field: "model" });
        }
        self.iter().find(|model| model.name == name).ok_or_else(|| Error::ModelNotFound { model: name.to_owned() })
    }

    /// Lets go of every revision.
    pub fn forget(&self) {
        for model in self.iter() {
            model.set(Now { serving: None, ..model.now() });
        }
    }

    /// Sets the gauges of each as they are now.
    pub fn measure(&self, metrics: &Metrics) {
        for model in self.iter() {
            let now = model.now();
            if let Some(serving) = &now.serving {
                serving.task().measure(metrics, model.name());
            }
            metrics.state(model.name(), now.state);
        }
    }

    /// Whether requests are likely to succeed: at least one model is ready, and none is still loading. One that failed takes
    /// no other out of service.
    #[must_use]
    pub fn are_ready(&self) -> bool {
        let states: Vec<ModelState> = self.iter().map(|model| model.now().state).collect();
        states.contains(&ModelState::Ready) && !states.contains(&ModelState::Loading)
    }
}
