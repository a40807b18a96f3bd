//! What is counted. Labels have few values: a model's name, a method, a code.

use hotpath_contract::inference::v1::ModelState;
use hotpath_encoding::{self as encoding, Run};
use hotpath_formats::{self as formats, Noted};
use hotpath_generation::{self as generation, Kind, Ran};
use prometheus_client::{
    encoding::text,
    metrics::{
        counter::Counter, exemplar::HistogramWithExemplars, family::Family, gauge::Gauge, histogram::Histogram,
        info::Info,
    },
    registry::Registry,
};

use crate::{
    error::Error,
    traces::{self, Trace},
};

/// Buckets in seconds, from the time that a worker needs to wake to the longest wait in a queue.
const SECONDS: [f64; 14] = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 10.0];

/// Labels of a metric: name and value.
type Labels<const N: usize> = [(&'static str, String); N];

/// A histogram for each value of some labels, all with the same buckets.
type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// The same, of calls: the latest that is recorded is the example of its bucket, by its trace.
type Traced<const N: usize> = Family<Labels<N>, OfCalls, fn() -> OfCalls>;

type OfCalls = HistogramWithExemplars<Labels<1>>;

/// What became of an input, or of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has its result.
    Completed,
    /// Its caller went away.
    Cancelled,
    /// Its deadline passed.
    Expired,
    /// The queue was full, or it waited in it for too long.
    Refused,
    /// Its stream was not read.
    SlowReader,
    /// A fault of ours.
    Failed,
}

/// What a generation took, by what became of it.
#[derive(Debug, Clone, Copy)]
pub struct Generated {
    /// What became of it.
    pub outcome: Outcome,
    /// Tokens of its prompt.
    pub prompt_tokens: usize,
    /// Those of them whose computation was reused, as far as is known.
    pub reused_tokens: usize,
    /// Tokens that were told.
    pub tokens: usize,
}

impl Outcome {
    /// What became of work with this result.
    #[must_use]
    pub fn of<T>(result: &Result<T, Error>) -> Self {
        match result {
            Ok(_) => Self::Completed,
            Err(Error::Cancelled) => Self::Cancelled,
            Err(Error::DeadlineExceeded) => Self::Expired,
            Err(Error::QueueFull { .. } | Error::WaitedTooLong { .. }) => Self::Refused,
            Err(Error::SlowReader) => Self::SlowReader,
            Err(_) => Self::Failed,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::SlowReader => "slow_reader",
            Self::Failed => "failed",
        }
    }
}

/// Every metric of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    inputs: Family<Labels<2>, Counter>,
    queued_tokens: Family<Labels<1>, Gauge>,
    queued_inputs: Family<Labels<1>, Gauge>,
    running_inputs: Family<Labels<1>, Gauge>,
    model_state: Family<Labels<2>, Gauge>,
    grpc_requests: Family<Labels<2>, Counter>,
    run_failures: Family<Labels<1>, Counter>,
    batch_tokens: Histograms<1>,
    batch_inputs: Histograms<1>,
    inference_seconds: Histograms<1>,
    queue_seconds: Traced<2>,
    exported_spans: Counter,
    dropped_spans: Family<Labels<1>, Counter>,
    generation: Generation,
}

/// Those of generation models.
#[derive(Debug)]
struct Generation {
    requests: Family<Labels<2>, Counter>,
    prompt_tokens: Family<Labels<1>, Counter>,
    reused_tokens: Family<Labels<1>, Counter>,
    tokens: Family<Labels<1>, Counter>,
    drafted_tokens: Family<Labels<1>, Counter>,
    accepted_tokens: Family<Labels<1>, Counter>,
    queued: Family<Labels<1>, Gauge>,
    prefilling: Family<Labels<1>, Gauge>,
    decoding: Family<Labels<1>, Gauge>,
    parked: Family<Labels<1>, Gauge>,
    reserved_tokens: Family<Labels<1>, Gauge>,
    kept_tokens: Family<Labels<1>, Gauge>,
    prefill_seconds: Histograms<1>,
    decode_seconds: Histograms<1>,
    decode_rows: Histograms<1>,
    first_token_seconds: Traced<1>,
    schemas: Family<Labels<1>, Counter>,
    format_cache_bytes: Gauge,
    format_text_bytes: Gauge,
}

