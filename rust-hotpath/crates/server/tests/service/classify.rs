//! Scores of texts, by the default head on the default encoder.

use std::{
    fs,
    sync::{Arc, Mutex, mpsc},
};

use hotpath_bundle::{Bundle, Golden, GoldenClassification, Graph, Refused, Revision};
use hotpath_contract::inference::v1::{
    ClassifyRequest, ClassifyResponse, Model, ModelLoad, ModelState, Scheduling, Task, TokenizeRequest,
};
use hotpath_runtime::{Decode, Encode, Head, Threads};
use hotpath_server::{config::Config, models::sessions::Sessions};
use hotpath_testing::{CLASSIFICATION_MODEL, MODEL, classification_bundle, library, models_dir};
use serde_json::Value;
use tempfile::TempDir;
use tokio_stream::StreamExt;
use tonic::Status;

use crate::support::{LIMIT, OwnModels, TestServer, config as plain, embed, eventually, reason, scheduling, texts};

pub fn config() -> Config {
    Config { model_names: vec![MODEL.to_owned(), CLASSIFICATION_MODEL.to_owned()], ..plain() }
}

async fn classifier(server: &TestServer, holds: impl Fn(&Model) -> bool) -> Model {
    eventually("the head being as expected", || async {
        server.models().await.into_iter().find(|model| model.name == CLASSIFICATION_MODEL && holds(model))
    })
    .await
}

pub async fn ready(config: Config) -> TestServer {
    let server = TestServer::start(config).await;
    classifier(&server, |model| model.state() == ModelState::Ready).await;
    server
}

fn request(texts: &[&str]) -> ClassifyRequest {
    ClassifyRequest {
        model: CLASSIFICATION_MODEL.to_owned(),
        texts: texts.iter().map(|text| (*text).to_owned()).collect(),
        scheduling: Some(scheduling()),
    }
}

async fn classify(server: &TestServer, request: ClassifyRequest) -> Result<ClassifyResponse, Status> {
    server.client().classify(request).await.map(tonic::Response::into_inner)
}

