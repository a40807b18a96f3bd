//! Around every call: its deadline, its log span, its count, and the care that a fault in it stays in it.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{Extensions, HeaderMap},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use futures_util::FutureExt;
use hotpath_contract::{DESCRIPTORS, inference::v1::inference_service_server};
use http_body::{Body as HttpBody, Frame, SizeHint};
use prost::Message;
use prost_types::FileDescriptorSet;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tonic::{Code, Status};
use tracing::Instrument;

use crate::{
    error::Error,
    metrics::Metrics,
    traces::{CANCELLED, Trace, Tracer},
};

/// The deadline as we keep it lies before the caller's by this much, or by a quarter of the caller's time if that is less:
/// so our reply, which has a reason, arrives before the caller gives up, and before the transport's own timer goes off,
/// which knows no reasons.
const HEAD_START: Duration = Duration::from_millis(10);

/// Longest header value that goes into the log.
const LONGEST_LOGGED: usize = 128;

/// What all calls share.
#[derive(Debug)]
pub struct Calls {
    /// Counts them.
    pub metrics: Arc<Metrics>,
    /// Knows those that are not answered yet.
    pub in_flight: TaskTracker,
    /// Once cancelled, no new work is taken.
    pub draining: CancellationToken,
    /// Once cancelled, no work is finished.
    pub stopping: CancellationToken,
    /// Records those whose callers want it; `None` where nothing is recorded.
    pub tracer: Option<Tracer>,
}

/// One call, as its handler sees it.
#[derive(Debug, Clone)]
pub struct Call {
    /// When it came.
    pub started: Instant,
    /// When nobody waits for it any more.
    pub deadline: Option<Instant>,
    /// Once cancelled, the process waits for it no longer.
    pub stopping: CancellationToken,
    /// Its trace, if that is recorded.
    pub trace: Option<Arc<Trace>>,
}

impl Call {
    /// The call that a request's extensions hold; a fresh one for a request that did not come through [`middleware`].
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        let fresh =
            || Self { started: Instant::now(), deadline: None, stopping: CancellationToken::new(), trace: None };
        extensions.get().cloned().unwrap_or_else(fresh)
    }

    /// Does a part of the call [`within_deadline`](Self::within_deadline), as a span of its own.
    ///
    /// # Errors
    /// Those of `within_deadline`.
    pub async fn in_span<T>(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut span = OpenSpan { trace: self.trace.as_deref(), name, from: Instant::now(), failed: Some(CANCELLED) };
        let result = self.within_deadline(work).await;
        span.failed = result.as_ref().err().map(Error::reason_name);
        result
    }

    /// Waits for `work` until the deadline, or until the process waits no longer.
    ///
    /// # Errors
    /// Those of `work`, [`Error::DeadlineExceeded`] and [`Error::ShuttingDown`].
    pub async fn within_deadline<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let work = async {
            match self.deadline {
                None => work.await,
                Some(deadline) => {
                    tokio::time::timeout_at(deadline.into(), work).await.unwrap_or(Err(Error::DeadlineExceeded))
                }
            }
        };
        tokio::select! {
            biased;
            result = work => result,
            () = self.stopping.cancelled() => Err(Error::ShuttingDown),
        }
    }
}

/// The span of a part of a call, which ends when this is dropped.
struct OpenSpan<'a> {
    trace: Option<&'a Trace>,
    name: &'static str,
    from: Instant,
    failed: Option<&'static str>,
}

impl Drop for OpenSpan<'_> {
    fn drop(&mut self) {
        if let Some(trace) = self.trace {
            trace.child(self.name, self.from, Instant::now()).end(self.failed);
        }
    }
}

/// A call that has not ended. Counted when it does; one that is dropped before was cancelled.
struct Running {
    metrics: Arc<Metrics>,
    method: &'static str,
    code: Code,
    trace: Option<Arc<Trace>>,
    _in_flight: TaskTrackerToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.metrics.call(self.method, self.code);
        if let Some(trace) = &self.trace {
            trace.end(inference_service_server::SERVICE_NAME, self.method, self.code);
        }
    }
}

/// A reply's body, which is the call's end: a stream runs for as long as it is read.
struct Replying {
    body: Body,
    running: Option<Running>,
}

