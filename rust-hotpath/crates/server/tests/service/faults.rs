//! Faults of ours: told as such, kept to their request, and seen by readiness.

use std::{sync::Arc, time::Duration};

use hotpath_contract::inference::v1::ModelState;
use tonic::Code;

use crate::{
    sessions::{Control, PANICS},
    support::{TestServer, config, embed, ids, reason, request, texts},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_session_is_that_requests_error() {
    let control = Arc::new(Control::default());
    let server = TestServer::start_with(config(), control.factory()).await;
    server.wait_for(|model| model.state() == ModelState::Ready).await;
    let status = embed(&server.client(), request(vec![ids(&[1]), ids(&[PANICS])])).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).0.as_str()), (Code::Internal, "INTERNAL"));
    assert!(!status.message().contains("panics"), "the cause is for the log: {}", status.message());
    assert!(embed(&server.client(), request(vec![ids(&[1])])).await.is_ok());
    assert_eq!(server.metric("hotpath_inputs_total", "outcome=\"failed\"").await, 2.0);
    assert_eq!(server.metric("hotpath_inputs_total", "outcome=\"completed\"").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_whose_inference_fails_is_not_ready_until_it_works_again() {
    let control = Arc::new(Control::default());
    let mut config = config();
    config.timing.probe = Duration::from_millis(50);
    config.timing.ready = Duration::from_millis(200);
    let server = TestServer::start_with(config, control.factory()).await;
    server.wait_for(|model| model.state() == ModelState::Ready).await;

    control.fail(true);
    let failed = server.wait_for(|model| model.state() == ModelState::Failed).await;
    assert!(failed.status_message.contains("a session that fails"), "{}", failed.status_message);
    assert!(!failed.revision.is_empty());
    let status = embed(&server.client(), texts(&["a"])).await.unwrap_err();
    assert_eq!(reason(&status).0, "MODEL_NOT_READY");

    control.fail(false);
    server.wait_for(|model| model.state() == ModelState::Ready && model.status_message.is_empty()).await;
    assert!(embed(&server.client(), texts(&["a"])).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_model_stays_ready_by_its_own_probes() {
    let control = Arc::new(Control::default());
    let mut config = config();
    config.timing.probe = Duration::from_millis(20);
    config.timing.ready = Duration::from_secs(15);
    let server = TestServer::start_with(config, control.factory()).await;
    server.wait_for(|model| model.state() == ModelState::Ready).await;
    let runs = server.metric("hotpath_batch_inputs_count", "").await;
    crate::support::eventually("a probe", || async {
        (server.metric("hotpath_batch_inputs_count", "").await > runs).then_some(())
    })
    .await;
    assert_eq!(server.metric("hotpath_inputs_total", "").await, 0.0, "probes are not callers' inputs");
}
