//! A bundle whose golden cases do not come out never serves.

use std::{fs, path::Path, sync::Arc};

use hotpath_bundle::Revision;
use hotpath_contract::inference::v1::{Model, ModelState};
use hotpath_testing::{MODEL, models_dir};
use serde_json::{Value, json};

use crate::{
    sessions::Control,
    support::{OwnModels, TestServer, config},
};

/// A revision whose hashes are right and whose golden file says something else.
pub fn with_golden(model: &'static str, real: &Path, change: impl FnOnce(&mut Value)) -> OwnModels {
    let models = OwnModels::of(model, real);
    let folder = models.model().join(Revision::current(&models.model()).unwrap().as_str());
    let read = |file: &str| serde_json::from_slice::<Value>(&fs::read(folder.join(file)).unwrap()).unwrap();
    let (mut manifest, mut golden) = (read("bundle.json"), read("golden.json"));
    change(&mut golden);

    let beside = models.path().join("golden.json");
    fs::write(&beside, serde_json::to_vec(&golden).unwrap()).unwrap();
    let (size_bytes, sha256) = hotpath_bundle::hash(&beside).unwrap();
    let files = manifest["files"].as_array_mut().unwrap();
    let entry = files.iter_mut().find(|file| file["path"] == "golden.json").unwrap();
    *entry = json!({"path": "golden.json", "sha256": sha256, "size_bytes": size_bytes.to_string()});

    let revision = models.add(&serde_json::to_vec(&manifest).unwrap());
    fs::rename(beside, models.model().join(revision.as_str()).join("golden.json")).unwrap();
    models.promote(&revision);
    models
}

async fn failed(server: &TestServer) -> Model {
    server.wait_for(|model| model.state() == ModelState::Failed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_and_ids_that_differ_are_refused_by_case() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 2] = [
        (
            |golden| golden["embeddings"][3]["vector"] = golden["embeddings"][4]["vector"].clone(),
            "embeddings[3].vector",
        ),
        (|golden| golden["embeddings"][2]["token_ids"][1] = json!(1000), "embeddings[2].token_ids"),
    ];
    for (change, field) in cases {
        let models = with_golden(MODEL, &models_dir().join(MODEL), change);
        let mut config = config();
        config.models = models.path();
        let server = TestServer::start(config).await;
        let message = failed(&server).await.status_message;
        assert!(message.contains(&format!("golden.json: {field}")), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_vectors_depend_on_the_batch_is_refused() {
    let control = Arc::new(Control::default());
    control.depend_on_the_batch();
    let server = TestServer::start_with(config(), control.factory()).await;
    let message = failed(&server).await.status_message;
    assert!(message.contains("embeddings[0].graphs[0]") && message.contains("gives other bits"), "{message}");
}
