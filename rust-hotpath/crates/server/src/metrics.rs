//! What is counted. Labels have few values: a model's name, a method, a code.

use hotpath_contract::inference::v1::ModelState;
use hotpath_scheduler::{Observer, Run};
use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

use crate::models::Models;

/// Buckets in seconds, from the time that a worker needs to wake to the longest wait in a queue.
const SECONDS: [f64; 14] = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 10.0];

/// Labels of a metric: name and value.
type Labels<const N: usize> = [(&'static str, String); N];

/// What became of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has its vector.
    Completed,
    /// Its caller went away.
    Cancelled,
    /// Its deadline passed.
    Expired,
    /// The queue was full, or it waited in it for too long.
    Refused,
    /// A fault of ours.
    Failed,
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Refused => "refused",
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
    batch_tokens: Histogram,
    batch_inputs: Histogram,
    inference_seconds: Histogram,
    queue_seconds: Histogram,
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
            batch_tokens: Histogram::new([8.0, 16.0, 32.0, 64.0, 96.0, 128.0, 192.0, 256.0, 512.0]),
            batch_inputs: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0]),
            inference_seconds: Histogram::new(SECONDS),
            queue_seconds: Histogram::new(SECONDS),
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
        registry.register("batch_tokens", "Tokens of a run", self.batch_tokens.clone());
        registry.register("batch_inputs", "Inputs of a run", self.batch_inputs.clone());
        registry.register("inference_seconds", "Time of a run", self.inference_seconds.clone());
        registry.register(
            "queue_seconds",
            "From a request's queueing until its first input ran",
            self.queue_seconds.clone(),
        );
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

    /// Takes note of how long a request waited.
    pub fn queued(&self, seconds: f64) {
        self.queue_seconds.observe(seconds);
    }

    /// Everything in OpenMetrics text, with the models' gauges as they are now.
    #[must_use]
    pub fn text(&self, models: &Models) -> String {
        for model in models.iter() {
            let (now, labels) = (model.now(), [("model", model.name().to_owned())]);
            let load = now.serving.map(|serving| serving.scheduler.load()).unwrap_or_default();
            set(&self.queued_tokens, &labels, load.queued_tokens);
            set(&self.queued_inputs, &labels, load.queued_inputs);
            set(&self.running_inputs, &labels, load.running_inputs);
            for (state, name) in
                [(ModelState::Loading, "loading"), (ModelState::Ready, "ready"), (ModelState::Failed, "failed")]
            {
                let labels = [("model", model.name().to_owned()), ("state", name.to_owned())];
                self.model_state.get_or_create(&labels).set(i64::from(now.state == state));
            }
        }
        let mut text = String::new();
        // Writing to a String fails only where a metric of ours cannot be written at all, which any test would show.
        text::encode(&mut text, &self.registry).expect("metrics can be written");
        text
    }
}

fn set(family: &Family<Labels<1>, Gauge>, labels: &Labels<1>, value: usize) {
    family.get_or_create(labels).set(i64::try_from(value).unwrap_or(i64::MAX));
}

/// Sees the runs of every model's sessions.
impl Observer for Metrics {
    #[allow(clippy::cast_precision_loss)] // token counts are far below 2^52
    fn ran(&self, run: &Run) {
        self.batch_tokens.observe(run.tokens as f64);
        self.batch_inputs.observe(run.inputs as f64);
        self.inference_seconds.observe(run.took.as_secs_f64());
    }
}
