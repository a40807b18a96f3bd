//! Texts that are far longer than anything that they could be used for.

use hotpath_contract::inference::v1::{ClassifyRequest, EmbedRequest, TokenizeRequest, TokenizedText};
use hotpath_server::config::Config;
use hotpath_testing::{CLASSIFICATION_MODEL, MODEL};
use tonic::Status;

use crate::{
    classify,
    support::{TestServer, config, embed, reason, scheduling, texts},
};

/// The reason, the field and the numbers that a refusal tells.
fn told(status: &Status) -> (String, String, Option<String>, Option<String>) {
    let (name, details) = reason(status);
    let metadata = &details.error_info().unwrap().metadata;
    (name, metadata["field"].clone(), metadata.get("limit").cloned(), metadata.get("actual").cloned())
}

fn too_long(field: &str, limit: &str, actual: Option<&str>) -> (String, String, Option<String>, Option<String>) {
    ("INPUT_TOO_LONG".to_owned(), field.to_owned(), Some(limit.to_owned()), actual.map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_looked_at_as_far_as_it_is_of_use() {
    let server = TestServer::ready(config()).await;
    let client = server.client();
    let (long, longer) = ("word ".repeat(3000), "word ".repeat(1_500_000));
    let refused = embed(&client, texts(&["a", &long])).await.unwrap_err();
    assert_eq!(told(&refused), too_long("inputs[1]", "256", Some("3002")));
    let refused = embed(&client, texts(&["a", &longer])).await.unwrap_err();
    assert_eq!(told(&refused), too_long("inputs[1]", "256", None), "it was not counted to its end");
    let truncating = |text: &str| EmbedRequest { truncate: true, ..texts(&[text]) };
    let (long, longer) =
        (embed(&client, truncating(&long)).await.unwrap(), embed(&client, truncating(&longer)).await.unwrap());
    assert_eq!((&long.embeddings, &long.truncated_inputs), (&longer.embeddings, &longer.truncated_inputs));
    assert_eq!(longer.token_counts, [256]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_cut_nowhere_is_refused() {
    let server = TestServer::ready(config()).await;
    // One letter's accents; a word of any length is just an unknown one.
    let (accents, word, words) = ("\u{301}".repeat(150_000), "a".repeat(300_000), "a ".repeat(150_000));
    assert_eq!(embed(&server.client(), texts(&["a", &word])).await.unwrap().token_counts, [3, 3]);
    let refused = embed(&server.client(), texts(&["a", &accents])).await.unwrap_err();
    assert_eq!(told(&refused), too_long("inputs[1]", "262144", None));
    assert!(refused.message().contains("without white space or punctuation"), "{}", refused.message());
    let tokenize = |text: &String| TokenizeRequest {
        model: MODEL.to_owned(),
        texts: vec![text.clone()],
        scheduling: Some(scheduling()),
        counts_only: false,
    };
    let refused = server.client().tokenize(tokenize(&accents)).await.unwrap_err();
    assert_eq!(told(&refused), too_long("texts[0]", "262144", None));
    let reply = server.client().tokenize(tokenize(&words)).await.unwrap().into_inner();
    assert_eq!((reply.texts[0].token_count, reply.texts[0].byte_starts[150_000]), (150_002, 299_998));
    let counts_only = TokenizeRequest { counts_only: true, ..tokenize(&words) };
    let counts = server.client().tokenize(counts_only).await.unwrap().into_inner();
    assert_eq!(counts.texts, [TokenizedText { token_count: 150_002, ..TokenizedText::default() }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_windows_of_a_request_are_bounded() {
    let server = classify::ready(Config { max_inputs: 4, ..classify::config() }).await;
    let score = |texts: [&str; 2]| {
        let texts = texts.map(str::to_owned).to_vec();
        let request = ClassifyRequest { model: CLASSIFICATION_MODEL.to_owned(), texts, scheduling: Some(scheduling()) };
        let mut client = server.client();
        async move { client.classify(request).await }
    };
    let two_windows = "word ".repeat(300);
    assert!(score([&two_windows, &two_windows]).await.is_ok());
    for longer in [&"word ".repeat(600), &"word ".repeat(1_000_000)] {
        let refused = score([&two_windows, longer]).await.unwrap_err();
        assert_eq!(told(&refused), too_long("texts[1]", "4", None));
        assert!(refused.message().contains("4 windows"), "{}", refused.message());
    }
}
