//! A head on another model's vectors, loaded.

use std::sync::{Arc, Mutex, PoisonError};

use hotpath_bundle::{Bundle, Classification, Graph};
use hotpath_contract::inference::v1::{ModelState, Task};
use hotpath_runtime::{Head, RunError};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    Model,
    load::{LoadError, Loader},
    serving::Serving,
};

/// Turns the vectors of a model that is served beside it into scores.
#[derive(Debug)]
pub struct Classifier {
    /// Whose vectors it takes, and what its scores are of.
    pub task: Classification,
    encoder: Arc<Model>,
    /// Length of the vectors that its head takes.
    dimensions: usize,
    /// One session for all: its run is a product of small matrices, far shorter than a way to another thread.
    head: Mutex<Head>,
    _alive: TaskTrackerToken,
}

impl Classifier {
    /// Makes a bundle's session.
    pub(super) fn load(loader: &Loader, bundle: &Bundle, graph: &Graph) -> Result<Self, LoadError> {
        let task = bundle.manifest.classification()?.clone();
        let encoder = loader.served.find(&task.encoder);
        let encoder = encoder.map_err(|_| format!("its encoder \"{}\" is not among the models", task.encoder))?.clone();
        let head = loader.sessions.head(bundle, graph)?;
        Ok(Self { task, encoder, dimensions: head.dimensions(), head: Mutex::new(head), _alive: loader.alive.token() })
    }

    /// The encoder while it is not known whether it can serve.
    #[must_use]
    pub fn awaited(&self) -> Option<&Model> {
        let now = self.encoder.now();
        // Another head is no encoder; and to wait for one that waits for this would be to wait forever.
        let settles = now.state == ModelState::Loading && now.task == Task::Embedding;
        settles.then_some(&*self.encoder)
    }

    /// The encoder's revision that is served now.
    ///
    /// # Errors
    /// Words for operators, when it cannot serve, or is not the one that the head was trained on.
    pub fn encoder(&self) -> Result<Arc<Serving>, String> {
        let name = &self.task.encoder;
        let encoder = self.encoder.ready().map_err(|_| format!("its encoder \"{name}\" is not ready"))?;
        let embedder = encoder.embedder().map_err(|_| format!("its encoder \"{name}\" makes no vectors"))?;
        let found = &encoder.bundle.manifest.source.sha256;
        if *found != self.task.encoder_sha256 {
            let trained = &self.task.encoder_sha256;
            return Err(format!("its encoder \"{name}\" has the weights {found}, the head was trained on {trained}"));
        }
        let (dimensions, taken) = (embedder.task.dimensions[0] as usize, self.dimensions);
        if dimensions != taken {
            return Err(format!("its encoder \"{name}\" makes vectors of {dimensions}, the head takes {taken}"));
        }
        Ok(encoder)
    }

    /// The scores of each text, given how many windows it has, and the vectors of all windows in order. Each label's score is
    /// the highest of any window.
    ///
    /// # Errors
    /// [`RunError`] when the run failed.
    pub fn scores(&self, windows: &[usize], vectors: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, RunError> {
        let scores = self.head().scores(vectors)?; // [windows of all texts, labels]
        let mut rest = scores.as_slice();
        let of_text = |count: &usize| {
            let (of_text, after) = rest.split_at(*count);
            rest = after;
            let highest = |label: usize| of_text.iter().map(|scores| scores[label]).fold(0.0, f32::max);
            (0..self.task.labels.len()).map(highest).collect()
        };
        Ok(windows.iter().map(of_text).collect())
    }

    fn head(&self) -> std::sync::MutexGuard<'_, Head> {
        // A session keeps nothing from one run to the next, so a panic elsewhere does no harm to it.
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
