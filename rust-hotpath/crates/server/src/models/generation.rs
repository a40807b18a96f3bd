//! A model that continues texts, loaded.

use std::{ops::Range, sync::Arc, time::Duration};

use hotpath_bundle::{Bundle, Golden, Graph, Precision, Refused};
use hotpath_formats::Formats;
use hotpath_generation::{Class, Engine, Limits, Settings};
use hotpath_runtime::{Decode, Extent, RunError, Step, Threads};
use hotpath_text::{Chat, Vocabulary};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    golden,
    load::{LoadError, Loader},
    pulse::Pulse,
    serving::Texts,
};

/// The cache's memory comes in pages of this size, one head's keys or values of some tokens in each.
const PAGE_BYTES: usize = 4096;
/// Pieces in which beginnings of prompts are reused; a shorter one spares too little to keep it.
const REUSE_TOKENS: usize = 16;

/// Events that wait for a reader. More would let a slow one go on for longer before its row is parked.
const EVENT_BUFFER: usize = 64;

/// How generation models are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerationSettings {
    /// The graph to run; `None` takes what the processor runs best.
    pub precision: Option<Precision>,
    /// Threads of each model's session.
    pub threads: Threads,
    /// Longest wait of a request until its prompt is read.
    pub max_wait: Duration,
    /// Most memory that a model's keys and values take.
    pub cache_bytes: usize,
    /// Most continuations of one class that decode in one step.
    pub max_rows: usize,
    /// Tokens of a prompt that are run at once.
    pub chunk_tokens: usize,
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
    /// Its session, and which rows of it run next.
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
    /// Makes a bundle's session, and replays its golden cases on it.
    pub(super) fn load(loader: &Loader, bundle: &Bundle, graph: &Graph, pulse: Arc<Pulse>) -> Result<Self, LoadError> {
        let Golden::Generations(golden) = &bundle.golden else {
            return Err("the golden cases are of another task than the manifest".into());
        };
        let settings = &loader.generation;
        let limits = limits(settings, loader.limits.max_queued_tokens, bundle)?;
        let texts = Arc::new(Loader::texts(bundle)?);
        let chat = Chat::load(bundle, &texts.tokenizer)?;
        golden::generation::check_tokenizer(bundle, golden, &texts.tokenizer, chat.as_ref())?;
        golden::generation::check_chunk_plans(bundle, golden)?;
        let session = loader.sessions.decoder(bundle, graph, settings.threads, limits.rows(), limits.context_tokens)?;
        let mut session = Box::new(Tracked { session, _alive: loader.alive.token() });
        golden::generation::check_session(bundle, golden, graph, &mut *session, &limits)?;
        let vocabulary = Arc::new(Vocabulary::load(bundle, &texts.tokenizer)?);
        let stop_ids = bundle.manifest.generation()?.stop_token_ids.clone();
        let formats = Formats::new(&loader.formats, &vocabulary, &stop_ids)?;
        let of_engine = Settings {
            limits,
            stop_ids,
            vocabulary: vocabulary.clone(),
            buffer: EVENT_BUFFER,
            cores: loader.cores.clone(),
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

    /// Most tokens of one request, prompt and continuation together.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        self.engine.limits().context_tokens
    }
}

/// The bounds that follow from the settings and from the size of a model's cache.
fn limits(settings: &GenerationSettings, max_queued_tokens: usize, bundle: &Bundle) -> Result<Limits, Refused> {
    let task = bundle.manifest.generation()?;
    let cache = task.kv_cache;
    let granule = (PAGE_BYTES / (cache.head_dimensions as usize * size_of::<f32>())).max(1);
    let cache_tokens = settings.cache_bytes / cache.token_bytes() / granule * granule;
    let limits = Limits {
        batch: settings.max_rows,
        cache_tokens,
        granule,
        context_tokens: bundle.manifest.tokenizer()?.max_tokens as usize,
        chunk_tokens: settings.chunk_tokens.min(task.max_chunk_tokens as usize),
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

/// A session that the process waits for before it ends: ONNX Runtime must not be torn down under one.
struct Tracked {
    session: Box<dyn Decode>,
    _alive: TaskTrackerToken,
}

impl Decode for Tracked {
    fn extent(&self) -> Extent {
        self.session.extent()
    }

    fn decode(&mut self, first: usize, steps: &[Step]) -> Result<&[f32], RunError> {
        self.session.decode(first, steps)
    }

    fn prefill(&mut self, row: usize, length: usize, tokens: &[u32], logits: Range<usize>) -> Result<&[f32], RunError> {
        self.session.prefill(row, length, tokens, logits)
    }

    fn copy_row(&mut self, from: usize, to: usize, tokens: usize) {
        self.session.copy_row(from, to, tokens);
    }

    fn release_row(&mut self, row: usize) {
        self.session.release_row(row);
    }
}
