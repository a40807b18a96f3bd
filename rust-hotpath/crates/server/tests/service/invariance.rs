//! A text's vector is batch-invariant, to the last bit, while others are busy.

use hotpath_contract::inference::v1::{Priority, inference_service_client::InferenceServiceClient};
use hotpath_testing::golden_embeddings;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::support::{TestServer, config, embed, golden, texts};

const CLIENTS: usize = 8;
const ROUNDS: usize = 12;

/// Texts of many lengths. Those of one client are chosen from all by a stride, so that each request is another batch.
fn corpus() -> Vec<String> {
    let sentences: Vec<String> = golden_embeddings(&golden()).iter().map(|case| case.text.clone()).collect();
    let pairs = (0..sentences.len()).map(|i| format!("{} {}", sentences[i], sentences[(i * 5 + 3) % sentences.len()]));
    let short = pairs.filter(|text| text.len() < 300).collect::<Vec<_>>();
    sentences.iter().filter(|text| text.len() < 300).cloned().chain(short).collect()
}

async fn ask_in_batches(
    client: InferenceServiceClient<Channel>,
    corpus: Vec<String>,
    alone: Vec<Vec<u8>>,
    seed: usize,
) {
    for round in 0..ROUNDS {
        let count = 1 + (seed * 7 + round * 3) % 9;
        let chosen: Vec<usize> = (0..count).map(|i| (seed * 13 + round * 5 + i * 11) % corpus.len()).collect();
        let mut request = texts(&chosen.iter().map(|i| corpus[*i].as_str()).collect::<Vec<_>>());
        let scheduling = request.scheduling.as_mut().unwrap();
        scheduling.fairness_key = format!("client-{}", seed % 3);
        scheduling.set_priority(if seed.is_multiple_of(4) { Priority::Batch } else { Priority::Interactive });
        let reply = embed(&client, request).await.unwrap();
        for (vector, i) in reply.embeddings.chunks_exact(4 * 384).zip(chosen) {
            assert!(vector == alone[i], "client {seed}, round {round}: \"{}\" depends on its batch", corpus[i]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_do_not_depend_on_the_batch() {
    let server = TestServer::ready(config()).await;
    let (client, corpus) = (server.client(), corpus());
    let mut alone = Vec::new();
    for text in &corpus {
        alone.push(embed(&client, texts(&[text])).await.unwrap().embeddings.to_vec());
    }
    let mut clients = JoinSet::new();
    for seed in 0..CLIENTS {
        clients.spawn(ask_in_batches(client.clone(), corpus.clone(), alone.clone(), seed));
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let (inputs, runs) =
        (server.metric("hotpath_batch_inputs_sum", "").await, server.metric("hotpath_batch_inputs_count", "").await);
    assert!(inputs > runs * 1.2, "{inputs} inputs in {runs} runs: hardly any was batched");
}
