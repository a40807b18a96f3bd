//! From a promoted revision to one that may serve: read, verified, loaded, and its golden cases replayed.

use std::{error::Error, path::PathBuf, sync::Arc};

use hotpath_bundle::{Bundle, Graph, Precision, Refused, Revision, Stamp};
use hotpath_runtime::{Encode, Encoder, Library, RunError, choose, cpu_has};
use hotpath_scheduler::{Limits, Observer, Scheduler};
use hotpath_text::Tokenizer;
use tokio::task::spawn_blocking;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use super::{
    golden,
    serving::{Pulse, Serving},
};

/// Makes one session of a bundle's graph. The seam by which tests put in sessions that fail.
pub type SessionFactory = Arc<dyn Fn(&Bundle, &Graph) -> Result<Box<dyn Encode>, Refused> + Send + Sync>;

/// Why a revision cannot serve, in words for operators.
pub type LoadError = Box<dyn Error + Send + Sync>;

/// Sessions of ONNX Runtime.
#[must_use]
pub fn onnx_sessions(library: Library) -> SessionFactory {
    Arc::new(move |bundle, graph| Ok(Box::new(Encoder::load(&library, bundle, graph)?)))
}

/// Loads revisions, all in the same way.
pub struct Loader {
    /// Folder of the models.
    pub models: PathBuf,
    /// The graph to run; `None` takes what the processor runs best.
    pub precision: Option<Precision>,
    /// The scheduler's bounds; `workers` is the number of sessions.
    pub limits: Limits,
    /// Makes the sessions.
    pub sessions: SessionFactory,
    /// Sees every run.
    pub observer: Arc<dyn Observer>,
    /// Knows every session that is alive.
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

    /// Loads a revision and replays its golden cases, through every session and through the scheduler.
    ///
    /// # Errors
    /// [`Refused`] says what is wrong with it; other errors are faults of the process.
    pub async fn load(self: &Arc<Self>, model: &str, revision: Revision) -> Result<Serving, LoadError> {
        let (loader, folder) = (self.clone(), self.models.join(model));
        let serving = spawn_blocking(move || loader.open(Bundle::open(&folder, &revision)?)).await??;
        golden::check_serving(&serving).await?;
        Ok(serving)
    }

    fn open(&self, bundle: Bundle) -> Result<Serving, LoadError> {
        let tokenizer = Tokenizer::load(&bundle)?;
        golden::check_tokenizer(&bundle, &tokenizer)?;
        let graph = choose(&bundle.manifest.graphs, self.precision, cpu_has)?.clone();
        let mut sessions: Vec<Box<dyn Encode>> = Vec::with_capacity(self.limits.workers);
        for _ in 0..self.limits.workers {
            let mut session = (self.sessions)(&bundle, &graph)?;
            golden::check_session(&bundle, &graph, &mut *session)?;
            sessions.push(Box::new(Tracked { session, _alive: self.alive.token() }));
        }
        let pulse = Arc::new(Pulse::new(self.observer.clone()));
        let scheduler = Scheduler::start(sessions, self.limits, pulse.clone())?;
        Ok(Serving { bundle, graph, tokenizer, scheduler, pulse })
    }
}

/// A session that the process waits for before it ends: ONNX Runtime must not be torn down under one.
struct Tracked {
    session: Box<dyn Encode>,
    _alive: TaskTrackerToken,
}

impl Encode for Tracked {
    fn encode(&mut self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError> {
        self.session.encode(texts)
    }
}
