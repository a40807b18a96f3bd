//! One revision of a model, loaded: its tokenizer, what does its task, and when it last worked.

use std::sync::Arc;

use hotpath_bundle::{Bundle, Graph, Precision};
use hotpath_contract::inference::v1::Task;
use hotpath_text::{TokenizeError, Tokenizer};

use super::{classification::Classifier, embedding::Embedder, generation::Generator, pulse::Pulse};
use crate::error::Error;

/// A loaded revision.
#[derive(Debug)]
pub struct Serving {
    /// What it is made of.
    pub bundle: Bundle,
    /// The graph that its sessions run.
    pub graph: Graph,
    /// What does its task.
    pub worker: Worker,
    /// When an inference last succeeded.
    pub pulse: Arc<Pulse>,
}

/// What does a model's task.
#[derive(Debug)]
pub enum Worker {
    /// Ids to vectors.
    Embedding(Embedder),
    /// Ids to their continuation.
    Generation(Box<Generator>),
    /// Another model's vectors to scores.
    Classification(Classifier),
}

/// How texts become ids, and what bounds them.
#[derive(Debug)]
pub struct Texts {
    /// Text to ids.
    pub tokenizer: Tokenizer,
    /// The bounds.
    pub limits: hotpath_bundle::Tokenizer,
}

impl Texts {
    /// The inputs that the whole of a text is run as; `None` where they would be more than `most`.
    ///
    /// # Errors
    /// [`TokenizeError`].
    pub fn windows(&self, text: &str, most: usize) -> Result<Option<Vec<Vec<u32>>>, TokenizeError> {
        self.tokenizer.windows(text, self.limits.max_tokens as usize, most)
    }
}

impl Serving {
    /// What the model does.
    #[must_use]
    pub fn task(&self) -> Task {
        match self.worker {
            Worker::Embedding(_) => Task::Embedding,
            Worker::Generation(_) => Task::Generation,
            Worker::Classification(_) => Task::Classification,
        }
    }

    /// Takes note that another revision takes over: what it keeps for requests to come is given back.
    pub fn retire(&self) {
        if let Worker::Generation(generator) = &self.worker {
            generator.engine.retire();
        }
    }

    /// Why it will never work again, if that is so. A head lives as long as its encoder does, which is looked after by itself.
    #[must_use]
    pub fn dead(&self) -> Option<String> {
        match &self.worker {
            Worker::Embedding(embedder) => embedder.scheduler.dead(),
            Worker::Generation(generator) => generator.engine.dead(),
            Worker::Classification(_) => None,
        }
    }

    /// What turns texts into vectors.
    ///
    /// # Errors
    /// [`Error::ModelTaskMismatch`].
    pub fn embedder(&self) -> Result<&Embedder, Error> {
        match &self.worker {
            Worker::Embedding(embedder) => Ok(embedder),
            _ => Err(self.does_not("makes no vectors")),
        }
    }

    /// What continues texts.
    ///
    /// # Errors
    /// [`Error::ModelTaskMismatch`].
    pub fn generator(&self) -> Result<&Generator, Error> {
        match &self.worker {
            Worker::Generation(generator) => Ok(generator),
            _ => Err(self.does_not("does not generate")),
        }
    }

    /// What scores texts.
    ///
    /// # Errors
    /// [`Error::ModelTaskMismatch`].
    pub fn classifier(&self) -> Result<&Classifier, Error> {
        match &self.worker {
            Worker::Classification(classifier) => Ok(classifier),
            _ => Err(self.does_not("does not classify")),
        }
    }

    /// How its texts become ids; a head's are its encoder's.
    ///
    /// # Errors
    /// [`Error::ModelNotReady`] when a head's encoder cannot serve.
    pub fn texts(&self) -> Result<Arc<Texts>, Error> {
        match &self.worker {
            Worker::Embedding(embedder) => Ok(embedder.texts.clone()),
            Worker::Generation(generator) => Ok(generator.texts.clone()),
            Worker::Classification(classifier) => {
                let not_ready = |_| Error::ModelNotReady { model: self.bundle.manifest.name.clone() };
                Ok(classifier.encoder().map_err(not_ready)?.embedder()?.texts.clone())
            }
        }
    }

    /// The error of who asks a model for what it does not do.
    #[must_use]
    pub fn does_not(&self, problem: &'static str) -> Error {
        Error::ModelTaskMismatch { model: self.bundle.manifest.name.clone(), problem }
    }

    /// As in "int8" or "int8_block".
    #[must_use]
    pub fn precision(&self) -> &'static str {
        match self.graph.precision {
            Precision::Int8 => "int8",
            Precision::Fp32 => "fp32",
            Precision::Int8Block => "int8_block",
            Precision::Int4Block | Precision::Unspecified => "", // never chosen
        }
    }
}
