//! Whoever runs beside it: a continuation says what it says alone.

use hotpath_contract::inference::v1::{GenerateRequest, Priority, Sampling};
use tokio::task::JoinSet;

use super::support::{Generating, config, generate, prompt, request};

const STREAMS: usize = 64;

/// Requests of many lengths: greedy ones, seeded ones, and some with more choices.
fn requests() -> Vec<GenerateRequest> {
    let one = |number: usize| {
        let mut one = request(prompt(number % 24, 1 + number * 37 % 150), 4 + u32::try_from(number % 20).unwrap());
        if number.is_multiple_of(3) {
            let seed = Some(number as u64);
            one.sampling = Some(Sampling { temperature: Some(0.9), top_p: Some(0.9), seed, ..Sampling::default() });
        }
        one.choices = if number.is_multiple_of(5) { 2 } else { 0 };
        let scheduling = one.scheduling.as_mut().unwrap();
        scheduling.fairness_key = format!("key-{}", number % 3);
        scheduling.set_priority(if number.is_multiple_of(7) { Priority::Batch } else { Priority::Interactive });
        one
    };
    (0..STREAMS).map(one).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_one_of_many_streams_says_what_it_says_alone() {
    let generating = Generating::ready(config()).await;
    let client = generating.client();
    let mut alone = Vec::new();
    for request in requests() {
        let told = generate(&client, request).await.unwrap();
        alone.push([0, 1].map(|choice| (told.tokens(choice), told.text(choice))));
    }
    let mut streams = JoinSet::new();
    for (number, request) in requests().into_iter().enumerate() {
        let client = client.clone();
        streams.spawn(async move { (number, generate(&client, request).await.unwrap()) });
    }
    while let Some(told) = streams.join_next().await {
        let (number, told) = told.unwrap();
        let together = [0, 1].map(|choice| (told.tokens(choice), told.text(choice)));
        assert_eq!(together, alone[number], "stream {number}");
    }
    let steps = generating.server.metric("hotpath_decode_rows_count", "").await;
    let rows = generating.server.metric("hotpath_decode_rows_sum", "").await;
    assert!(rows > steps * 1.5, "{rows} rows in {steps} steps: hardly any was batched");
    assert!(generating.server.metric("hotpath_reused_tokens_total", "").await > 0.0);
    generating.wait_until_free().await;
}
