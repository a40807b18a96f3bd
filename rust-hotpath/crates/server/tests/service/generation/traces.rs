//! What a collector is told of streams.

use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::Request;

use super::support::{Generating, config, listen, one_row, open, prompt, request};
use crate::{
    support::eventually,
    traces::{Collector, TRACE, attributes, check_tree, events, examples, names, traced},
};

const CALL: &str = "triptych.inference.v1.InferenceService/Generate";

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_shows_its_queue_prompt_and_tokens() {
    let (collector, mut config) = Collector::start(config()).await;
    config.generation.chunk_tokens = 16;
    let generating = Generating::ready(config).await;
    let stream = open(&generating.client(), traced(request(prompt(1, 40), 6), "01")).await.unwrap();
    listen(stream).await.unwrap();
    let spans = collector.call("Generate").await;
    check_tree(&spans);
    assert_eq!(names(&spans), [CALL, "tokenize", "queue", "prefill", "decode"]);
    let of = |span: usize| attributes(&spans[span].attributes);
    assert_eq!((of(3)["triptych.tokens"].as_str(), of(4)["triptych.tokens"].as_str()), ("40", "6"));
    assert_eq!(events(&spans[3]), ["chunk"; 3]);
    let chunks: Vec<_> = spans[3].events.iter().map(|event| attributes(&event.attributes)).collect();
    let told = |name: &str| -> Vec<&str> { chunks.iter().map(|chunk| chunk[name].as_str()).collect() };
    assert_eq!((told("triptych.tokens"), told("triptych.other_tokens")), (vec!["16", "16", "8"], vec!["0"; 3]));
    assert!(spans[3].events.is_sorted_by_key(|event| event.time_unix_nano));
    let within = spans[3].start_time_unix_nano..=spans[3].end_time_unix_nano;
    assert!(spans[3].events.iter().all(|event| within.contains(&event.time_unix_nano)));
    assert_eq!(events(&spans[4]), ["first token", "last token"]);
    let ends: Vec<u64> = spans[2..4].iter().map(|span| span.end_time_unix_nano).collect();
    let begins: Vec<u64> = spans[3..5].iter().map(|span| span.start_time_unix_nano).collect();
    assert_eq!(ends, begins, "each begins where the one before ends");
    let metrics = generating.server.metrics_as("application/openmetrics-text").await;
    for metric in ["hotpath_queue_seconds", "hotpath_first_token_seconds"] {
        assert_eq!(examples(&metrics, metric), [TRACE], "{metric}:\n{metrics}");
    }
    assert!(!generating.server.metrics_as("text/plain").await.contains(TRACE));
}

/// The calls that have ended, in the order of their beginnings, each with the last of its parts.
fn calls(spans: &[Span]) -> Vec<(&Span, &Span)> {
    let roots = spans.iter().filter(|span| span.name == CALL);
    roots.map(|root| (root, spans.iter().rfind(|span| span.parent_span_id == root.span_id).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_left_shows_where() {
    let (collector, config) = Collector::start(one_row()).await;
    let (generating, control) = Generating::controlled(config).await;
    control.close_after(2);
    let ask = |number| {
        let request: Request<_> = traced(request(prompt(number, 10), 400), "01");
        let client = generating.client();
        async move { open(&client, request).await.unwrap() }
    };
    let mut first = ask(1).await;
    assert!(first.message().await.unwrap().is_some());
    eventually("a step that waits", || async { control.waiting().then_some(()) }).await;
    let second = ask(2).await;
    generating.wait_for("hotpath_queued_generations", 1.0).await;
    drop(second);
    collector.call("Generate").await;
    drop(first);
    control.open();
    generating.wait_until_free().await;
    let spans = eventually("both calls", || async {
        let spans = collector.spans();
        (calls(&spans).len() == 2).then_some(spans)
    })
    .await;
    let left: Vec<&str> = calls(&spans).iter().map(|(_, last)| last.name.as_str()).collect();
    assert_eq!(left, ["decode", "queue"]);
    for (call, last) in calls(&spans) {
        assert_eq!(attributes(&call.attributes)["rpc.response.status_code"], "CANCELLED");
        assert_eq!(attributes(&last.attributes)["error.type"], "CANCELLED");
    }
}
