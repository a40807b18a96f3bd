//! What models do: one module for each task, which loads, checks, describes and measures what does it.

pub mod classification;
pub mod embedding;
pub mod generation;

use std::{error::Error, fmt, sync::Arc};

use hotpath_bundle::Refused;
use hotpath_contract::inference::v1 as inference;
use hotpath_fairness::Class;

use super::{source::BundleGraph, texts::Texts};
use crate::metrics::Metrics;

/// Why a revision cannot serve, in words for operators.
pub type LoadError = Box<dyn Error + Send + Sync>;

/// Why a golden case did not come out.
#[derive(Debug)]
pub enum Unproven {
    /// It gave something else.
    Refused(Refused),
    /// It was not run to its end: there was no room for it, or its run failed.
    NotRun(String),
}

impl From<Refused> for Unproven {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl fmt::Display for Unproven {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => refused.fmt(out),
            Self::NotRun(problem) => write!(out, "a golden case was not run: {problem}"),
        }
    }
}

impl Error for Unproven {}

/// What does a model's task, as far as all tasks are alike.
#[tonic::async_trait]
pub trait Task: fmt::Debug + Send + Sync {
    /// How its texts become ids; `None` where they are its encoder's, which cannot serve.
    fn texts(&self) -> Option<Arc<Texts>>;

    /// Fills in what callers are told of it.
    fn describe(&self, model: &mut inference::Model);

    /// How much it has to do, but for the model's name.
    fn workload(&self) -> inference::ModelLoad;

    /// Sets its gauges, as those of a model of this name.
    fn measure(&self, metrics: &Metrics, model: &str);

    /// Why it will never work again, if that is so.
    fn dead(&self) -> Option<String>;

    /// Takes note that another revision takes over: what is kept for requests to come is given back.
    fn retire(&self) {}

    /// Replays golden cases of what it was loaded from, alone and then together: enough of them to say within seconds
    /// whether it works here. What a case gives in a batch must be what it gives alone. Gives whether these were all of
    /// them, in full.
    ///
    /// # Errors
    /// [`Unproven`] names the case that differs.
    async fn check(&self, source: &BundleGraph) -> Result<bool, Unproven>;

    /// Replays every golden case in full where [`Task::check`] did not, as work of a class. Gives how many there were.
    ///
    /// # Errors
    /// [`Unproven`] names the case that differs, or says why one was not run: it can be tried again.
    async fn prove(&self, _: &BundleGraph, _: Class) -> Result<usize, Unproven> {
        Ok(0)
    }

    /// Runs the shortest case, as a sign of life.
    ///
    /// # Errors
    /// [`Refused`] says why it failed.
    async fn probe(&self, source: &BundleGraph) -> Result<(), Refused>;
}

/// A manifest's task as it travels.
#[must_use]
pub fn kind(task: &hotpath_bundle::Task) -> inference::Task {
    match task {
        hotpath_bundle::Task::Embedding(_) => inference::Task::Embedding,
        hotpath_bundle::Task::Generation(_) => inference::Task::Generation,
        hotpath_bundle::Task::Classification(_) => inference::Task::Classification,
    }
}

/// A limit as it travels.
pub(crate) fn saturated(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}
