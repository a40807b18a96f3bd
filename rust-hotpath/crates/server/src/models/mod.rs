//! The models of this process: what each serves now, and what keeps that so.
//!
//! A [`Model`] is looked at by requests and changed by its [`supervise::Supervisor`] alone.

mod backoff;
pub mod classification;
pub mod embedding;
pub mod generation;
pub mod golden;
pub mod load;
pub mod pulse;
pub mod serving;
pub mod supervise;

use std::sync::Arc;

use hotpath_contract::inference::v1::{ModelState, Task};
use tokio::sync::watch;

use crate::error::Error;
use serving::Serving;

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

    /// Waits until it is known whether it can serve.
    pub async fn settled(&self) {
        let settled = |now: &Now| now.state != ModelState::Loading;
        let _ = self.now.subscribe().wait_for(settled).await; // no error: the sender lives as long as this
    }

    pub(crate) fn set(&self, now: Now) {
        self.now.send_replace(now);
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

    /// Whether requests are likely to succeed: at least one model is ready, and none is still loading. One that failed takes
    /// no other out of service.
    #[must_use]
    pub fn are_ready(&self) -> bool {
        let states: Vec<ModelState> = self.iter().map(|model| model.now().state).collect();
        states.contains(&ModelState::Ready) && !states.contains(&ModelState::Loading)
    }
}
