//! A generation bundle whose golden cases do not come out does not serve.

use std::{sync::Arc, time::Duration};

use hotpath_bundle::Revision;
use hotpath_contract::inference::v1::{Model, ModelState, Task};
use serde_json::{Value, json};

use super::support::{TINY, config, tiny_folder};
use crate::{
    golden::with_golden,
    sessions::Control,
    support::{OwnModels, TestServer},
};

const REPLAYING: &str = "golden cases are still being replayed";

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::cast_possible_truncation)] // it is a float32
async fn ids_logits_and_tokens_that_differ_are_refused_by_case() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 3] = [
        (|golden| golden["generations"][1]["prompt_ids"][0] = json!(7), "generations[1].prompt_ids"),
        (
            // By one bit.
            |golden| {
                let logit = &mut golden["generations"][1]["graphs"][0]["next_token_logits"][0];
                *logit = json!((logit.as_f64().unwrap() as f32).next_up());
            },
            "generations[1].graphs[0].next_token_logits",
        ),
        (|golden| change_token(golden, 1, 2), "generations[1].graphs["),
    ];
    for (change, field) in cases {
        let models = with_golden(TINY, &tiny_folder(), change);
        let mut config = config();
        config.models = models.path();
        let server = TestServer::start(config).await;
        let failed = server.wait_for(|model| model.state() == ModelState::Failed).await;
        assert!(failed.status_message.contains(&format!("golden.json: {field}")), "{}", failed.status_message);
        assert_eq!(failed.task(), Task::Generation, "its manifest is known");
    }
}

/// A case's token becomes another one.
fn change_token(golden: &mut Value, case: usize, place: usize) {
    for graph in golden["generations"][case]["graphs"].as_array_mut().unwrap() {
        graph["token_ids"][place] = json!(graph["token_ids"][place].as_u64().unwrap() ^ 1);
    }
}

/// Late in the last case, where nothing looks before a first revision serves.
fn change_late(golden: &mut Value) {
    let last = golden["generations"].as_array().unwrap().len() - 1;
    change_token(golden, last, 30);
}

fn serves_unproven(model: &Model) -> bool {
    model.state() == ModelState::Ready && model.status_message == REPLAYING
}

/// A server whose decoder stands still between its first golden cases, after which it serves, and the last ones.
async fn ready_and_unproven(models: &OwnModels) -> (TestServer, Arc<Control>) {
    let control = Arc::new(Control::default());
    control.close();
    let mut config = config();
    config.models = models.path();
    config.timing.retry = Duration::from_millis(50);
    let server = TestServer::start_with(config, control.factory()).await;
    server
        .wait_for(|model| {
            let serves = serves_unproven(model);
            if !serves && control.waiting() {
                control.close_after(1);
            }
            serves
        })
        .await;
    (server, control)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_revision_serves_before_its_last_golden_cases_and_no_longer_once_one_differs() {
    let models = with_golden(TINY, &tiny_folder(), change_late);
    let (server, control) = ready_and_unproven(&models).await;
    control.open();
    let failed = server.wait_for(|model| model.state() == ModelState::Failed).await;
    assert!(failed.status_message.contains("golden.json: generations["), "{}", failed.status_message);
    // It is loaded again and again, and each time every case comes before it would serve.
    let steps = control.steps();
    server
        .wait_for(|model| {
            assert_eq!(model.state(), ModelState::Failed);
            control.steps() > steps + 500
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_cases_that_could_not_be_run_are_run_again() {
    let models = OwnModels::of(TINY, &tiny_folder());
    let (server, control) = ready_and_unproven(&models).await;
    control.fail(true);
    control.open();
    let steps = control.steps();
    server
        .wait_for(|model| {
            assert!(serves_unproven(model), "{model:?}");
            control.failed() > 2
        })
        .await;
    assert!(control.steps() < steps + 100);
    control.fail(false);
    server.wait_for(|model| model.state() == ModelState::Ready && model.status_message.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_takes_over_once_every_golden_case_came_out() {
    let models = with_golden(TINY, &tiny_folder(), change_late);
    let bad = Revision::current(&models.model()).unwrap();
    let good = Revision::current(&tiny_folder()).unwrap();
    models.promote(&good);
    let mut config = config();
    config.models = models.path();
    let server = TestServer::start(config).await;
    server.wait_for(|model| model.state() == ModelState::Ready && model.status_message.is_empty()).await;
    models.promote(&bad);
    let model = server
        .wait_for(|model| {
            assert_eq!((model.state(), model.revision.as_str()), (ModelState::Ready, good.as_str()));
            !model.status_message.is_empty()
        })
        .await;
    assert!(model.status_message.contains("golden.json: generations["), "{}", model.status_message);
}
