//! Embedding: texts to vectors.

use std::{slice, sync::Arc};

use hotpath_bundle::{Embedding, Golden, GoldenEmbedding, Refused};
use hotpath_contract::inference::v1 as inference;
use hotpath_encoding::{Limits, Scheduler, Work};
use hotpath_fairness::Class;
use hotpath_runtime::Encode;
use hotpath_text::Tokenizer;

use super::{LoadError, Task, Unproven, saturated};
use crate::{
    metrics::Metrics,
    models::{
        golden::{KEY, check_ids, check_tolerance, length, of_another_task, refused},
        pulse::Pulse,
        sessions::Compute,
        source::BundleGraph,
        texts::Texts,
    },
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
    /// SHA-256 of the weights that its graph was made of.
    pub weights_sha256: String,
}

impl Embedder {
    /// Makes the sessions of a bundle, and replays its golden cases on each.
    pub(in crate::models) fn load(
        source: &BundleGraph,
        limits: Limits,
        compute: &Compute,
        pulse: Arc<Pulse>,
    ) -> Result<Self, LoadError> {
        let (manifest, cases) = (&source.bundle.manifest, cases(source)?);
        let task = manifest.embedding()?.clone();
        let texts = Arc::new(Texts::load(&source.bundle)?);
        check_tokenizer(source, cases, &texts.tokenizer)?;
        let mut sessions = Vec::with_capacity(limits.workers);
        for _ in 0..limits.workers {
            let mut session = compute.encoder(source)?;
            check_session(source, cases, &mut *session)?;
            sessions.push(session);
        }
        let scheduler = Scheduler::start(sessions, limits, compute.cores.clone(), pulse)?;
        Ok(Self { texts, task, scheduler, weights_sha256: manifest.source.sha256.clone() })
    }

    /// The vectors of some texts' ids, for the service's own checks.
    pub(super) async fn vectors(&self, inputs: Vec<Vec<u32>>) -> Result<Vec<Vec<f32>>, String> {
        let work = Work { class: Class::Interactive, key: KEY.clone(), deadline: None, inputs };
        let pending = self.scheduler.submit(work).map_err(|_| "the queue is full".to_owned())?;
        Ok(pending.result().await.map_err(|failure| failure.to_string())?.vectors)
    }

    async fn run(&self, source: &BundleGraph, cases: &[GoldenEmbedding]) -> Result<Vec<Vec<f32>>, Refused> {
        let vectors = self.vectors(cases.iter().map(|case| case.token_ids.clone()).collect()).await;
        vectors.map_err(|problem| refused(source, "", problem))
    }
}

#[tonic::async_trait]
impl Task for Embedder {
    fn texts(&self) -> Option<Arc<Texts>> {
        Some(self.texts.clone())
    }

    fn describe(&self, model: &mut inference::Model) {
        let limits = model.limits.get_or_insert_default();
        limits.max_tokens = self.texts.limits.max_tokens;
        limits.vocabulary_size = self.texts.limits.vocabulary_size;
        model.dimensions.clone_from(&self.task.dimensions);
    }

    fn workload(&self) -> inference::ModelLoad {
        let load = self.scheduler.load();
        inference::ModelLoad {
            queued_tokens: load.queued_tokens as u64,
            running_tokens: load.running_tokens as u64,
            tokens_per_second: self.scheduler.tokens_per_second(),
            rows: saturated(load.running_batches),
            max_rows: saturated(self.scheduler.workers()),
            waiting_requests: load.waiting_requests as u64,
            ..inference::ModelLoad::default()
        }
    }

    fn measure(&self, metrics: &Metrics, model: &str) {
        metrics.encoder_load(model, &self.scheduler.load());
    }

    fn dead(&self) -> Option<String> {
        self.scheduler.dead()
    }

    /// A case gives its golden bits alone and in a batch.
    async fn check(&self, source: &BundleGraph) -> Result<bool, Unproven> {
        let cases = cases(source)?;
        let mut alone = Vec::with_capacity(cases.len());
        for case in cases {
            alone.extend(self.run(source, slice::from_ref(case)).await?);
        }
        check_vectors(source, cases, &alone)?;
        check_vectors(source, cases, &self.run(source, cases).await?)?;
        Ok(true)
    }

    async fn probe(&self, source: &BundleGraph) -> Result<(), Refused> {
        let shortest = cases(source)?.iter().min_by_key(|case| case.token_ids.len());
        self.run(source, shortest.map(slice::from_ref).unwrap_or_default()).await.map(drop)
    }
}

fn cases(source: &BundleGraph) -> Result<&[GoldenEmbedding], Refused> {
    match &source.bundle.golden {
        Golden::Embeddings(cases) => Ok(cases),
        _ => Err(of_another_task(source)),
    }
}

/// Holds the tokenizer against every case.
fn check_tokenizer(source: &BundleGraph, cases: &[GoldenEmbedding], tokenizer: &Tokenizer) -> Result<(), Refused> {
    for (i, case) in cases.iter().enumerate() {
        let found = tokenizer.ids(&case.text, usize::MAX);
        check_ids(source, &format!("embeddings[{i}].token_ids"), &case.token_ids, found)?;
    }
    Ok(())
}

/// Runs all cases as one batch on a session.
fn check_session(source: &BundleGraph, cases: &[GoldenEmbedding], session: &mut dyn Encode) -> Result<(), Refused> {
    let texts: Vec<&[u32]> = cases.iter().map(|case| &*case.token_ids).collect();
    let vectors = session.encode(&texts).map_err(|error| refused(source, "", error.to_string()))?;
    check_vectors(source, cases, &vectors)
}

/// Holds vectors, one for each case, against the golden ones: the reference's, and to the last bit the graph's own.
fn check_vectors(source: &BundleGraph, cases: &[GoldenEmbedding], vectors: &[Vec<f32>]) -> Result<(), Refused> {
    if vectors.len() != cases.len() {
        return Err(refused(source, "", format!("{} gives {} vectors", source.graph.file, vectors.len())));
    }
    for (i, (case, vector)) in cases.iter().zip(vectors).enumerate() {
        let field = format!("embeddings[{i}].vector");
        check_tolerance(source, &field, &case.vector, vector, length(&case.vector))?;
        if case.graphs.get(source.place()) != Some(vector) {
            let field = format!("embeddings[{i}].graphs[{}]", source.place());
            return Err(refused(source, &field, format!("{} gives other bits", source.graph.file)));
        }
    }
    Ok(())
}