impl Metrics {
    /// All of them at zero.
    #[must_use]
    pub fn new(onnxruntime_version: &str) -> Self {
        let mut registry = Registry::with_prefix("hotpath");
        let build =
            [("version", env!("CARGO_PKG_VERSION").to_owned()), ("onnxruntime", onnxruntime_version.to_owned())];
        registry.register("build", "What runs", Info::new(build.to_vec()));
        let mut metrics = Self {
            registry,
            inputs: Family::default(),
            queued_tokens: Family::default(),
            queued_inputs: Family::default(),
            running_inputs: Family::default(),
            model_state: Family::default(),
            grpc_requests: Family::default(),
            run_failures: Family::default(),
            batch_tokens: Family::new_with_constructor(|| {
                Histogram::new([8.0, 16.0, 32.0, 64.0, 96.0, 128.0, 192.0, 256.0, 512.0])
            }),
            batch_inputs: Family::new_with_constructor(|| Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])),
            inference_seconds: Family::new_with_constructor(seconds),
            queue_seconds: Family::new_with_constructor(seconds_of_calls),
            exported_spans: Counter::default(),
            dropped_spans: Family::default(),
            generation: Generation::new(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("inputs", "Inputs by what became of them", self.inputs.clone());
        registry.register("queued_tokens", "Tokens that wait", self.queued_tokens.clone());
        registry.register("queued_inputs", "Inputs that wait", self.queued_inputs.clone());
        registry.register("running_inputs", "Inputs that run", self.running_inputs.clone());
        registry.register("model_state", "1 for the state that a model is in", self.model_state.clone());
        registry.register("grpc_requests", "Calls by method and code", self.grpc_requests.clone());
        registry.register("run_failures", "Runs of a session that failed", self.run_failures.clone());
        registry.register("batch_tokens", "Tokens of a run", self.batch_tokens.clone());
        registry.register("batch_inputs", "Inputs of a run", self.batch_inputs.clone());
        registry.register("inference_seconds", "Time of a run", self.inference_seconds.clone());
        registry.register(
            "queue_seconds",
            "From a request's queueing until its first input ran",
            self.queue_seconds.clone(),
        );
        registry.register("trace_spans_exported", "Spans that a collector has taken", self.exported_spans.clone());
        registry.register("trace_spans_dropped", "Spans that are lost, by why", self.dropped_spans.clone());
        self.generation.register(registry);
    }

    /// Counts the inputs of one request.
    pub fn inputs(&self, model: &str, outcome: Outcome, inputs: usize) {
        let labels = [("model", model.to_owned()), ("outcome", outcome.label().to_owned())];
        self.inputs.get_or_create(&labels).inc_by(inputs as u64);
    }

    /// Counts one call.
    pub fn call(&self, method: &'static str, code: tonic::Code) {
        self.grpc_requests.get_or_create(&[("method", method.to_owned()), ("code", format!("{code:?}"))]).inc();
    }

    /// Takes note of how long a request waited. Methods wait in queues of different kinds, for different lengths of time.
    pub fn queued(&self, model: &str, method: &'static str, seconds: f64, trace: Option<&Trace>) {
        let labels = [("model", model.to_owned()), ("method", method.to_owned())];
        self.queue_seconds.get_or_create(&labels).observe(seconds, exemplar(trace), None);
    }

    /// Counts a run that failed.
    pub fn run_failed(&self, model: &str) {
        self.run_failures.get_or_create(&of(model)).inc();
    }

    /// Counts one generation.
    pub fn generation(&self, model: &str, generated: Generated) {
        let labels = [("model", model.to_owned()), ("outcome", generated.outcome.label().to_owned())];
        self.generation.requests.get_or_create(&labels).inc();
        let model = of(model);
        for (counter, tokens) in [
            (&self.generation.prompt_tokens, generated.prompt_tokens),
            (&self.generation.reused_tokens, generated.reused_tokens),
            (&self.generation.tokens, generated.tokens),
        ] {
            counter.get_or_create(&model).inc_by(tokens as u64);
        }
    }

