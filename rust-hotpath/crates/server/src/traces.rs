//! Traces: where the time of a call went, as spans that a collector takes by OTLP.
//!
//! Whoever began a trace has decided whether it is recorded, and says so in the call's `traceparent`; nothing begins here. Of a
//! call that is not recorded nothing is kept. What a call took is measured anyway, so its spans are made from that once it is
//! known. A span has no attributes but those of [`conventions`], so no text and no key gets into one.
//!
//! OpenTelemetry's own tracer is not used: its spans are made while time passes, and its batches tell nobody what they dropped.

pub mod conventions;
mod export;
mod parent;

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use tonic::Code;

pub use export::{Exporting, Observer, Settings};

/// The reason of what its caller left.
pub const CANCELLED: &str = "CANCELLED";

/// Begins the traces of calls. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tracer {
    sender: export::Sender,
    scope: InstrumentationScope,
}

/// The trace of one call, which is to be recorded.
#[derive(Debug)]
pub struct Trace {
    tracer: Tracer,
    id: TraceId,
    /// The caller's span.
    parent: SpanId,
    /// The call's own.
    call: SpanId,
    /// One moment by both clocks.
    started: Instant,
    started_at: SystemTime,
}

/// A child of the call's span: a part of its time.
#[derive(Debug)]
#[must_use]
pub struct Child<'a> {
    trace: &'a Trace,
    span: SpanData,
}

impl Tracer {
    /// One whose spans are exported to a collector, and what exports them.
    #[must_use]
    pub fn start(settings: &Settings, observer: Arc<dyn Observer>) -> (Self, Exporting) {
        let (sender, exporting) = export::start(settings, observer);
        let scope =
            InstrumentationScope::builder("triptych.dev/hotpath").with_version(env!("CARGO_PKG_VERSION")).build();
        (Self { sender, scope }, exporting)
    }

    /// The trace that a `traceparent` wants to have recorded; `None` if it wants none, or is none.
    #[must_use]
    pub fn join(&self, traceparent: &str, started: Instant) -> Option<Trace> {
        let parent = parent::sampled(traceparent)?;
        Some(Trace {
            tracer: self.clone(),
            id: parent.trace_id,
            parent: parent.span_id,
            call: fresh_id(),
            started,
            started_at: SystemTime::now().checked_sub(started.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH),
        })
    }
}

impl Trace {
    /// Its id, in hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> String {
        self.id.to_string()
    }

    /// A child of the call's span.
    pub fn child(&self, name: &'static str, from: Instant, to: Instant) -> Child<'_> {
        Child { trace: self, span: self.span(name.into(), fresh_id(), self.call, SpanKind::Internal, (from, to)) }
    }

    /// Ends the call. `method` is one of the contract's.
    pub fn end(&self, service: &str, method: &'static str, code: Code) {
        let times = (self.started, Instant::now());
        let mut span = self.span(format!("{service}/{method}").into(), self.call, self.parent, SpanKind::Server, times);
        span.parent_span_is_remote = true;
        span.attributes = conventions::call(service, method, code);
        if conventions::is_our_fault(code) {
            span.status = Status::error("");
        }
        self.tracer.sender.send(span);
    }

    fn span(
        &self,
        name: Cow<'static, str>,
        id: SpanId,
        parent: SpanId,
        kind: SpanKind,
        (from, to): (Instant, Instant),
    ) -> SpanData {
        SpanData {
            span_context: SpanContext::new(self.id, id, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: parent,
            parent_span_is_remote: false,
            span_kind: kind,
            name,
            start_time: self.time(from),
            end_time: self.time(to.max(from)),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.tracer.scope.clone(),
        }
    }

    fn time(&self, moment: Instant) -> SystemTime {
        self.started_at + moment.saturating_duration_since(self.started)
    }
}

impl Child<'_> {
    /// Gives it attributes.
    pub fn with(mut self, attributes: impl IntoIterator<Item = KeyValue>) -> Self {
        self.span.attributes.extend(attributes);
        self
    }

    /// Notes that something happened in it. `name` is one of a bounded number.
    pub fn event(self, name: &'static str, at: Instant) -> Self {
        self.event_with(name, at, Vec::new())
    }

    /// The same, with attributes.
    pub fn event_with(mut self, name: &'static str, at: Instant, attributes: Vec<KeyValue>) -> Self {
        let event = opentelemetry::trace::Event::new(name, self.trace.time(at), attributes, 0);
        self.span.events.events.push(event);
        self
    }

    /// Hands it on. `failed` is the reason of docs/errors.md for which it did not succeed.
    pub fn end(mut self, failed: Option<&'static str>) {
        if let Some(reason) = failed {
            self.span.attributes.push(conventions::error(reason));
            self.span.status = Status::error(""); // its words may quote what a caller sent
        }
        self.trace.tracer.sender.send(self.span);
    }
}

/// A random id, which is valid also where the system has no randomness to give.
fn fresh_id() -> SpanId {
    SpanId::from_bytes(getrandom::u64().unwrap_or_default().max(1).to_be_bytes())
}

/// A moment so long after another one.
#[must_use]
pub fn after(moment: Instant, took: Duration) -> Instant {
    moment.checked_add(took).unwrap_or(moment)
}