fn golden(bundle: &Bundle) -> &[GoldenClassification] {
    match &bundle.golden {
        Golden::Classifications(cases) => cases,
        _ => panic!("{} does another task", bundle.manifest.name),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_load_is_its_encoders() {
    let server = ready(config()).await;
    let loads = server.watch_load().await.next().await.unwrap().unwrap().models;
    let [encoder, classifier] = loads.try_into().unwrap();
    assert_eq!((encoder.model.as_str(), classifier.model.as_str()), (MODEL, CLASSIFICATION_MODEL));
    assert!(encoder.tokens_per_second > 0.0);
    assert_eq!(ModelLoad { model: MODEL.to_owned(), ..classifier }, encoder);
}

#[tokio::test(flavor = "multi_thread")]
async fn scores_come_in_order_with_labels_and_are_the_same_alone() {
    let (server, bundle) = (ready(config()).await, classification_bundle());
    let cases = golden(&bundle);
    let reply = classify(&server, request(&cases.iter().map(|case| case.text.as_str()).collect::<Vec<_>>())).await;
    let reply = reply.unwrap();
    let task = bundle.manifest.classification().unwrap();
    assert_eq!(reply.revision, bundle.revision.as_str());
    let said = reply.labels.iter().map(|label| (&label.name, label.advisory));
    assert!(said.eq(task.labels.iter().map(|label| (&label.name, label.advisory))));
    assert!([true, false].iter().all(|kind| task.labels.iter().any(|label| label.advisory == *kind)));
    assert!(reply.labels.iter().all(|label| label.threshold > 0.0));
    let tolerance = bundle.manifest.graphs[0].tolerance.max_abs_error;
    for (i, case) in cases.iter().enumerate() {
        let scores = &reply.classifications[i].scores;
        let error = scores.iter().zip(&case.scores).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
        assert!(scores.len() == case.scores.len() && error <= tolerance, "\"{}\" is off by {error}", case.text);
        let alone = classify(&server, request(&[&case.text])).await.unwrap();
        assert_eq!(&alone.classifications[0].scores, scores, "\"{}\" depends on its batch", case.text);
        assert_eq!(alone.token_counts[0], reply.token_counts[i]);
    }
    assert!(reply.timings.unwrap().inference.unwrap().nanos > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_text_is_judged_whole() {
    let server = ready(config()).await;
    let (rude, dull) = ("You are an idiot, and nobody likes you. ", "The committee approved the minutes. ");
    let long = dull.repeat(60) + &rude.repeat(30) + &dull.repeat(60);
    let reply = classify(&server, request(&[&long, &dull.repeat(120)])).await.unwrap();
    let tokenized = TokenizeRequest {
        model: CLASSIFICATION_MODEL.to_owned(),
        texts: vec![long],
        scheduling: Some(scheduling()),
        counts_only: true,
    };
    let count = server.client().tokenize(tokenized).await.unwrap().into_inner().texts[0].token_count;
    assert!(count > 1000 && reply.token_counts[0] > count, "each window has the special tokens: {reply:?}");
    let highest = |i: usize| reply.classifications[i].scores.iter().copied().fold(0.0, f32::max);
    assert!(highest(0) > 2.0 * highest(1), "what is in the middle counts: {} and {}", highest(0), highest(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_described_and_refuses_by_field() {
    let server = ready(config()).await;
    let model = classifier(&server, |_| true).await;
    assert_eq!((model.task(), model.precision.as_str()), (Task::Classification, "fp32"));
    assert_eq!(model.limits.unwrap().max_inputs, 2048);
    let unscheduled = ClassifyRequest { scheduling: None, ..request(&["a"]) };
    let of_encoder = ClassifyRequest { model: MODEL.to_owned(), ..request(&["a"]) };
    for (request, expected, field) in [
        (request(&[]), "EMPTY_INPUT", "texts"),
        (request(&["a", ""]), "EMPTY_INPUT", "texts[1]"),
        (request(&vec!["a"; 2049]), "TOO_MANY_INPUTS", "texts"),
        (unscheduled, "MISSING_FIELD", "scheduling"),
        (of_encoder, "MODEL_TASK_MISMATCH", "model"),
    ] {
        let status = classify(&server, request).await.unwrap_err();
        let (found, details) = reason(&status);
        assert_eq!((found.as_str(), details.error_info().unwrap().metadata["field"].as_str()), (expected, field));
    }
    let mut of_head = texts(&["a"]);
    of_head.model = CLASSIFICATION_MODEL.to_owned();
    assert_eq!(reason(&embed(&server.client(), of_head).await.unwrap_err()).0, "MODEL_TASK_MISMATCH");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_windows_count_as_what_may_be_charged() {
    let server = ready(config()).await;
    let of = |max_charge| {
        let scheduling = Some(Scheduling { max_charge, ..scheduling() });
        ClassifyRequest { scheduling, ..request(&["a", &"a ".repeat(300)]) }
    };
    let charged: u32 = classify(&server, of(0)).await.unwrap().token_counts.iter().sum();
    classify(&server, of(charged.into())).await.unwrap();
    let refused = classify(&server, of(u64::from(charged) - 1)).await.unwrap_err();
    assert_eq!(reason(&refused).0, "CHARGE_TOO_HIGH");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_its_encoder_does_not_serve_and_says_so() {
    let mut config = config();
    config.model_names = vec![CLASSIFICATION_MODEL.to_owned()];
    let server = TestServer::start(config).await;
    let failed = classifier(&server, |model| model.state() == ModelState::Failed).await;
    assert!(failed.status_message.contains(MODEL), "{}", failed.status_message);
    assert_eq!(failed.task(), Task::Classification);
}

/// A folder with the encoder as it is, and the head with another manifest.
fn trained_on_another_encoder() -> (OwnModels, TempDir) {
    let models = OwnModels::of(CLASSIFICATION_MODEL, &models_dir().join(CLASSIFICATION_MODEL));
    let folder = models.model().join(Revision::current(&models.model()).unwrap().as_str());
    let mut manifest: Value = serde_json::from_slice(&fs::read(folder.join("bundle.json")).unwrap()).unwrap();
    manifest["classification"]["encoder_sha256"] = "0".repeat(64).into();
    let revision = models.add(&serde_json::to_vec(&manifest).unwrap());
    models.promote(&revision);
    let both = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(models.model(), both.path().join(CLASSIFICATION_MODEL)).unwrap();
    let encoder = fs::canonicalize(models_dir().join(MODEL)).unwrap();
    std::os::unix::fs::symlink(encoder, both.path().join(MODEL)).unwrap();
    (models, both)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_another_encoder_does_not_serve_and_says_so() {
    let (_head, both) = trained_on_another_encoder();
    let mut config = config();
    config.models = both.path().to_owned();
    let server = TestServer::start_with(config, Arc::new(library())).await;
    let failed = classifier(&server, |model| model.status_message.contains("was trained on")).await;
    assert_eq!(failed.state(), ModelState::Failed);
    assert_eq!(reason(&classify(&server, request(&["a"])).await.unwrap_err()).0, "MODEL_NOT_READY");
    assert!(embed(&server.client(), texts(&["a"])).await.is_ok(), "the encoder serves alone");
}

/// Encoders of ONNX Runtime, which are not made before the test's end of the channel is gone.
struct Late(Mutex<mpsc::Receiver<()>>);

impl Sessions for Late {
    fn encoder(&self, bundle: &Bundle, graph: &Graph) -> Result<Box<dyn Encode>, Refused> {
        let _ = self.0.lock().unwrap().recv_timeout(LIMIT);
        Sessions::encoder(&library(), bundle, graph)
    }

    fn decoder(&self, _: &Bundle, _: &Graph, _: Threads, _: usize, _: usize) -> Result<Box<dyn Decode>, Refused> {
        unreachable!("there is no generation model")
    }

    fn head(&self, bundle: &Bundle, graph: &Graph) -> Result<Head, Refused> {
        Sessions::head(&library(), bundle, graph)
    }

    fn terminate(&self) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_loading_until_its_encoder_is_there_and_then_ready_at_once() {
    let mut config = config();
    config.timing.watch = LIMIT * 10; // so that nothing is mended by looking again
    let (late, waits) = mpsc::channel::<()>();
    let server = TestServer::start_with(config, Arc::new(Late(Mutex::new(waits)))).await;
    let waiting = classifier(&server, |model| !model.status_message.is_empty()).await;
    assert_eq!(waiting.state(), ModelState::Loading, "{}", waiting.status_message);
    assert_eq!(waiting.status_message, format!("waits for its encoder \"{MODEL}\""));
    drop(late);
    classifier(&server, |model| model.state() == ModelState::Ready).await;
}
