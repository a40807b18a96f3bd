//! From a promoted revision to one that may serve: read, verified, loaded, and its golden cases replayed.

use std::{path::PathBuf, sync::Arc};

use hotpath_bundle::{Bundle, Manifest, Refused, Revision, Stamp, Task};
use hotpath_contract::inference::v1 as inference;
use hotpath_encoding::Limits;
use hotpath_runtime::Kernels;
use tokio::task::spawn_blocking;

use super::{
    pulse::Pulse,
    registry::Models,
    serving::{Serving, Worker},
    sessions::Compute,
    source::BundleGraph,
    tasks::{
        self, LoadError,
        classification::Classifier,
        embedding::Embedder,
        generation::{GenerationSettings, Generator},
    },
};
use crate::metrics::Metrics;

/// Loads revisions, all in the same way.
pub struct Loader {
    /// Folder of the models.
    pub models: PathBuf,
    /// By which instructions our own operators run.
    pub kernels: Kernels,
    /// How embedding models run, `workers` being the number of sessions, and how many tokens of any model may wait.
    pub limits: Limits,
    /// How generation models are served.
    pub generation: GenerationSettings,
    /// Compiles what texts must parse as.
    pub formats: Arc<hotpath_formats::Service>,
    /// What they run on.
    pub compute: Compute,
    /// Sees every run.
    pub metrics: Arc<Metrics>,
    /// Every model of the process: a head is served with another one.
    pub served: Models,
}

impl Loader {
    /// What the folder of a model looks like from outside.
    #[must_use]
    pub fn stamp(&self, model: &str) -> Stamp {
        Stamp::of(&self.models.join(model))
    }

    /// The revision of a model that is promoted.
    ///
    /// # Errors
    /// [`Refused`] when nothing is.
    pub fn promoted(&self, model: &str) -> Result<Revision, Refused> {
        Revision::current(&self.models.join(model))
    }

    /// What a revision's manifest says that the model does. Nothing else of the revision is read.
    ///
    /// # Errors
    /// [`Refused`] when the manifest is malformed.
    pub fn task(&self, model: &str, revision: &Revision) -> Result<inference::Task, Refused> {
        Ok(tasks::kind(&Manifest::open(&self.models.join(model), revision)?.task))
    }

    /// Loads a revision and replays its golden cases on every session. What schedules them has still to be checked.
    ///
    /// # Errors
    /// [`Refused`] says what is wrong with it; other errors are faults of the process.
    pub async fn load(self: &Arc<Self>, model: &str, revision: Revision) -> Result<Serving, LoadError> {
        let (loader, folder) = (self.clone(), self.models.join(model));
        let alive = self.compute.alive.token();
        let load = move || {
            let _alive = alive;
            loader.open(Bundle::open(&folder, &revision)?)
        };
        spawn_blocking(load).await?
    }

    fn open(&self, bundle: Bundle) -> Result<Serving, LoadError> {
        let source = BundleGraph::choose(bundle, self.kernels)?;
        let manifest = &source.bundle.manifest;
        let pulse = Arc::new(Pulse::new(manifest.name.clone(), self.metrics.clone()));
        let (compute, of_task) = (&self.compute, pulse.clone());
        let worker = match &manifest.task {
            Task::Embedding(_) => Worker::Embedding(Arc::new(Embedder::load(&source, self.limits, compute, of_task)?)),
            Task::Generation(_) => {
                let (settings, max_queued_tokens) = (&self.generation, self.limits.max_queued_tokens);
                let generator = Generator::load(&source, settings, max_queued_tokens, compute, &self.formats, of_task)?;
                Worker::Generation(Box::new(generator))
            }
            Task::Classification(task) => {
                let absent = |_| format!("its encoder \"{}\" is not among the models", task.encoder);
                let encoder = self.served.find(&task.encoder).map_err(absent)?.clone();
                Worker::Classification(Classifier::load(&source, encoder, compute, of_task)?)
            }
        };
        Ok(Serving { source, worker, pulse })
    }
}