impl HttpBody for Replying {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        // Ends before the caller can see that it has, so that what it asks next finds it counted.
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(status) = frame.trailers_ref().and_then(Status::from_header_map)
            && let Some(mut running) = self.running.take()
        {
            running.code = status.code();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The middleware that every call goes through.
pub async fn middleware(State(calls): State<Arc<Calls>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let works = is_inference(request.uri().path());
    let method = method(request.uri().path());
    let (metrics, in_flight) = (calls.metrics.clone(), calls.in_flight.token());
    let headers = request.headers();
    let trace = calls.tracer.as_ref().filter(|_| works).and_then(|tracer| {
        let traceparent = headers.get("traceparent")?.to_str().ok()?;
        tracer.join(traceparent, started).map(Arc::new)
    });
    let mut running = Running { metrics, method, code: Code::Cancelled, trace: trace.clone(), _in_flight: in_flight };
    let span = tracing::info_span!(
        "call",
        method,
        request_id = logged(headers, "x-request-id"),
        traceparent = logged(headers, "traceparent")
    );
    let timeout = headers.get("grpc-timeout").and_then(|value| parse_timeout(value.to_str().ok()?));
    let deadline = timeout.and_then(|timeout| started.checked_add(timeout.saturating_sub(HEAD_START.min(timeout / 4))));
    request.extensions_mut().insert(Call { started, deadline, stopping: calls.stopping.clone(), trace });

    let answer = async {
        if works && calls.draining.is_cancelled() {
            return refusal(Error::ShuttingDown);
        }
        match AssertUnwindSafe(next.run(request)).catch_unwind().await {
            Ok(response) if works => with_reason(response),
            Ok(response) => response,
            Err(_) => refusal(Error::Internal { cause: "the handler panicked".to_owned() }),
        }
    };
    let response = answer.instrument(span).await;
    match Status::from_header_map(response.headers()) {
        None if works => response.map(|body| Body::new(Replying { body, running: Some(running) })),
        status => {
            running.code = status.map_or(Code::Ok, |status| status.code());
            response
        }
    }
}

/// Methods that are told apart in metrics, for a label has few values: the contract's, and those of health and reflection.
static METHODS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let contract = FileDescriptorSet::decode(DESCRIPTORS).expect("the build made it");
    let services = contract.file.into_iter().flat_map(|file| file.service);
    let ours = services.flat_map(|service| service.method).filter_map(|method| method.name);
    ours.chain(["Check", "Watch", "ServerReflectionInfo"].map(str::to_owned)).collect()
});

/// The last part of a call's path if it is one of ours.
fn method(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    METHODS.iter().find(|known| *known == name).map_or("other", String::as_str)
}

/// Whether a call is of the service that runs models, and so is work: none is taken while the process drains.
fn is_inference(path: &str) -> bool {
    path.split('/').nth_back(1) == Some(inference_service_server::SERVICE_NAME)
}

/// Gives a reason to the errors that the transport makes itself: it could not read the request.
fn with_reason(response: Response) -> Response {
    let Some(status) = Status::from_header_map(response.headers()) else { return response };
    if !status.details().is_empty() {
        return response;
    }
    match status.code() {
        Code::OutOfRange => refusal(Error::BadMessage { problem: "has more bytes than the limit" }),
        Code::Internal => refusal(Error::BadMessage { problem: "cannot be decoded" }),
        _ => response,
    }
}

fn refusal(error: Error) -> Response {
    Status::from(error).into_http()
}

/// A header's value, cut to what is sane in a log.
fn logged<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    &value[..value.len().min(LONGEST_LOGGED)] // ASCII, so any byte is a border
}

/// Reads gRPC's timeout: up to 8 digits and a unit.
fn parse_timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tower::Service;

    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(parse_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse_timeout("1S"), Some(Duration::from_secs(1)));
        assert_eq!(parse_timeout("2M"), Some(Duration::from_secs(120)));
        assert_eq!(parse_timeout("3H"), Some(Duration::from_secs(10_800)));
        assert_eq!(parse_timeout("99999999n"), Some(Duration::from_nanos(99_999_999)));
        assert_eq!(parse_timeout("7u"), Some(Duration::from_micros(7)));
        for malformed in ["", "m", "1", "-1S", "1.5S", "100000000S", "1s", "1é", "é"] {
            assert_eq!(parse_timeout(malformed), None, "{malformed}");
        }
    }

    #[tokio::test]
    async fn a_panic_in_a_handler_is_that_calls_error() {
        async fn panics() -> axum::http::StatusCode {
            panic!("a handler that panics")
        }
        let calls = Arc::new(Calls {
            metrics: Arc::new(Metrics::new("test")),
            in_flight: TaskTracker::new(),
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
            tracer: None,
        });
        let mut routes = axum::Router::new()
            .route("/triptych.inference.v1.InferenceService/Embed", axum::routing::post(panics))
            .layer(axum::middleware::from_fn_with_state(calls.clone(), middleware));
        let request =
            Request::post("/triptych.inference.v1.InferenceService/Embed").body(axum::body::Body::empty()).unwrap();
        let response = routes.call(request).await.unwrap();
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("panics"), "the cause is for the log: {}", status.message());
        assert!(calls.in_flight.is_empty(), "a drain does not wait for it");
    }

    #[test]
    fn only_inference_is_work() {
        assert!(is_inference("/triptych.inference.v1.InferenceService/Embed"));
        for other in ["/triptych.inference.v1.ModelService/ListModels", "/grpc.health.v1.Health/Check", "/Embed", ""] {
            assert!(!is_inference(other), "{other}");
        }
    }

    #[test]
    fn unknown_methods_share_a_label() {
        assert_eq!(method("/any.package.v1.InferenceService/Embed"), "Embed");
        assert_eq!(method("/x/DropTables"), "other");
        assert_eq!(method("/triptych.inference.v1.ModelService/WatchLoad"), "WatchLoad");
        assert_eq!(method("/grpc.health.v1.Health/Check"), "Check");
        assert_eq!(method(""), "other");
    }
}
