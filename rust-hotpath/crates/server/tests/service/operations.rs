//! What operators see, and calls that the generated client would not make.

use axum::{
    body::Body,
    http::{
        Request,
        header::{ACCEPT, CONTENT_TYPE},
    },
};
use hotpath_contract::inference::v1::EmbedRequest;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use prost::Message;
use tokio_stream::StreamExt;
use tonic::Status;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::support::{LIMIT, TestServer, config, embed, http_get, texts};

/// Sends bytes as a message, with no timer of the client's own, and gives the error that comes back.
pub async fn send_raw(server: &TestServer, payload: &[u8], timeout: &str) -> Status {
    let mut frame = vec![0];
    frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend(payload);
    let request = Request::post(format!("http://{}/triptych.inference.v1.InferenceService/Embed", server.address))
        .header(CONTENT_TYPE, "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", timeout)
        .body(Body::from(frame))
        .unwrap();
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Body>();
    let response = client.request(request).await.unwrap();
    Status::from_header_map(response.headers()).expect("an error without a message")
}

pub async fn send_with_timeout(server: &TestServer, request: EmbedRequest, timeout: &str) -> Status {
    send_raw(server, &request.encode_to_vec(), timeout).await
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_the_promised_names() {
    let server = TestServer::ready(config()).await;
    embed(&server.client(), texts(&["a", "b"])).await.unwrap();
    embed(&server.client(), texts(&[""])).await.unwrap_err();
    let (status, text) = http_get(&server.metrics_url, "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "hotpath_inputs_total{model=\"all-minilm-l6-v2\",outcome=\"completed\"} 2",
        "hotpath_queued_tokens{model=\"all-minilm-l6-v2\"} 0",
        "hotpath_queued_inputs{model=\"all-minilm-l6-v2\"} 0",
        "hotpath_running_inputs{model=\"all-minilm-l6-v2\"} 0",
        "hotpath_model_state{model=\"all-minilm-l6-v2\",state=\"ready\"} 1",
        "hotpath_model_state{model=\"all-minilm-l6-v2\",state=\"failed\"} 0",
        "hotpath_grpc_requests_total{method=\"Embed\",code=\"Ok\"} 1",
        "hotpath_grpc_requests_total{method=\"Embed\",code=\"InvalidArgument\"} 1",
        "hotpath_queue_seconds_count{model=\"all-minilm-l6-v2\",method=\"Embed\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
    for name in ["batch_tokens_bucket", "batch_inputs_bucket", "inference_seconds_bucket", "build_info"] {
        assert!(text.contains(&format!("hotpath_{name}{{")), "no {name} in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_the_services() {
    let server = TestServer::ready(config()).await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(server.channel());
    let mut replies = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let reply = replies.next().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = reply else { panic!("{reply:?}") };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in
        ["triptych.inference.v1.InferenceService", "triptych.inference.v1.ModelService", "grpc.health.v1.Health"]
    {
        assert!(names.contains(&name), "{names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_come_in_the_form_that_is_asked_for() {
    let server = TestServer::ready(config()).await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    for (accept, content_type, ends) in [
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4; charset=utf-8", false),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8", true),
    ] {
        let request = Request::get(format!("http://{}/metrics", server.metrics_url)).header(ACCEPT, accept);
        let response = client.request(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.headers()[CONTENT_TYPE], content_type);
        let body = axum::body::to_bytes(Body::new(response.into_body()), 1 << 20).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(text.ends_with("# EOF\n"), ends, "{text}");
        let counter =
            if ends { "# TYPE hotpath_grpc_requests counter" } else { "# TYPE hotpath_grpc_requests_total counter" };
        assert!(text.lines().any(|line| line == counter), "no {counter} in\n{text}");
    }
}

/// As many as may be connected say nothing; whoever asks gets an answer all the same, and they are let go.
#[tokio::test(flavor = "multi_thread")]
async fn who_connects_to_the_metrics_and_asks_nothing_is_let_go() {
    let server = TestServer::ready(config()).await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(tokio::net::TcpStream::connect(&server.metrics_url).await.unwrap());
    }
    let answer = tokio::time::timeout(LIMIT, http_get(&server.metrics_url, "/livez")).await;
    assert_eq!(answer.unwrap().0, 200);
    for mut stream in silent {
        let mut rest = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest);
        assert!(tokio::time::timeout(LIMIT, read).await.is_ok(), "it holds its place for ever");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_connection_is_closed_and_another_one_made() {
    let mut config = config();
    config.max_connection_age = Some(std::time::Duration::from_millis(100));
    let server = TestServer::ready(config).await;
    let stream = tokio::net::TcpStream::connect(&server.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let request = Request::post(format!("http://{}/grpc.health.v1.Health/Check", server.address));
    let request = request.header(CONTENT_TYPE, "application/grpc").body(Body::empty()).unwrap();
    let (answer, closed) = tokio::join!(sender.send_request(request), tokio::time::timeout(LIMIT, connection));
    assert!(answer.is_ok() && closed.unwrap().is_ok(), "its calls finish, and then it ends");
}
