//! The way of spans to a collector: bounded, and nobody's to wait for.

use std::{sync::Arc, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    resource::EnvResourceDetector,
    trace::{SpanData, SpanExporter as SpanExport},
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// Most spans that are exported at once: some 300 KB.
const MAX_BATCH: usize = 512;
/// How soon a span is exported that no full batch takes along.
const EXPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Where spans are sent, and what that may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// A collector that takes OTLP by gRPC: `http://host:port`.
    pub endpoint: String,
    /// Most spans that wait to be sent.
    pub queue: usize,
    /// Time for the collector to take a batch; at the end for all that wait.
    pub timeout: Duration,
}

/// Is told what becomes of spans. It may not wait.
pub trait Observer: Send + Sync + std::fmt::Debug {
    /// A collector has taken so many.
    fn exported(&self, spans: usize);
    /// So many are lost: `queue_full`, `not_exported` or `ended`.
    fn dropped(&self, spans: usize, why: &'static str);
}

/// Takes spans. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sender {
    queue: mpsc::Sender<SpanData>,
    observer: Arc<dyn Observer>,
}

/// The task that exports them, until it is told to end.
#[derive(Debug)]
pub struct Exporting {
    ending: CancellationToken,
    task: JoinHandle<()>,
    timeout: Duration,
}

impl Sender {
    /// Hands a span on. One too many is dropped.
    pub fn send(&self, span: SpanData) {
        if let Err(lost) = self.queue.try_send(span) {
            self.observer.dropped(
                1,
                match lost {
                    mpsc::error::TrySendError::Full(_) => "queue_full",
                    mpsc::error::TrySendError::Closed(_) => "ended",
                },
            );
        }
    }
}

impl Exporting {
    /// Exports what waits, as far as there is time for it. Spans that come later are dropped.
    pub async fn end(self) {
        self.ending.cancel();
        let abort = self.task.abort_handle();
        if timeout(self.timeout, self.task).await.is_err() {
            abort.abort();
        }
    }
}

/// Starts exporting. It needs a runtime, but no collector yet.
pub fn start(settings: &Settings, observer: Arc<dyn Observer>) -> (Sender, Exporting) {
    let (queue, waiting) = mpsc::channel(settings.queue);
    let ending = CancellationToken::new();
    let (to, timeout) = (exporter(settings), settings.timeout);
    let exporter = Exporter { to, waiting, observer: observer.clone(), timeout, in_trouble: false };
    let task = tokio::spawn(exporter.run(ending.clone()));
    (Sender { queue, observer }, Exporting { ending, task, timeout })
}

/// The exporter of OpenTelemetry. Of its variables of the environment those for headers and for the resource count; the others are
/// settings of ours.
fn exporter(settings: &Settings) -> Result<SpanExporter, String> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(settings.endpoint.clone())
        .with_protocol(Protocol::Grpc)
        .with_timeout(settings.timeout)
        .build();
    let mut exporter = exporter.map_err(|error| error.to_string())?;
    exporter.set_resource(
        &Resource::builder_empty()
            .with_detector(Box::new(EnvResourceDetector::new()))
            .with_attributes([
                KeyValue::new("service.name", "triptych-hotpath"),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", format!("{:016x}", getrandom::u64().unwrap_or_default())),
            ])
            .build(),
    );
    Ok(exporter)
}

struct Exporter<E> {
    to: Result<E, String>,
    waiting: mpsc::Receiver<SpanData>,
    observer: Arc<dyn Observer>,
    timeout: Duration,
    in_trouble: bool,
}

impl<E: SpanExport> Exporter<E> {
    async fn run(mut self, ending: CancellationToken) {
        let mut ticks = interval(EXPORT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        loop {
            let room = MAX_BATCH - batch.len();
            tokio::select! {
                biased;
                () = ending.cancelled() => break,
                _ = ticks.tick() => {}
                taken = self.waiting.recv_many(&mut batch, room) => match taken {
                    0 => break,
                    _ if taken < room => continue, // for those of the next moments
                    _ => {}
                },
            }
            self.export(&mut batch, Instant::now() + self.timeout).await;
        }
        let end = Instant::now() + self.timeout;
        self.waiting.close();
        while !batch.is_empty() || self.waiting.recv_many(&mut batch, MAX_BATCH).await > 0 {
            if Instant::now() >= end {
                self.observer.dropped(batch.len(), "ended");
                batch.clear();
                continue;
            }
            self.export(&mut batch, end).await;
        }
    }

    /// Exports a batch once: one that is not taken is lost, since those behind it are as good.
    async fn export(&mut self, batch: &mut Vec<SpanData>, until: Instant) {
        let batch = std::mem::take(batch);
        let spans = batch.len();
        if spans == 0 {
            return;
        }
        let outcome = match &self.to {
            Err(cause) => Err(cause.clone()),
            Ok(exporter) => match timeout_at(until, exporter.export(batch)).await {
                Err(_) => Err("it did not answer in time".to_owned()),
                Ok(outcome) => outcome.map_err(|error| error.to_string()),
            },
        };
        match &outcome {
            Ok(()) => self.observer.exported(spans),
            Err(_) => self.observer.dropped(spans, "not_exported"),
        }
        match (outcome, self.in_trouble) {
            (Err(error), false) => tracing::warn!(error, "the collector takes no spans"),
            (Ok(()), true) => tracing::info!("the collector takes spans again"),
            _ => return,
        }
        self.in_trouble = !self.in_trouble;
    }
}
