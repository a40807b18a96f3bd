//! Classification: a head that turns the vectors of a model that is served beside it into scores.

use std::{
    fmt, slice,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::BoxFuture;
use hotpath_bundle::{Classification, Golden, GoldenClassification, Refused};
use hotpath_contract::inference::v1 as inference;
use hotpath_runtime::{Head, RunError};

use super::{LoadError, Task, Unproven, embedding::Embedder};
use crate::{
    metrics::Metrics,
    models::{
        golden::{check_tolerance, of_another_task, refused},
        pulse::Pulse,
        sessions::{Compute, Tracked},
        source::BundleGraph,
        texts::Texts,
    },
};

/// The model whose vectors a head takes, whatever revision of it serves.
pub trait Encoder: fmt::Debug + Send + Sync {
    /// The revision that is served now.
    ///
    /// # Errors
    /// Why there is none, in words that continue a sentence.
    fn embedder(&self) -> Result<Arc<Embedder>, &'static str>;

    /// While it is not known whether it can serve: ends once it is.
    fn loading(&self) -> Option<BoxFuture<'_, ()>>;
}

/// Turns an encoder's vectors into scores.
#[derive(Debug)]
pub struct Classifier {
    /// Whose vectors it takes, and what its scores are of.
    pub task: Classification,
    encoder: Arc<dyn Encoder>,
    /// Length of the vectors that its head takes.
    dimensions: usize,
    /// One session for all: its run is a product of small matrices, far shorter than a way to another thread.
    head: Mutex<Tracked<Head>>,
    /// It has no runs of its own that would tell.
    pulse: Arc<Pulse>,
}

impl Classifier {
    /// Makes a bundle's session.
    pub(in crate::models) fn load(
        source: &BundleGraph,
        encoder: Arc<dyn Encoder>,
        compute: &Compute,
        pulse: Arc<Pulse>,
    ) -> Result<Self, LoadError> {
        let task = source.bundle.manifest.classification()?.clone();
        let head = compute.head(source)?;
        Ok(Self { task, encoder, dimensions: head.session.dimensions(), head: Mutex::new(head), pulse })
    }

    /// While it is not known whether its encoder can serve: ends once it is.
    pub(in crate::models) fn encoder_loading(&self) -> Option<BoxFuture<'_, ()>> {
        self.encoder.loading()
    }

    /// The encoder's revision that is served now.
    ///
    /// # Errors
    /// Words for operators, when it cannot serve, or is not the one that the head was trained on.
    pub fn encoder(&self) -> Result<Arc<Embedder>, String> {
        let name = &self.task.encoder;
        let encoder = self.encoder.embedder().map_err(|why| format!("its encoder \"{name}\" {why}"))?;
        let (found, trained) = (&encoder.weights_sha256, &self.task.encoder_sha256);
        if found != trained {
            return Err(format!("its encoder \"{name}\" has the weights {found}, the head was trained on {trained}"));
        }
        let (dimensions, taken) = (encoder.task.dimensions[0] as usize, self.dimensions);
        if dimensions != taken {
            return Err(format!("its encoder \"{name}\" makes vectors of {dimensions}, the head takes {taken}"));
        }
        Ok(encoder)
    }

    /// The scores of each text, given how many windows it has, and the vectors of all windows in order. Each label's score
    /// is the highest of any window.
    ///
    /// # Errors
    /// [`RunError`] when the run failed.
    pub fn scores(&self, windows: &[usize], vectors: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, RunError> {
        let scores = self.head().session.scores(vectors)?; // [windows of all texts, labels]
        let mut rest = scores.as_slice();
        let of_text = |count: &usize| {
            let (of_text, after) = rest.split_at(*count);
            rest = after;
            let highest = |label: usize| of_text.iter().map(|scores| scores[label]).fold(0.0, f32::max);
            (0..self.task.labels.len()).map(highest).collect()
        };
        Ok(windows.iter().map(of_text).collect())
    }

    fn head(&self) -> MutexGuard<'_, Tracked<Head>> {
        // A session keeps nothing from one run to the next, so a panic elsewhere does no harm to it.
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replays each case alone, and then all of them in one request, through the encoder that is served. What a case gives
    /// in a batch must be what it gives alone, to the last bit.
    async fn replay(&self, source: &BundleGraph, cases: &[GoldenClassification]) -> Result<(), Refused> {
        let together = self.run(source, cases).await?;
        for (i, (case, together)) in cases.iter().zip(together).enumerate() {
            let field = format!("classifications[{i}].scores");
            let alone = self.run(source, slice::from_ref(case)).await?.concat();
            check_tolerance(source, &field, &case.scores, &alone, 1.0)?;
            if alone != together {
                return Err(refused(source, &field, "are others in a batch than alone".to_owned()));
            }
        }
        self.pulse.beat();
        Ok(())
    }

    async fn run(&self, source: &BundleGraph, cases: &[GoldenClassification]) -> Result<Vec<Vec<f32>>, Refused> {
        let refuse = |problem: String| refused(source, "", problem);
        let encoder = self.encoder().map_err(refuse)?;
        let (mut windows, mut inputs) = (Vec::with_capacity(cases.len()), Vec::new());
        for case in cases {
            let of_text = encoder.texts.windows(&case.text, usize::MAX).map_err(|error| refuse(error.to_string()))?;
            let of_text = of_text.unwrap_or_default();
            windows.push(of_text.len());
            inputs.extend(of_text);
        }
        let vectors = encoder.vectors(inputs).await.map_err(refuse)?;
        self.scores(&windows, &vectors).map_err(|error| refuse(error.0))
    }
}

#[tonic::async_trait]
impl Task for Classifier {
    fn texts(&self) -> Option<Arc<Texts>> {
        self.encoder().ok().map(|encoder| encoder.texts.clone())
    }

    /// Texts of any length, and no token ids: what limits them is its encoder's.
    fn describe(&self, _: &mut inference::Model) {}

    /// Its work waits and runs as its encoder's.
    fn workload(&self) -> inference::ModelLoad {
        self.encoder().map(|encoder| encoder.workload()).unwrap_or_default()
    }

    /// Its encoder has them.
    fn measure(&self, _: &Metrics, _: &str) {}

    /// It lives as long as its encoder does, which is looked after by itself.
    fn dead(&self) -> Option<String> {
        None
    }

    async fn check(&self, source: &BundleGraph) -> Result<bool, Unproven> {
        Ok(self.replay(source, cases(source)?).await.map(|()| true)?)
    }

    async fn probe(&self, source: &BundleGraph) -> Result<(), Refused> {
        match cases(source)?.iter().min_by_key(|case| case.text.len()) {
            Some(case) => self.replay(source, slice::from_ref(case)).await,
            None => Err(refused(source, "classifications", "there is none".to_owned())),
        }
    }
}

fn cases(source: &BundleGraph) -> Result<&[GoldenClassification], Refused> {
    match &source.bundle.golden {
        Golden::Classifications(cases) => Ok(cases),
        _ => Err(of_another_task(source)),
    }
}
