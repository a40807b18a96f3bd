//! A generation bundle whose golden cases do not come out never serves.

use hotpath_contract::inference::v1::{ModelState, Task};
use serde_json::{Value, json};

use super::support::{TINY, config, tiny_folder};
use crate::{golden::with_golden, support::TestServer};

#[tokio::test(flavor = "multi_thread")]
async fn ids_logits_tokens_and_plans_that_differ_are_refused_by_case() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 4] = [
        (|golden| golden["generations"][1]["prompt_ids"][0] = json!(7), "generations[1].prompt_ids"),
        (
            |golden| golden["generations"][1]["reference"]["next_token_logits"][0] = json!(1000.0),
            "generations[1].reference.next_token_logits",
        ),
        (
            |golden| {
                for graph in golden["generations"][1]["graphs"].as_array_mut().unwrap() {
                    graph["token_ids"][2] = json!(graph["token_ids"][2].as_u64().unwrap() ^ 1);
                    graph["margins"][2] = json!(1000.0);
                }
            },
            "generations[1].graphs[",
        ),
        (|golden| golden["chunk_plans"][0]["chunks"][0] = json!(77), "chunk_plans[0]"),
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