    /// Takes note of how long a request waited for its first token, from its queueing on.
    pub fn first_token(&self, model: &str, seconds: f64, trace: Option<&Trace>) {
        self.generation.first_token_seconds.get_or_create(&of(model)).observe(seconds, exemplar(trace), None);
    }

    /// Takes note of an encoder's run.
    #[allow(clippy::cast_precision_loss)] // token counts are far below 2^52
    pub fn ran(&self, model: &str, run: &Run) {
        let model = of(model);
        self.batch_tokens.get_or_create(&model).observe(run.tokens as f64);
        self.batch_inputs.get_or_create(&model).observe(run.inputs as f64);
        self.inference_seconds.get_or_create(&model).observe(run.took.as_secs_f64());
    }

    /// Takes note of a decoder's run.
    #[allow(clippy::cast_precision_loss)]
    pub fn generated(&self, model: &str, run: &Ran) {
        let (model, seconds) = (of(model), run.took.as_secs_f64());
        let Kind::Work { prompt_tokens, rows } = run.kind else { return };
        if prompt_tokens > 0 {
            self.generation.prefill_seconds.get_or_create(&model).observe(seconds);
        }
        if rows > 0 {
            self.generation.decode_seconds.get_or_create(&model).observe(seconds);
            self.generation.decode_rows.get_or_create(&model).observe(rows as f64);
        }
    }

    /// Counts tokens of a draft, and those that were accepted.
    pub fn drafted(&self, model: &str, drafted: usize, accepted: usize) {
        let model = of(model);
        self.generation.drafted_tokens.get_or_create(&model).inc_by(drafted as u64);
        self.generation.accepted_tokens.get_or_create(&model).inc_by(accepted as u64);
    }

    /// Takes note of the state that a model is in.
    pub fn state(&self, model: &str, state: ModelState) {
        for (each, name) in
            [(ModelState::Loading, "loading"), (ModelState::Ready, "ready"), (ModelState::Failed, "failed")]
        {
            let labels = [("model", model.to_owned()), ("state", name.to_owned())];
            self.model_state.get_or_create(&labels).set(i64::from(each == state));
        }
    }

    /// Takes note of how much an encoder has to do.
    pub fn encoder_load(&self, model: &str, load: &encoding::Load) {
        let labels = of(model);
        set(&self.queued_tokens, &labels, load.queued_tokens);
        set(&self.queued_inputs, &labels, load.queued_inputs);
        set(&self.running_inputs, &labels, load.running_inputs);
    }

    /// Takes note of how much a decoder has to do.
    pub fn decoder_load(&self, model: &str, load: &generation::Load) {
        let (labels, of) = (of(model), &self.generation);
        set(&self.queued_tokens, &labels, load.queued_tokens);
        set(&of.queued, &labels, load.queued_requests);
        set(&of.prefilling, &labels, load.prefilling);
        set(&of.decoding, &labels, load.decoding);
        set(&of.parked, &labels, load.parked);
        set(&of.reserved_tokens, &labels, load.reserved_tokens);
        set(&of.kept_tokens, &labels, load.cached_tokens);
    }

    /// Takes note of the memory that formats take.
    pub fn formats(&self, service: &formats::Service) {
        let of = &self.generation;
        of.format_cache_bytes.set(i64::try_from(service.cached_bytes()).unwrap_or(i64::MAX));
        of.format_text_bytes.set(i64::try_from(service.text_bytes()).unwrap_or(i64::MAX));
    }

    /// Everything in OpenMetrics text, gauges as they were last set.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String fails only where a metric of ours cannot be written at all, which any test would show.
        text::encode(&mut text, &self.registry).expect("metrics can be written");
        text
    }
}

