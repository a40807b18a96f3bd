//! A model that turns texts into vectors, loaded.

use std::sync::Arc;

use hotpath_bundle::{Bundle, Embedding, Golden, Graph};
use hotpath_encoding::Scheduler;
use hotpath_runtime::{Encode, RunError};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    golden,
    load::{LoadError, Loader},
    pulse::Pulse,
    serving::Texts,
};

/// Turns ids into vectors.
#[derive(Debug)]
pub struct Embedder {
    /// Text to ids.
    pub texts: Arc<Texts>,
    /// What its vectors are.
    pub task: Embedding,
    /// Its sessions, and who uses them next.
    pub scheduler: Scheduler,
}

impl Embedder {
    /// Makes the sessions of a bundle, and replays its golden cases on each.
    pub(super) fn load(loader: &Loader, bundle: &Bundle, graph: &Graph, pulse: Arc<Pulse>) -> Result<Self, LoadError> {
        let task = bundle.manifest.embedding()?.clone();
        let Golden::Embeddings(cases) = &bundle.golden else {
            return Err("the golden cases are of another task than the manifest".into());
        };
        let texts = Arc::new(Loader::texts(bundle)?);
        golden::embedding::check_tokenizer(bundle, cases, &texts.tokenizer)?;
        let mut sessions: Vec<Box<dyn Encode>> = Vec::with_capacity(loader.limits.workers);
        for _ in 0..loader.limits.workers {
            let mut session = loader.sessions.encoder(bundle, graph)?;
            golden::embedding::check_session(bundle, cases, graph, &mut *session)?;
            sessions.push(Box::new(Tracked { session, _alive: loader.alive.token() }));
        }
        Ok(Self { texts, task, scheduler: Scheduler::start(sessions, loader.limits, loader.cores.clone(), pulse)? })
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
