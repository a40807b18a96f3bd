//! Models that cannot serve: the service lives, and says why.

use std::fs;

use hotpath_contract::inference::v1::{ListModelsRequest, ModelState, model_service_client::ModelServiceClient};
use hotpath_testing::MODEL;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::{OwnModels, TestServer, config, embed, http_get, reason, texts};

#[tokio::test(flavor = "multi_thread")]
async fn a_ready_model_is_described_and_healthy() {
    let server = TestServer::ready(config()).await;
    let model = server.model().await;
    let limits = model.limits.unwrap();
    assert_eq!((limits.max_tokens, limits.max_inputs, limits.vocabulary_size), (256, 2048, 30522));
    assert_eq!(
        (model.name.as_str(), model.dimensions.as_slice(), model.status_message.as_str()),
        (MODEL, &[384][..], "")
    );
    assert!(model.create_time.is_some() && !model.owner.is_empty() && model.revision.len() == 16);
    server.wait_for_health("", ServingStatus::Serving).await;
    server.wait_for_health(&format!("model/{MODEL}"), ServingStatus::Serving).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tampered_bundle_is_refused_and_said_so() {
    let models = OwnModels::link();
    let bundle = hotpath_bundle::Revision::current(&models.model()).unwrap();
    let path = models.model().join(bundle.as_str()).join("tokenizer.json");
    let mut tampered = fs::read(&path).unwrap();
    *tampered.last_mut().unwrap() ^= 1;
    models.replace(&path, &tampered);
    let mut config = config();
    config.models = models.path();
    let server = TestServer::start(config).await;

    let failed = server.wait_for(|model| model.state() == ModelState::Failed).await;
    assert!(failed.status_message.contains("tokenizer.json: sha256"), "{}", failed.status_message);
    let status = embed(&server.client(), texts(&["a"])).await.unwrap_err();
    let (reason, details) = reason(&status);
    assert_eq!(reason, "MODEL_NOT_READY");
    assert!(details.retry_info().is_some());
    server.wait_for_health("", ServingStatus::NotServing).await;
    assert_eq!(http_get(&server.metrics_url, "/readyz").await.0, 503);

    tampered[0] = b'{';
    *tampered.last_mut().unwrap() ^= 1;
    models.replace(&path, &tampered);
    server.wait_for(|model| model.state() == ModelState::Ready && model.status_message.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_a_folder_fails_alone() {
    let mut config = config();
    config.model_names = vec![MODEL.to_owned(), "absent".to_owned()];
    let server = TestServer::start(config).await;
    let list = || async {
        ModelServiceClient::new(server.channel()).list_models(ListModelsRequest {}).await.unwrap().into_inner().models
    };
    let models = crate::support::eventually("one ready and one failed", || async {
        let models = list().await;
        (models[0].state() == ModelState::Failed && models[1].state() == ModelState::Ready).then_some(models)
    })
    .await;
    assert_eq!((models[0].name.as_str(), models[1].name.as_str()), ("absent", MODEL), "ordered by name");
    assert!(models[0].status_message.starts_with("current: "), "{}", models[0].status_message);
    assert!(embed(&server.client(), texts(&["a"])).await.is_ok());
    server.wait_for_health("model/absent", ServingStatus::NotServing).await;
    server.wait_for_health(&format!("model/{MODEL}"), ServingStatus::Serving).await;
    server.wait_for_health("", ServingStatus::Serving).await;
    assert_eq!(http_get(&server.metrics_url, "/readyz").await.0, 200);
}
