//! The table of bad requests that three languages share: every case that can be asked over gRPC.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use hotpath_contract::{
    DESCRIPTORS,
    inference::v1::{EmbedRequest, TokenizeRequest},
    reason_from_name,
};
use hotpath_server::error::grpc_code;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;
use tonic::Status;

use crate::operations::send_raw;
use crate::support::{TestServer, config, embed, reason, texts};

#[derive(Deserialize)]
struct Table {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    reason: String,
    needs: Option<String>,
    grpc: Option<Call>,
    #[serde(default)]
    expect: Expect,
}

#[derive(Deserialize)]
struct Call {
    method: String,
    request: Value,
}

#[derive(Default, Deserialize)]
struct Expect {
    grpc_field: Option<String>,
    message: Option<String>,
}

fn cases() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/cases/errors.json");
    let json = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice::<Table>(&json).unwrap().cases
}

/// Replaces each `{"$repeat": X, "times": N}` by X repeated N times.
fn expand(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(expand).collect(),
        Value::Object(mut fields) => match (fields.remove("$repeat"), fields.get("times").and_then(Value::as_u64)) {
            (Some(Value::String(text)), Some(times)) => text.repeat(usize::try_from(times).unwrap()).into(),
            (Some(Value::Array(items)), Some(times)) => (0..times).flat_map(|_| items.clone()).collect(),
            (None, _) => Value::Object(fields.into_iter().map(|(name, value)| (name, expand(value))).collect()),
            (Some(other), _) => panic!("cannot repeat {other}"),
        },
        other => other,
    }
}

/// Reads a message in Protobuf's JSON form.
fn message<M: Message + Default>(name: &str, json: Value) -> M {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let descriptor = pool.get_message_by_name(&format!("triptych.inference.v1.{name}")).unwrap();
    DynamicMessage::deserialize(descriptor, json).unwrap().transcode_to().unwrap()
}

async fn refusal(server: &TestServer, call: Call) -> Status {
    let (mut client, json) = (server.client(), expand(call.request));
    let error = match call.method.as_str() {
        "Embed" => client.embed(message::<EmbedRequest>("EmbedRequest", json)).await.err(),
        "Tokenize" => client.tokenize(message::<TokenizeRequest>("TokenizeRequest", json)).await.err(),
        other => panic!("no such method: {other}"),
    };
    error.expect("the case is refused")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_is_refused_as_the_table_says_and_leaves_the_service_as_it_was() {
    let server = TestServer::ready(config()).await;
    let before = embed(&server.client(), texts(&["still there"])).await.unwrap().embeddings;
    let mut asked = 0;
    for case in cases().into_iter().filter(|case| case.needs.is_none()) {
        let Some(call) = case.grpc else { continue };
        let status = refusal(&server, call).await;
        let (found, details) = reason(&status);
        assert_eq!(found, case.reason, "{}: {status:?}", case.name);
        assert_eq!(status.code(), grpc_code(reason_from_name(&found).unwrap()), "{}", case.name);
        let metadata = &details.error_info().unwrap().metadata;
        assert_eq!(metadata.get("field"), case.expect.grpc_field.as_ref(), "{}", case.name);
        if let Some(pattern) = case.expect.message {
            assert!(Regex::new(&pattern).unwrap().is_match(status.message()), "{}: {}", case.name, status.message());
        }
        let after = embed(&server.client(), texts(&["still there"])).await.unwrap().embeddings;
        assert_eq!(after, before, "after {}", case.name);
        asked += 1;
    }
    assert!(asked >= 20, "the table has only {asked} cases for gRPC");
    assert_eq!(server.metric("hotpath_queued_inputs", "").await, 0.0);
}

/// The cases that need a condition are tested where it is made; this holds that none is forgotten. Those that never come as far
/// as the hot path are held by the end-to-end tests.
#[test]
fn every_condition_is_known() {
    let needed: BTreeSet<String> =
        cases().into_iter().filter(|case| case.grpc.is_some()).filter_map(|case| case.needs).collect();
    let known = ["full_queue", "short_deadline", "model_not_ready"].map(String::from);
    assert_eq!(needed, known.into());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_an_invalid_value() {
    let mut config = config();
    config.max_message_bytes = 1024;
    let server = TestServer::ready(config).await;
    let status = embed(&server.client(), texts(&[&"x".repeat(2000)])).await.unwrap_err();
    assert_eq!(reason(&status).0, "INVALID_VALUE");
    assert!(status.message().contains("bytes"), "{status:?}");
    let whole = texts(&["a", "b"]).encode_to_vec();
    for cut in 0..whole.len() {
        let status = send_raw(&server, &whole[..cut], "30S").await;
        let reason = reason(&status).0;
        assert!(["INVALID_VALUE", "MISSING_FIELD", "EMPTY_INPUT"].contains(&reason.as_str()), "{cut}: {status:?}");
    }
    assert!(
        tokio::time::timeout(Duration::from_secs(30), embed(&server.client(), texts(&["a"]))).await.unwrap().is_ok()
    );
}
