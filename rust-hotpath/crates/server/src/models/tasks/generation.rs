//! Generation: texts to their continuations.

mod golden;

use std::{sync::Arc, time::Duration};

use hotpath_bundle::{Bundle, Golden, GoldenGenerations, Refused};
use hotpath_contract::inference::v1 as inference;
use hotpath_formats::Formats;
use hotpath_generation::{Class, Engine, Limits, Settings};
use hotpath_runtime::Threads;
use hotpath_text::{Chat, Vocabulary};

use super::{LoadError, Task, Unproven, saturated};
use crate::{
    metrics::Metrics,
    models::{golden::of_another_task, pulse::Pulse, sessions::Compute, source::BundleGraph, texts::Texts},
};

/// The cache's memory comes in pages of this size, one head's keys or values of some tokens in each.
const PAGE_BYTES: usize = 4096;
/// A shorter beginning of a prompt spares too little to keep it.
const REUSE_TOKENS: usize = 16;

/// Events that wait for a reader. More would let a slow one go on for longer before its row is parked.
const EVENT_BUFFER: usize = 64;

/// How generation models are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerationSettings {
    /// Threads of each model's session.
    pub threads: Threads,
    /// Longest wait of a request until its prompt is read.
    pub max_wait: Duration,
    /// Most memory that a model's keys and values take.
    pub cache_bytes: usize,
    /// Most continuations of one class that decode in one run.
    pub max_rows: usize,
    /// Tokens of prompts that a run takes at most.
    pub chunk_tokens: usize,
    /// Most tokens that are drafted of a continuation in a run.
    pub draft_tokens: usize,
    /// Most continuations of one request.
    pub max_choices: usize,
    /// Most tokens of a continuation where the request does not say.
    pub default_max_tokens: usize,
    /// Longest time that a reader may keep its continuations waiting.
    pub slow_reader: Duration,
    /// Whether a prompt's beginning is reused for other keys than the one that it was computed for.
    pub share_prefixes: bool,
}

/// Continues ids.
#[derive(Debug)]
pub struct Generator {
    /// Text to ids.
    pub texts: Arc<Texts>,
    /// Its session, and what of it runs next.
    pub engine: Engine,
    /// Conversations to ids; `None` where the model only continues texts.
    pub chat: Option<Chat>,
    /// What tokens stand for.
    pub vocabulary: Arc<Vocabulary>,
    /// What texts may have to parse as.
    pub formats: Formats,
    /// Most continuations of one request.
    pub max_choices: usize,
    /// Most tokens of a continuation where the request does not say.
    pub default_max_tokens: usize,
}

impl Generator {
    /// Makes a bundle's session, and replays its golden cases on it. Of all requests together, `max_queued_tokens` may
    /// wait.
    pub(in crate::models) fn load(
        source: &BundleGraph,
        settings: &GenerationSettings,
        max_queued_tokens: usize,
        compute: &Compute,
        formats: &Arc<hotpath_formats::Service>,
        pulse: Arc<Pulse>,
    ) -> Result<Self, LoadError> {
        let (bundle, golden) = (&source.bundle, cases(source)?);
        let limits = limits(settings, max_queued_tokens, bundle)?;
        let texts = Arc::new(Texts::load(bundle)?);
        let chat = Chat::load(bundle, &texts.tokenizer)?;
        golden::check_tokenizer(source, golden, &texts.tokenizer, chat.as_ref())?;
        let mut session = compute.decoder(source, settings.threads, limits.slots(), limits.context_tokens)?;
        golden::check_session(source, golden, &mut *session, &limits)?;
        let vocabulary = Arc::new(Vocabulary::load(bundle, &texts.tokenizer)?);
        let stop_ids = bundle.manifest.generation()?.stop_token_ids.clone();
        let formats = Formats::new(formats, &vocabulary, &stop_ids)?;
        let of_engine = Settings {
            limits,
            stop_ids,
            vocabulary: vocabulary.clone(),
            buffer: EVENT_BUFFER,
            cores: compute.cores.clone(),
            threads: settings.threads.count,
        };
        Ok(Self {
            texts,
            engine: Engine::start(session, of_engine, pulse)?,
            chat,
            vocabulary,
            formats,
            max_choices: settings.max_choices,
            default_max_tokens: settings.default_max_tokens.min(limits.context_tokens - 1),
        })
    }
}

