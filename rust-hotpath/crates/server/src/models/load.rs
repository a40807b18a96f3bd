//! From a promoted revision to one that may serve: read, verified, loaded, and its golden cases replayed.

use std::{error::Error, path::PathBuf, sync::Arc};

use hotpath_bundle::{Bundle, Graph, Manifest, Precision, Refused, Revision, Stamp, Task};
use hotpath_contract::inference::v1 as inference;
use hotpath_cores::Cores;
use hotpath_encoding::Limits;
use hotpath_runtime::{Decode, Decoder, Encode, Encoder, Head, Library, Threads, choose, cpu_has};
use hotpath_text::Tokenizer;
use tokio::task::spawn_blocking;
use tokio_util::task::TaskTracker;

use super::{
    Models,
    classification::Classifier,
    embedding::Embedder,
    generation::{GenerationSettings, Generator},
    pulse::Pulse,
    serving::{Serving, Texts, Worker},
};
use crate::metrics::Metrics;

/// Makes sessions of a bundle's graph. The seam by which tests put in sessions that fail.
pub trait Sessions: Send + Sync {
    /// One that turns ids into vectors.
    ///
    /// # Errors
    /// [`Refused`] when the graph cannot be run.
    fn encoder(&self, bundle: &Bundle, graph: &Graph) -> Result<Box<dyn Encode>, Refused>;

    /// One that continues ids, with a cache of `rows` rows of at most `capacity` tokens each.
    ///
    /// # Errors
    /// [`Refused`] when the graph cannot be run.
    fn decoder(
        &self,
        bundle: &Bundle,
        graph: &Graph,
        threads: Threads,
        rows: usize,
        capacity: usize,
    ) -> Result<Box<dyn Decode>, Refused>;

    /// One that turns vectors into scores.
    ///
    /// # Errors
    /// [`Refused`] when the graph cannot be run.
    fn head(&self, bundle: &Bundle, graph: &Graph) -> Result<Head, Refused>;

    /// Ends every run of the sessions that it made, and of those that it will make: each fails.
    fn terminate(&self);
}

/// Those of ONNX Runtime.
impl Sessions for Library {
    fn encoder(&self, bundle: &Bundle, graph: &Graph) -> Result<Box<dyn Encode>, Refused> {
        Ok(Box::new(Encoder::load(self, bundle, graph)?))
    }

    fn decoder(
        &self,
        bundle: &Bundle,
        graph: &Graph,
        threads: Threads,
        rows: usize,
        capacity: usize,
    ) -> Result<Box<dyn Decode>, Refused> {
        Ok(Box::new(Decoder::load(self, bundle, graph, threads, rows, capacity)?))
    }

    fn head(&self, bundle: &Bundle, graph: &Graph) -> Result<Head, Refused> {
        Head::load(self, bundle, graph)
    }

    fn terminate(&self) {
        if let Err(error) = Library::terminate(self) {
            tracing::warn!(%error, "runs cannot be ended");
        }
    }
}

/// Why a revision cannot serve, in words for operators.
pub type LoadError = Box<dyn Error + Send + Sync>;

/// Loads revisions, all in the same way.
pub struct Loader {
    /// Folder of the models.
    pub models: PathBuf,
    /// The graph of embedding models to run; `None` takes what the processor runs best.
    pub precision: Option<Precision>,
    /// How embedding models run, `workers` being the number of sessions, and how many tokens of any model may wait.
    pub limits: Limits,
    /// How generation models are served.
    pub generation: GenerationSettings,
    /// Compiles what texts must parse as.
    pub formats: Arc<hotpath_formats::Service>,
    /// Makes the sessions.
    pub sessions: Arc<dyn Sessions>,
    /// What the sessions of all models run on. Golden cases are replayed without: to make a session takes the processors for
    /// seconds, and nobody can say how many.
    pub cores: Arc<Cores>,
    /// Sees every run.
    pub metrics: Arc<Metrics>,
    /// Every model of the process: a head is served with another one.
    pub served: Models,
    /// Knows every session that is alive, and every one that is being made.
    pub alive: TaskTracker,
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
        Ok(match Manifest::open(&self.models.join(model), revision)?.task {
            Task::Embedding(_) => inference::Task::Embedding,
            Task::Generation(_) => inference::Task::Generation,
            Task::Classification(_) => inference::Task::Classification,
        })
    }

    /// Loads a revision and replays its golden cases on every session. What schedules them has still to be checked.
    ///
    /// # Errors
    /// [`Refused`] says what is wrong with it; other errors are faults of the process.
    pub async fn load(self: &Arc<Self>, model: &str, revision: Revision) -> Result<Serving, LoadError> {
        let (loader, folder) = (self.clone(), self.models.join(model));
        let alive = self.alive.token();
        let load = move || {
            let _alive = alive;
            loader.open(Bundle::open(&folder, &revision)?)
        };
        spawn_blocking(load).await?
    }

    fn open(&self, bundle: Bundle) -> Result<Serving, LoadError> {
        let precision = match bundle.manifest.task {
            Task::Embedding(_) => self.precision,
            Task::Generation(_) => self.generation.precision,
            Task::Classification(_) => None,
        };
        let graph = choose(&bundle.manifest.graphs, precision, cpu_has)?.clone();
        let pulse = Arc::new(Pulse::new(bundle.manifest.name.clone(), self.metrics.clone()));
        let worker = match bundle.manifest.task {
            Task::Embedding(_) => Worker::Embedding(Embedder::load(self, &bundle, &graph, pulse.clone())?),
            Task::Generation(_) => Worker::Generation(Box::new(Generator::load(self, &bundle, &graph, pulse.clone())?)),
            Task::Classification(_) => Worker::Classification(Classifier::load(self, &bundle, &graph)?),
        };
        Ok(Serving { bundle, graph, worker, pulse })
    }

    /// How a bundle's texts become ids.
    pub(super) fn texts(bundle: &Bundle) -> Result<Texts, Refused> {
        Ok(Texts { tokenizer: Tokenizer::load(bundle)?, limits: bundle.manifest.tokenizer()?.clone() })
    }
}
