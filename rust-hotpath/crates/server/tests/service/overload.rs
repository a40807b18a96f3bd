//! More work than may wait, less time than it takes, and callers who go away.

use std::{sync::Arc, time::Duration};

use hotpath_contract::inference::v1::{ModelState, Priority};
use hotpath_testing::MODEL;
use tonic::Code;

use crate::{
    generation::support::{Generating, TINY, one_row},
    operations::send_with_timeout,
    sessions::Control,
    support::{TestServer, config, embed, eventually, ids, reason, request, text},
};
use tokio::time::timeout;
use tokio_stream::StreamExt;

/// A server with one session that waits, and is at its first text.
async fn busy(max_queued_tokens: usize) -> (TestServer, Arc<Control>, tokio::task::JoinHandle<bool>) {
    let control = Arc::new(Control::default());
    let mut config = config();
    config.limits.workers = 1;
    config.limits.max_queued_tokens = max_queued_tokens;
    let server = TestServer::start_with(config, control.factory()).await;
    server.wait_for(|model| model.state() == ModelState::Ready).await;
    control.close();
    let client = server.client();
    let first = tokio::spawn(async move { embed(&client, request(vec![ids(&[1])])).await.is_ok() });
    eventually("the first text being run", || async { control.ran(&[1]).then_some(()) }).await;
    (server, control, first)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_with_a_delay_and_recovers() {
    let (server, control, first) = busy(4).await;
    let client = server.client();
    let second = tokio::spawn(async move { embed(&client, request(vec![ids(&[2, 2, 2, 2])])).await.is_ok() });
    eventually("the queue being full", || async {
        (server.metric("hotpath_queued_tokens", "").await == 4.0).then_some(())
    })
    .await;
    let status = embed(&server.client(), request(vec![ids(&[3])])).await.unwrap_err();
    let (reason, details) = reason(&status);
    assert_eq!((status.code(), reason.as_str()), (Code::Unavailable, "QUEUE_FULL"));
    assert!(details.retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    assert!(details.error_info().unwrap().metadata.contains_key("waiting_ms"));
    assert_eq!(server.metric("hotpath_inputs_total", "outcome=\"refused\"").await, 1.0);
    control.open();
    assert!(first.await.unwrap() && second.await.unwrap(), "what was accepted is done");
    assert!(embed(&server.client(), request(vec![ids(&[3])])).await.is_ok());
}

/// What only a tokenizer finds wrong tells whether one was asked: of what is certain to find no room, none is.
#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_room_is_not_tokenized() {
    let (server, control, first) = busy(40).await;
    let client = server.client();
    let second = tokio::spawn(async move { embed(&client, request(vec![ids(&[2; 24])])).await.is_ok() });
    eventually("the queue being full for it", || async {
        (server.metric("hotpath_queued_tokens", "").await == 24.0).then_some(())
    })
    .await;
    let client = server.client();
    let why = async |asked| reason(&embed(&client, asked).await.unwrap_err()).0;
    let wrong = |tokens: usize| ids(&vec![u32::MAX; tokens]);
    assert_eq!(why(request(vec![wrong(5)])).await, "TOKEN_ID_OUT_OF_RANGE", "there is room for five");
    assert_eq!(why(request(vec![wrong(20)])).await, "QUEUE_FULL");
    assert_eq!(why(request(vec![text("one word"), wrong(5)])).await, "QUEUE_FULL", "the words and what is around them");
    assert_eq!(why(request(vec![text(&"word ".repeat(1000))])).await, "INPUT_TOO_LONG", "it never finds room");
    let mut truncated = request(vec![text(&"word ".repeat(1000))]);
    truncated.truncate = true;
    assert_eq!(why(truncated).await, "QUEUE_FULL");
    let mut other = request(vec![wrong(20)]);
    other.scheduling.as_mut().unwrap().fairness_key = "other".to_owned();
    assert_eq!(why(other).await, "TOKEN_ID_OUT_OF_RANGE", "a key that has nothing is let in");
    assert_eq!(server.metric("hotpath_inputs_total", "outcome=\"refused\"").await, 4.0);
    control.open();
    assert!(first.await.unwrap() && second.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_watch_the_load_are_told_when_it_changes() {
    let (server, control, first) = busy(1000).await;
    let mut loads = server.watch_load().await;
    let mut next = async || loads.next().await.unwrap().unwrap().models.remove(0);
    let load = next().await;
    assert_eq!((load.model.as_str(), load.queued_tokens, load.running_tokens), (MODEL, 0, 1));
    assert_eq!((load.rows, load.max_rows, load.waiting_requests), (1, 1, 0), "its one session is busy");
    assert!(load.tokens_per_second > 0.0, "its golden cases were measured");
    let client = server.client();
    let second = tokio::spawn(async move { embed(&client, request(vec![ids(&[2, 2, 2])])).await.is_ok() });
    let load = next().await;
    assert_eq!((load.queued_tokens, load.running_tokens), (3, 1));
    assert_eq!((load.rows, load.waiting_requests), (1, 1));
    control.open();
    assert!(first.await.unwrap() && second.await.unwrap());
    loop {
        let load = next().await;
        if (load.queued_tokens, load.running_tokens) == (0, 0) {
            break;
        }
    }
    assert!(timeout(Duration::from_secs(1), loads.next()).await.is_err(), "nothing changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn generations_are_load_with_all_that_they_may_come_to() {
    let (generating, control) = Generating::controlled(one_row()).await;
    let streams = generating.spawn_two(&control).await; // each of 4 tokens and at most 4 more
    let load = generating.server.watch_load().await.next().await.unwrap().unwrap().models.remove(0);
    assert_eq!((load.model.as_str(), load.queued_tokens, load.running_tokens), (TINY, 128, 128), "whole pages");
    assert_eq!((load.rows, load.max_rows, load.waiting_requests), (1, 2, 1), "one, and one for newcomers");
    control.open();
    for stream in streams {
        stream.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_is_kept_in_the_queue_and_what_is_late_does_not_run() {
    let (server, control, first) = busy(1000).await;
    let status = send_with_timeout(&server, request(vec![ids(&[4]), ids(&[4])]), "200m").await;
    assert_eq!((status.code(), reason(&status).0.as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    assert_eq!(server.metric("hotpath_inputs_total", "outcome=\"expired\"").await, 2.0);
    assert_eq!(server.metric("hotpath_queued_inputs", "").await, 0.0);
    control.open();
    assert!(first.await.unwrap());
    assert!(embed(&server.client(), request(vec![ids(&[5])])).await.is_ok());
    assert!(!control.ran(&[4]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_of_a_caller_who_went_away_does_not_run() {
    let (server, control, first) = busy(1000).await;
    let client = server.client();
    let gone = tokio::spawn(async move { embed(&client, request(vec![ids(&[6]), ids(&[6])])).await });
    eventually("its being queued", || async {
        (server.metric("hotpath_queued_inputs", "").await == 2.0).then_some(())
    })
    .await;
    gone.abort();
    eventually("its being dropped", || async {
        (server.metric("hotpath_queued_inputs", "").await == 0.0).then_some(())
    })
    .await;
    assert_eq!(server.metric("hotpath_inputs_total", "outcome=\"cancelled\"").await, 2.0);
    control.open();
    assert!(first.await.unwrap());
    assert!(embed(&server.client(), request(vec![ids(&[7])])).await.is_ok());
    assert!(!control.ran(&[6]));
}

#[tokio::test(flavor = "multi_thread")]
async fn interactive_work_overtakes_batch_work_that_waits() {
    let (server, control, first) = busy(1000).await;
    let (slow, fast) = (server.client(), server.client());
    let mut batch = request(vec![ids(&[8; 100])]);
    batch.scheduling.as_mut().unwrap().set_priority(Priority::Batch);
    let batch = tokio::spawn(async move { embed(&slow, batch).await.unwrap().timings.unwrap().queue.unwrap() });
    eventually("the batch work waiting", || async {
        (server.metric("hotpath_queued_inputs", "").await == 1.0).then_some(())
    })
    .await;
    let interactive = tokio::spawn(async move { embed(&fast, request(vec![ids(&[9; 100])])).await.is_ok() });
    eventually("both waiting", || async { (server.metric("hotpath_queued_inputs", "").await == 2.0).then_some(()) })
        .await;
    control.open();
    assert!(first.await.unwrap() && interactive.await.unwrap());
    batch.await.unwrap();
    assert!(control.position(&[9; 100]) < control.position(&[8; 100]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_too_long_is_refused_with_a_delay() {
    let control = Arc::new(Control::default());
    let mut config = config();
    config.limits.workers = 1;
    config.limits.max_wait = Duration::from_millis(200);
    let server = TestServer::start_with(config, control.factory()).await;
    server.wait_for(|model| model.state() == ModelState::Ready).await;
    control.close();
    let (client, other) = (server.client(), server.client());
    let first = tokio::spawn(async move { embed(&client, request(vec![ids(&[1])])).await.is_ok() });
    eventually("the first text being run", || async { control.ran(&[1]).then_some(()) }).await;
    let waits = tokio::spawn(async move { embed(&other, request(vec![ids(&[2])])).await });
    eventually("its being queued", || async {
        (server.metric("hotpath_queued_inputs", "").await == 1.0).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(200)).await; // time itself is what is tested
    control.open();
    let status = waits.await.unwrap().unwrap_err();
    let (reason, details) = reason(&status);
    assert_eq!(reason, "QUEUE_FULL");
    assert!(details.retry_info().is_some() && status.message().contains("waited"), "{status:?}");
    assert!(first.await.unwrap() && !control.ran(&[2]));
}
