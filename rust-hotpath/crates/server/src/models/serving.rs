//! One revision of a model, loaded: what it is made of, what does its task, and when it last worked.

use std::sync::Arc;

use hotpath_bundle::Revision;

use super::{
    pulse::Pulse,
    source::BundleGraph,
    tasks::{Task, classification::Classifier, embedding::Embedder, generation::Generator},
    texts::Texts,
};
use crate::error::Error;

/// A loaded revision.
#[derive(Debug)]
pub struct Serving {
    /// What it is made of.
    pub source: BundleGraph,
    /// What does its task.
    pub worker: Worker,
    /// When an inference last succeeded.
    pub pulse: Arc<Pulse>,
}

/// What does a model's task.
#[derive(Debug)]
pub enum Worker {
    /// Ids to vectors. Heads use it too.
    Embedding(Arc<Embedder>),
    /// Ids to their continuation.
    Generation(Box<Generator>),
    /// Another model's vectors to scores.
    Classification(Classifier),
}

impl Serving {
    /// The revision's name.
    #[must_use]
    pub fn revision(&self) -> &Revision {
        &self.source.bundle.revision
    }

    /// What does its task, whichever that is.
    #[must_use]
    pub fn task(&self) -> &dyn Task {
        match &self.worker {
            Worker::Embedding(embedder) => &**embedder,
            Worker::Generation(generator) => &**generator,
            Worker::Classification(classifier) => classifier,
        }
    }

    /// What turns texts into vectors.
    ///
    /// # Errors
    /// [`Error::ModelTaskMismatch`].
    pub fn embedder(&self) -> Result<&Arc<Embedder>, Error> {
        match &self.worker {
            Worker::Embedding(embedder) => Ok(embedder),
            _ => Err(self.task_mismatch("makes no vectors")),
        }
    }

    /// What continues texts.
    ///
    /// # Errors
    /// [`Error::ModelTaskMismatch`].
    pub fn generator(&self) -> Result<&Generator, Error> {
        match &self.worker {
            Worker::Generation(generator) => Ok(generator),
            _ => Err(self.task_mismatch("does not generate")),
        }
    }

    /// What scores texts.
    ///
    /// # Errors
    /// [`Error::ModelTaskMismatch`].
    pub fn classifier(&self) -> Result<&Classifier, Error> {
        match &self.worker {
            Worker::Classification(classifier) => Ok(classifier),
            _ => Err(self.task_mismatch("does not classify")),
        }
    }

    /// How its texts become ids; a head's are its encoder's.
    ///
    /// # Errors
    /// [`Error::ModelNotReady`] when a head's encoder cannot serve.
    pub fn texts(&self) -> Result<Arc<Texts>, Error> {
        self.task().texts().ok_or_else(|| Error::ModelNotReady { model: self.source.bundle.manifest.name.clone() })
    }

    /// The error of who asks a model for what it does not do.
    #[must_use]
    pub fn task_mismatch(&self, problem: &'static str) -> Error {
        Error::ModelTaskMismatch { model: self.source.bundle.manifest.name.clone(), problem }
    }
}
