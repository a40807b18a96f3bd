//! Faults of ours: told as such, kept to their request, and seen by readiness.

use std::{fs, process::Command, sync::Arc, time::Duration};

use hotpath_contract::inference::v1::ModelState;
use hotpath_testing::MODEL;
use tonic::Code;

use crate::{
    sessions::{Control, KILLS, PANICS},
    support::{OwnModels, TestServer, config, embed, eventually, http_get, ids, reason, request, texts},
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
    assert!(server.metric("hotpath_run_failures_total", &format!("model=\"{MODEL}\"")).await >= 1.0);
    for path in ["/readyz", "/livez"] {
        let (status, said) = http_get(&server.metrics_url, path).await;
        assert_eq!(status, if path == "/livez" { 200 } else { 503 });
        assert!(said.contains(&format!("{MODEL}: failed: ")) && said.contains("a session that fails"), "{said}");
    }
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
    eventually("a probe", || async { (server.metric("hotpath_batch_inputs_count", "").await > runs).then_some(()) })
        .await;
    assert_eq!(server.metric("hotpath_inputs_total", "").await, 0.0, "probes are not callers' inputs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_whose_worker_died_says_so_and_comes_back() {
    let control = Arc::new(Control::default());
    let mut config = config();
    config.timing.retry = Duration::from_millis(200); // long enough to be seen
    let server = TestServer::start_with(config, control.factory()).await;
    server.wait_for(|model| model.state() == ModelState::Ready).await;
    let status = embed(&server.client(), request(vec![ids(&[KILLS])])).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).0.as_str()), (Code::Internal, "INTERNAL"));
    let failed = server.wait_for(|model| model.state() == ModelState::Failed).await;
    assert!(failed.status_message.contains("died") && failed.status_message.contains("a bomb"), "{failed:?}");
    server.wait_for(|model| model.state() == ModelState::Ready && model.status_message.is_empty()).await;
    assert!(embed(&server.client(), request(vec![ids(&[1])])).await.is_ok());
}

/// A pipe that nobody writes to keeps its readers waiting, as a file system that is gone does.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_does_not_answer_keeps_nobody_from_being_served_or_judged() {
    let models = OwnModels::link();
    let control = Arc::new(Control::default());
    let mut config = config();
    config.models = models.path();
    config.timing.probe = Duration::from_millis(50);
    config.timing.ready = Duration::from_millis(200);
    let server = TestServer::start_with(config, control.factory()).await;
    server.wait_for(|model| model.state() == ModelState::Ready).await;

    let (current, pipe) = (models.model().join("current"), models.path().join("pipe"));
    let content = fs::read(&current).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::rename(&pipe, &current).unwrap();
    for failing in [true, false] {
        control.fail(failing);
        let expected = if failing { ModelState::Failed } else { ModelState::Ready };
        server.wait_for(|model| model.state() == expected).await;
    }
    assert!(embed(&server.client(), texts(&["a"])).await.is_ok());

    // Whoever waits reads it, and everything goes on as before.
    let (mut writer, beside) = (fs::OpenOptions::new().write(true).open(&current).unwrap(), models.path().join("new"));
    fs::write(&beside, &content).unwrap();
    fs::rename(&beside, &current).unwrap();
    std::io::Write::write_all(&mut writer, &content).unwrap();
    drop(writer);
    let second = models.add_of_owner("somebody else");
    models.promote(&second);
    server.wait_for(|model| model.revision == second.as_str()).await;
}
