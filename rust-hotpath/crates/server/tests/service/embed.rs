//! What a good request gets.

use hotpath_contract::inference::v1::{EmbedRequest, Priority, TokenizeRequest};
use hotpath_testing::{MODEL, golden_embeddings};

use crate::support::{TestServer, config, embed, golden, ids, request, scheduling, text, texts, vectors};

#[tokio::test(flavor = "multi_thread")]
async fn vectors_come_in_order_with_counts_timings_and_revision() {
    let (server, bundle) = (TestServer::ready(config()).await, golden());
    let inputs = golden_embeddings(&bundle).iter().map(|case| text(&case.text)).collect();
    let reply = embed(&server.client(), request(inputs)).await.unwrap();
    assert_eq!(reply.revision, bundle.revision.as_str());
    assert_eq!(reply.dimensions, 384);
    assert_eq!(reply.embeddings.len(), 4 * 384 * golden_embeddings(&bundle).len());
    assert!(reply.truncated_inputs.is_empty());
    for ((case, vector), count) in golden_embeddings(&bundle).iter().zip(vectors(&reply)).zip(reply.token_counts) {
        assert_eq!(count as usize, case.token_ids.len());
        let cosine: f32 = vector.iter().zip(&case.vector).map(|(a, b)| a * b).sum();
        assert!(cosine > 0.97, "\"{}\" got the vector of another: {cosine}", case.text);
    }
    let timings = reply.timings.unwrap();
    assert!(timings.inference.unwrap().nanos > 0 && timings.queue.is_some() && timings.tokenize.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_and_priority_and_named_dimensions_change_no_bit() {
    let (server, bundle) = (TestServer::ready(config()).await, golden());
    let client = server.client();
    let case = &golden_embeddings(&bundle)[2];
    let plain = embed(&client, texts(&[&case.text])).await.unwrap().embeddings;
    let of_ids = embed(&client, request(vec![ids(&case.token_ids)])).await.unwrap();
    assert_eq!(of_ids.embeddings, plain);
    let named = embed(&client, EmbedRequest { dimensions: 384, ..texts(&[&case.text]) }).await.unwrap();
    assert_eq!(named.embeddings, plain);
    let mut batch = texts(&[&case.text]);
    batch.scheduling.as_mut().unwrap().set_priority(Priority::Batch);
    assert_eq!(embed(&client, batch).await.unwrap().embeddings, plain);
}

#[tokio::test(flavor = "multi_thread")]
async fn truncation_is_asked_for_and_told() {
    let server = TestServer::ready(config()).await;
    let client = server.client();
    let long = "word ".repeat(3000);
    let reply = embed(&client, EmbedRequest { truncate: true, ..texts(&["a", &long, "b"]) }).await.unwrap();
    assert_eq!(reply.truncated_inputs, [1]);
    assert_eq!(reply.token_counts, [3, 256, 3]);
    // 254 words and the two special tokens fill the model: exactly that must have been run.
    let exact = embed(&client, texts(&["word ".repeat(254).trim()])).await.unwrap();
    assert_eq!(exact.token_counts, [256]);
    assert_eq!(vectors(&reply)[1], vectors(&exact)[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokenize_counts_exactly_and_never_cuts() {
    let server = TestServer::ready(config()).await;
    let sent = vec!["Größe 東京".to_owned(), "word ".repeat(3000)];
    let asked = TokenizeRequest {
        model: MODEL.to_owned(),
        texts: sent.clone(),
        scheduling: Some(scheduling()),
        counts_only: false,
    };
    let reply = server.client().tokenize(asked).await.unwrap().into_inner();
    assert_eq!(reply.texts[1].token_count, 3002);
    for (text, tokens) in sent.iter().zip(&reply.texts) {
        assert_eq!(tokens.ids.len(), tokens.token_count as usize);
        let places = tokens.byte_starts.iter().zip(&tokens.byte_ends);
        assert!(places.clone().all(|(start, end)| text.get(*start as usize..*end as usize).is_some()));
    }
}
