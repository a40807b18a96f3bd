//! The end of a process: accepted work is finished, new work is refused, and nobody hangs.

use std::{sync::Arc, time::Duration};

use hotpath_contract::inference::v1::ModelState;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    sessions::Control,
    support::{LIMIT, TestServer, config, embed, eventually, http_get, ids, reason, request},
};

#[tokio::test(flavor = "multi_thread")]
async fn accepted_work_is_finished_and_new_work_refused() {
    let control = Arc::new(Control::default());
    let mut server = TestServer::start_with(config(), control.factory()).await;
    server.wait_for(|model| model.state() == ModelState::Ready).await;
    assert_eq!(http_get(&server.metrics_url, "/readyz").await.0, 200);
    let mut health = HealthClient::new(server.channel());
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let mut next_health = async || watch.next().await.map(|reply| reply.unwrap().status());
    assert_eq!(next_health().await, Some(ServingStatus::Serving));
    let mut loads = server.watch_load().await;
    assert!(loads.next().await.is_some_and(|load| load.is_ok()));

    control.close();
    let client = server.client();
    let accepted = tokio::spawn(async move { embed(&client, request(vec![ids(&[1]), ids(&[2])])).await.is_ok() });
    eventually("the accepted work being run", || async { control.ran(&[2]).then_some(()) }).await;
    server.stop();
    assert_eq!(next_health().await, Some(ServingStatus::NotServing));
    let refused = eventually("new work being refused", || async {
        embed(&server.client(), request(vec![ids(&[3])])).await.err()
    });
    let status = refused.await;
    let (reason, details) = reason(&status);
    assert_eq!(reason, "HOTPATH_UNAVAILABLE");
    assert!(details.retry_info().is_some());
    assert_eq!(http_get(&server.metrics_url, "/readyz").await.0, 503);
    assert_eq!(http_get(&server.metrics_url, "/livez").await.0, 200);
    while loads.next().await.is_some_and(|load| load.is_ok()) {} // it ends, though a call is in flight

    control.open();
    assert!(accepted.await.unwrap(), "accepted work is finished");
    assert_eq!(next_health().await, None, "those who watch are let go");
    tokio::time::timeout(LIMIT, &mut server.task).await.unwrap().unwrap().outcome.unwrap();
}

/// A server whose session stands still, with a call in it, that was told to stop and may drain for no time.
async fn overdue(stubborn: bool) -> (TestServer, Arc<Control>, JoinHandle<Result<(), Status>>) {
    let control = Arc::new(Control::default());
    let mut config = config();
    config.drain = Duration::from_millis(20);
    let mut server = TestServer::start_with(config, control.factory()).await;
    server.wait_for(|model| model.state() == ModelState::Ready).await;
    if stubborn {
        control.be_stubborn();
    }
    control.close();
    let client = server.client();
    let stuck = tokio::spawn(async move { embed(&client, request(vec![ids(&[1])])).await.map(drop) });
    eventually("the work being run", || async { control.ran(&[1]).then_some(()) }).await;
    server.stop();
    (server, control, stuck)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_drain_leaves_is_told_so_and_its_run_is_ended() {
    let (mut server, _, stuck) = overdue(false).await;
    let status = stuck.await.unwrap().unwrap_err();
    assert_eq!((status.code(), reason(&status).0.as_str()), (Code::Unavailable, "HOTPATH_UNAVAILABLE"));
    let ended = tokio::time::timeout(LIMIT, &mut server.task).await.unwrap().unwrap();
    ended.outcome.unwrap();
    assert!(!ended.sessions_run, "its sessions are gone before it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_does_not_end_holds_up_nobody_and_is_told_of() {
    let (mut server, control, stuck) = overdue(true).await;
    assert_eq!(reason(&stuck.await.unwrap().unwrap_err()).0, "HOTPATH_UNAVAILABLE");
    let ended = tokio::time::timeout(LIMIT, &mut server.task).await.unwrap().unwrap();
    assert!(ended.outcome.is_ok() && ended.sessions_run, "the process must not end as usual");
    control.open();
}
