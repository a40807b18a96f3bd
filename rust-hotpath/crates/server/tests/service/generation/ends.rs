//! Every way in which a stream ends early: its rows are free, and the metrics say why.

use std::time::{Duration, Instant};

use hotpath_contract::inference::v1::{GenerateResponse, ModelState};
use tonic::{Code, Request, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;

use super::support::{Generating, TINY, config, generate, listen, one_row, open, prompt, request};
use crate::{
    sessions::Control,
    support::{LIMIT, eventually, reason},
};

/// A stream of which one message was read, and whose second step waits.
async fn begun(generating: &Generating, control: &Control, max_tokens: u32) -> Streaming<GenerateResponse> {
    control.close_after(2);
    let mut stream = open(&generating.client(), request(prompt(1, 10), max_tokens)).await.unwrap();
    assert!(stream.message().await.unwrap().is_some());
    eventually("a step that waits", || async { control.waiting().then_some(()) }).await;
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_while_queued_holds_nothing() {
    let (generating, control) = Generating::controlled(one_row()).await;
    let [first, second] = generating.spawn_two(&control).await;
    second.abort();
    generating.wait_for("hotpath_queued_generations", 0.0).await;
    eventually("its being counted", || async { (generating.ended("cancelled").await == 1.0).then_some(()) }).await;
    control.open();
    first.await.unwrap().unwrap();
    generating.wait_until_free().await;
    assert!(!control.ran(&prompt(2, 4)), "nothing runs for nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_while_its_prompt_is_read_leaves_before_the_next_chunk() {
    let (generating, control) = Generating::controlled(config()).await;
    control.close();
    let long = prompt(3, 200);
    let reading = generating.spawn(long.clone(), 4);
    eventually("its first chunk", || async { control.ran(&long[..32]).then_some(()) }).await;
    reading.abort();
    eventually("its being counted", || async { (generating.ended("cancelled").await == 1.0).then_some(()) }).await;
    control.open();
    generating.wait_until_free().await;
    assert!(!control.ran(&long[32..64]), "one chunk was in the session, and no other runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_in_mid_stream_leaves_before_the_next_step() {
    let (generating, control) = Generating::controlled(config()).await;
    let stream = begun(&generating, &control, 400).await;
    let steps = control.steps();
    drop(stream);
    eventually("its being counted", || async { (generating.ended("cancelled").await == 1.0).then_some(()) }).await;
    control.open();
    generating.wait_until_free().await;
    assert_eq!(control.steps(), steps, "the step that was in the session was the last one");
    assert!(generating.server.metric("hotpath_generated_tokens_total", TINY).await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_is_kept_in_mid_stream() {
    let (generating, control) = Generating::controlled(config()).await;
    control.close_after(2);
    let mut asked = Request::new(request(prompt(1, 10), 400));
    asked.metadata_mut().insert("grpc-timeout", "1S".parse().unwrap());
    let mut stream = open(&generating.client(), asked).await.unwrap();
    assert!(stream.message().await.unwrap().is_some(), "it has begun");
    let status = listen(stream).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).0.as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    assert_eq!(generating.ended("expired").await, 1.0);
    control.open();
    generating.wait_until_free().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_parked_then_ended_and_holds_up_nobody() {
    let mut config = one_row();
    config.generation.slow_reader = Duration::from_millis(300);
    let generating = Generating::ready(config).await;
    // Small windows, so that what is not read does not wait in the transport.
    let narrow = generating.server.endpoint().initial_stream_window_size(1024).connect_lazy();
    let narrow = hotpath_contract::inference::v1::inference_service_client::InferenceServiceClient::new(narrow);
    let mut wide = request(prompt(4, 4), 500);
    wide.top_logprobs = Some(20);
    let unread = open(&narrow, wide).await.unwrap();
    generating.wait_for("hotpath_reserved_tokens", 0.0).await; // its row is free, whether or not it is ever read
    generate(&generating.client(), request(prompt(5, 4), 4)).await.unwrap();
    let status = listen(unread).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).0.as_str()), (Code::Aborted, "SLOW_READER"));
    assert_eq!(generating.ended("slow_reader").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_longer_than_generations_may_is_refused_with_a_delay() {
    let mut config = one_row();
    config.generation.max_wait = Duration::from_millis(500);
    let (generating, control) = Generating::controlled(config).await;
    let [first, second] = generating.spawn_two(&control).await;
    tokio::time::sleep(Duration::from_millis(500)).await; // time itself is what is tested
    control.open();
    let status = second.await.unwrap().unwrap_err();
    let (reason, details) = reason(&status);
    assert_eq!((status.code(), reason.as_str()), (Code::Unavailable, "QUEUE_FULL"));
    assert!(details.retry_info().is_some() && status.message().contains("waited"), "{status:?}");
    first.await.unwrap().unwrap();
    assert!(!control.ran(&prompt(2, 4)));
    assert_eq!(generating.ended("refused").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_streams_and_refuses_new_ones() {
    let (mut generating, control) = Generating::controlled(config()).await;
    let stream = begun(&generating, &control, 40).await;
    let client = generating.client();
    generating.server.stop();
    let status =
        eventually("new work being refused", || async { open(&client, request(prompt(2, 4), 4)).await.err() }).await;
    assert_eq!(reason(&status).0, "HOTPATH_UNAVAILABLE");
    control.open();
    let told = listen(stream).await.unwrap();
    assert_eq!(told.done.unwrap().completion_tokens, 40);
    tokio::time::timeout(LIMIT, &mut generating.server.task).await.unwrap().unwrap().outcome.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_a_drain_leaves_is_told_so() {
    let mut config = config();
    config.drain = Duration::from_millis(20);
    let (mut generating, control) = Generating::controlled(config).await;
    let stream = begun(&generating, &control, 400).await;
    generating.server.stop();
    let status = listen(stream).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).0.as_str()), (Code::Unavailable, "HOTPATH_UNAVAILABLE"));
    let ended = tokio::time::timeout(LIMIT, &mut generating.server.task).await.unwrap().unwrap();
    assert!(ended.outcome.is_ok() && !ended.sessions_run);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_fails_ends_its_stream_with_a_reason() {
    let (generating, control) = Generating::controlled(config()).await;
    let stream = begun(&generating, &control, 400).await;
    control.fail(true);
    control.open();
    let status = listen(stream).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).0.as_str()), (Code::Internal, "INTERNAL"));
    assert!(!status.message().contains("a session that fails"), "the cause is for the log: {}", status.message());
    control.fail(false);
    generate(&generating.client(), request(prompt(2, 4), 4)).await.unwrap();
    assert_eq!((generating.ended("failed").await, generating.ended("completed").await), (1.0, 1.0));
    generating.wait_until_free().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_that_dies_ends_its_streams_with_a_reason_and_its_model_comes_back() {
    let (generating, control) = Generating::controlled(config()).await;
    let stream = begun(&generating, &control, 400).await;
    let other = generating.spawn(prompt(2, 4), 2);
    control.kill(true);
    control.open();
    let status = listen(stream).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).0.as_str()), (Code::Internal, "INTERNAL"));
    assert!(!status.message().contains("a slot that stays"), "the cause is for the log: {}", status.message());
    let _ = other.await.unwrap(); // it ended, or began with the other one
    let failed = generating.server.wait_for(|model| model.state() == ModelState::Failed).await;
    assert!(failed.status_message.contains("a slot that stays"), "{}", failed.status_message);
    generating.server.wait_for_health(&format!("model/{TINY}"), ServingStatus::NotServing).await;
    let refused = open(&generating.client(), request(prompt(2, 4), 4)).await.unwrap_err();
    assert_eq!(reason(&refused).0, "MODEL_NOT_READY");

    control.kill(false);
    generating.server.wait_for(|model| model.state() == ModelState::Ready && model.status_message.is_empty()).await;
    generate(&generating.client(), request(prompt(2, 4), 4)).await.unwrap();
}

/// Readers that do not read are no fault of the model, though nothing runs and nobody else finds a place.
#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_leave_their_model_ready() {
    let mut config = one_row();
    config.timing.probe = Duration::from_millis(50);
    config.timing.ready = Duration::from_millis(300);
    let generating = Generating::ready(config).await;
    let narrow = generating.server.endpoint().initial_stream_window_size(1024).connect_lazy();
    let narrow = hotpath_contract::inference::v1::inference_service_client::InferenceServiceClient::new(narrow);
    let mut wide = request(prompt(4, 4), 500);
    wide.top_logprobs = Some(20);
    let unread = open(&narrow, wide).await.unwrap();
    generating.wait_for("hotpath_parked_rows", 1.0).await;
    let until = Instant::now() + Duration::from_millis(900); // time itself is what is tested
    while Instant::now() < until {
        let model = generating.server.model().await;
        assert_eq!(model.state(), ModelState::Ready, "{}", model.status_message);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    generating.wait_for("hotpath_parked_rows", 1.0).await;
    drop(unread);
    generate(&generating.client(), request(prompt(5, 4), 4)).await.unwrap();
}
