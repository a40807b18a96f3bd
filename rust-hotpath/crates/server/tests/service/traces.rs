//! What a collector is told of calls, and what becomes of them where it does not listen.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use hotpath_contract::inference::v1::EmbedRequest;
use hotpath_server::{config::Config, traces::Settings};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::Event},
};
use prost::Message;
use tokio::net::TcpListener;
use tonic::{
    Code, Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use crate::support::{TestServer, config, eventually, reason, texts};

pub const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
pub const CALLER: &str = "00f067aa0ba902b7";
const SERVICE: &str = "triptych.inference.v1.InferenceService";

/// A collector in this process.
#[derive(Debug, Clone, Default)]
pub struct Collector {
    got: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.got.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Starts one, and gives settings that send to it.
    pub async fn start(config: Config) -> (Self, Config) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self::default();
        let service = TraceServiceServer::new(collector.clone());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
        (collector, sent_to(&endpoint, config))
    }

    pub fn spans(&self) -> Vec<Span> {
        let got = self.got.lock().unwrap();
        let resources = got.iter().flat_map(|request| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        let mut spans: Vec<Span> = scopes.flat_map(|scope| scope.spans.clone()).collect();
        spans.sort_by_key(|span| (span.start_time_unix_nano, u64::MAX - span.end_time_unix_nano));
        spans
    }

    /// The spans, once that of the call is among them.
    pub async fn call(&self, method: &str) -> Vec<Span> {
        let name = format!("{SERVICE}/{method}");
        eventually("the span of a call", || async {
            let spans = self.spans();
            spans.iter().any(|span| span.name == name).then_some(spans)
        })
        .await
    }

    fn bytes(&self) -> Vec<u8> {
        self.got.lock().unwrap().iter().flat_map(Message::encode_to_vec).collect()
    }
}

pub fn sent_to(endpoint: &str, config: Config) -> Config {
    let settings = Settings { endpoint: endpoint.to_owned(), queue: 64, timeout: Duration::from_millis(200) };
    Config { traces: Some(settings), ..config }
}

/// A request with a trace context.
pub fn traced<T>(message: T, flags: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-{CALLER}-{flags}").parse().unwrap());
    request
}

pub fn attributes(of: &[KeyValue]) -> BTreeMap<&str, String> {
    let shown = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    of.iter().map(|pair| (pair.key.as_str(), shown(pair))).collect()
}

pub fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

/// Holds that all spans are of the caller's trace, and below its span: the call's, and all others below that and within it.
pub fn check_tree(spans: &[Span]) {
    let call = &spans[0];
    assert_eq!(hex(&call.parent_span_id), CALLER);
    for span in spans {
        assert_eq!(hex(&span.trace_id), TRACE);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
        assert!(span.start_time_unix_nano >= call.start_time_unix_nano, "{span:?}");
        assert!(span.end_time_unix_nano <= call.end_time_unix_nano, "{span:?}");
    }
    assert!(spans[1..].iter().all(|span| span.parent_span_id == call.span_id));
}

pub fn events(of: &Span) -> Vec<&str> {
    of.events.iter().map(|event: &Event| event.name.as_str()).collect()
}

/// The traces that are examples of a histogram.
pub fn examples<'a>(metrics: &'a str, metric: &str) -> Vec<&'a str> {
    let lines = metrics.lines().filter(|line| line.starts_with(metric));
    lines.filter_map(|line| line.split_once(" # {trace_id=\"")?.1.split('"').next()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

async fn embed(server: &TestServer, request: EmbedRequest, flags: &str) -> Result<(), Status> {
    server.client().embed(traced(request, flags)).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sampled_call_shows_where_its_time_went() {
    let (collector, config) = Collector::start(config()).await;
    let server = TestServer::ready(config).await;
    embed(&server, texts(&["a text", "and another one"]), "01").await.unwrap();
    let spans = collector.call("Embed").await;
    assert_eq!(names(&spans), ["triptych.inference.v1.InferenceService/Embed", "tokenize", "queue", "inference"]);
    check_tree(&spans);
    assert_eq!(attributes(&spans[0].attributes)["rpc.response.status_code"], "OK");
    let inference = attributes(&spans[3].attributes);
    assert_eq!(inference["triptych.inputs"], "2");
    assert!(inference["triptych.tokens"].parse::<usize>().unwrap() > 4);
    let metrics = server.metrics_as("application/openmetrics-text").await;
    assert_eq!(examples(&metrics, "hotpath_queue_seconds"), [TRACE], "{metrics}");
    eventually("the spans in the metrics", || async {
        (server.metric("hotpath_trace_spans_exported_total", "").await == 4.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_not_sampled_shows_nothing() {
    let (collector, config) = Collector::start(config()).await;
    let server = TestServer::ready(config).await;
    embed(&server, texts(&["a text"]), "00").await.unwrap();
    server.client().embed(texts(&["a text"])).await.unwrap();
    let mut malformed = Request::new(texts(&["a text"]));
    malformed.metadata_mut().insert("traceparent", "00-zz-01".parse().unwrap());
    server.client().embed(malformed).await.unwrap();
    embed(&server, texts(&["a text"]), "01").await.unwrap();
    assert_eq!(collector.call("Embed").await.len(), 4, "of the last one alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_says_why_and_not_of_what() {
    let (collector, config) = Collector::start(config()).await;
    let server = TestServer::ready(config).await;
    let mut wrong = texts(&["confidential words"]);
    wrong.model = "confidential-model".to_owned();
    let refused = embed(&server, wrong, "01").await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let failed = embed(&server, texts(&["confidential words", ""]), "01").await.unwrap_err();
    assert_eq!(reason(&failed).0, "EMPTY_INPUT");
    let mut dear = texts(&["confidential words"]);
    dear.scheduling.as_mut().unwrap().max_charge = 1;
    assert_eq!(reason(&embed(&server, dear, "01").await.unwrap_err()).0, "CHARGE_TOO_HIGH");
    let spans = eventually("the calls", || async {
        let spans = collector.spans();
        (spans.iter().filter(|span| span.name != "tokenize").count() == 3).then_some(spans)
    })
    .await;
    let calls = spans.iter().filter(|span| span.name != "tokenize");
    let codes: Vec<String> =
        calls.map(|span| attributes(&span.attributes)["rpc.response.status_code"].clone()).collect();
    assert_eq!(codes, ["NOT_FOUND", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"]);
    assert!(spans.iter().all(|span| span.status.as_ref().is_none_or(|status| status.message.is_empty())));
    let told = collector.bytes();
    assert!(!told.windows(12).any(|bytes| bytes == b"confidential"));
}

/// The collector's address listens, and nobody ever answers there.
#[tokio::test(flavor = "multi_thread")]
async fn no_call_waits_for_a_collector_that_hangs() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let mut server = TestServer::ready(sent_to(&endpoint, config())).await;
    let dropped = |why| server.metric("hotpath_trace_spans_dropped_total", why);
    for calls in 1.. {
        embed(&server, texts(&["a text"]), "01").await.unwrap();
        if calls % 50 == 0 && dropped("not_exported").await > 0.0 && dropped("queue_full").await > 0.0 {
            break;
        }
        assert!(calls < 20_000, "none is dropped");
    }
    server.stop();
    let ended = tokio::time::timeout(Duration::from_secs(60), server.task).await.unwrap().unwrap();
    assert!(ended.outcome.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_at_the_end_is_sent() {
    let (collector, config) = Collector::start(config()).await;
    let mut server = TestServer::ready(config).await;
    embed(&server, texts(&["a text"]), "01").await.unwrap();
    server.stop();
    server.task.await.unwrap();
    assert_eq!(collector.spans().len(), 4);
}