#[tonic::async_trait]
impl Task for Generator {
    fn texts(&self) -> Option<Arc<Texts>> {
        Some(self.texts.clone())
    }

    fn describe(&self, model: &mut inference::Model) {
        let limits = model.limits.get_or_insert_default();
        limits.max_tokens = saturated(self.engine.limits().context_tokens);
        limits.vocabulary_size = self.texts.limits.vocabulary_size;
        limits.max_choices = saturated(self.max_choices);
        model.default_max_tokens = saturated(self.default_max_tokens);
        model.chat = self.chat.is_some();
    }

    fn workload(&self) -> inference::ModelLoad {
        let load = self.engine.load();
        inference::ModelLoad {
            queued_tokens: load.queued_tokens as u64,
            running_tokens: load.reserved_tokens as u64,
            tokens_per_second: self.engine.tokens_per_second(),
            rows: saturated(load.rows),
            max_rows: saturated(self.engine.limits().rows_per_class()),
            waiting_requests: load.queued_requests as u64,
            ..inference::ModelLoad::default()
        }
    }

    fn measure(&self, metrics: &Metrics, model: &str) {
        metrics.decoder_load(model, &self.engine.load());
        metrics.formats(self.formats.service());
    }

    fn dead(&self) -> Option<String> {
        self.engine.dead()
    }

    fn retire(&self) {
        self.engine.retire();
    }

    async fn check(&self, source: &BundleGraph) -> Result<bool, Unproven> {
        golden::Replay::brief(source, &self.engine, cases(source)?).run().await.map(|_| false)
    }

    async fn prove(&self, source: &BundleGraph, class: Class) -> Result<usize, Unproven> {
        golden::Replay::all(source, &self.engine, cases(source)?, class).run().await
    }

    async fn probe(&self, source: &BundleGraph) -> Result<(), Refused> {
        golden::probe(source, &self.engine, cases(source)?).await
    }
}

fn cases(source: &BundleGraph) -> Result<&GoldenGenerations, Refused> {
    match &source.bundle.golden {
        Golden::Generations(golden) => Ok(golden),
        _ => Err(of_another_task(source)),
    }
}

/// The bounds that follow from the settings and from the size of a model's cache.
fn limits(settings: &GenerationSettings, max_queued_tokens: usize, bundle: &Bundle) -> Result<Limits, Refused> {
    let task = bundle.manifest.generation()?;
    let cache = task.kv_cache;
    let granule = (PAGE_BYTES / cache.head_bytes()).max(1);
    let cache_tokens = settings.cache_bytes / cache.token_bytes() / granule * granule;
    let limits = Limits {
        batch: settings.max_rows,
        cache_tokens,
        granule,
        context_tokens: bundle.manifest.tokenizer()?.max_tokens as usize,
        chunk_tokens: settings.chunk_tokens,
        draft_tokens: settings.draft_tokens,
        reuse_tokens: REUSE_TOKENS,
        max_queued_tokens,
        max_wait: settings.max_wait,
        max_parked: settings.slow_reader,
        share_prefixes: settings.share_prefixes,
    };
    let context_tokens = limits.longest(Class::Batch, 1);
    if context_tokens < 2 {
        let problem = format!(
            "takes {} bytes for each {granule} tokens; --cache-bytes is {}, of which batch work has {}",
            granule * cache.token_bytes(),
            settings.cache_bytes,
            settings.cache_bytes / 2
        );
        return Err(Refused::manifest("generation.kv_cache", problem));
    }
    Ok(Limits { context_tokens: limits.longest(Class::Interactive, 1), ..limits })
}