impl Generation {
    fn new() -> Self {
        Self {
            requests: Family::default(),
            prompt_tokens: Family::default(),
            reused_tokens: Family::default(),
            tokens: Family::default(),
            drafted_tokens: Family::default(),
            accepted_tokens: Family::default(),
            queued: Family::default(),
            prefilling: Family::default(),
            decoding: Family::default(),
            parked: Family::default(),
            reserved_tokens: Family::default(),
            kept_tokens: Family::default(),
            prefill_seconds: Family::new_with_constructor(seconds),
            decode_seconds: Family::new_with_constructor(seconds),
            decode_rows: Family::new_with_constructor(|| Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])),
            first_token_seconds: Family::new_with_constructor(seconds_of_calls),
            schemas: Family::default(),
            format_cache_bytes: Gauge::default(),
            format_text_bytes: Gauge::default(),
        }
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("generations", "Generations by what became of them", self.requests.clone());
        registry.register("prompt_tokens", "Tokens of prompts", self.prompt_tokens.clone());
        registry.register(
            "reused_tokens",
            "Tokens of prompts that were not computed again",
            self.reused_tokens.clone(),
        );
        registry.register("generated_tokens", "Tokens of continuations", self.tokens.clone());
        registry.register("drafted_tokens", "Tokens that were drafted and run", self.drafted_tokens.clone());
        registry.register("accepted_tokens", "Those of them that were accepted", self.accepted_tokens.clone());
        registry.register("queued_generations", "Generations that wait", self.queued.clone());
        registry.register("prefilling_generations", "Generations whose prompt is read", self.prefilling.clone());
        registry.register("decoding_rows", "Continuations that decode", self.decoding.clone());
        registry.register(
            "parked_rows",
            "Continuations that wait for their reader or their format",
            self.parked.clone(),
        );
        registry.register(
            "reserved_tokens",
            "Tokens that running generations may become",
            self.reserved_tokens.clone(),
        );
        registry.register(
            "kept_tokens",
            "Tokens kept of prompts and replies that have ended",
            self.kept_tokens.clone(),
        );
        registry.register("prefill_seconds", "Time of a run with parts of prompts", self.prefill_seconds.clone());
        registry.register(
            "decode_seconds",
            "Time of a run with continuations, parts of prompts beside them",
            self.decode_seconds.clone(),
        );
        registry.register("decode_rows", "Continuations of a run", self.decode_rows.clone());
        registry.register(
            "first_token_seconds",
            "From a generation's queueing until its first token",
            self.first_token_seconds.clone(),
        );
        registry.register("schemas", "JSON Schemas by what became of them", self.schemas.clone());
        registry.register("format_cache_bytes", "Memory of compiled schemas", self.format_cache_bytes.clone());
        registry.register(
            "format_text_bytes",
            "Memory that running texts with a format may come to",
            self.format_text_bytes.clone(),
        );
    }
}

impl traces::Observer for Metrics {
    fn exported(&self, spans: usize) {
        self.exported_spans.inc_by(spans as u64);
    }

    fn dropped(&self, spans: usize, why: &'static str) {
        self.dropped_spans.get_or_create(&[("why", why.to_owned())]).inc_by(spans as u64);
    }
}

impl formats::Observer for Metrics {
    fn noted(&self, what: Noted) {
        let outcome = match what {
            Noted::Hit => "hit",
            Noted::Compiled => "compiled",
            Noted::Refused => "refused",
            Noted::Killed => "killed",
        };
        self.generation.schemas.get_or_create(&[("outcome", outcome.to_owned())]).inc();
    }
}

fn of(model: &str) -> Labels<1> {
    [("model", model.to_owned())]
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

fn seconds_of_calls() -> OfCalls {
    HistogramWithExemplars::new(SECONDS.into_iter())
}

/// A trace as an example of a time.
fn exemplar(trace: Option<&Trace>) -> Option<Labels<1>> {
    trace.map(|trace| [("trace_id", trace.id())])
}

fn set(family: &Family<Labels<1>, Gauge>, labels: &Labels<1>, value: usize) {
    family.get_or_create(labels).set(i64::try_from(value).unwrap_or(i64::MAX));
}
