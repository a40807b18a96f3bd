//! Every field that can be wrong, by name; and the wrong task, both ways.

use hotpath_contract::inference::v1::{
    Conversation, EmbedRequest, Format, GenerateRequest, JsonObject, Message, Sampling, Scheduling, Stop, TokenIds,
    format, generate_request::Prompt,
};
use hotpath_testing::MODEL;
use tonic::Status;

use super::support::{Generating, TINY, config, generate, one_row, prompt, request};
use crate::support::{embed, reason, scheduling, texts};

fn with(change: impl FnOnce(&mut GenerateRequest)) -> GenerateRequest {
    let mut asked = request(prompt(1, 4), 4);
    change(&mut asked);
    asked
}

fn sampling(change: impl FnOnce(&mut Sampling)) -> GenerateRequest {
    with(|asked| change(asked.sampling.as_mut().unwrap()))
}

fn stop(stop: Stop) -> GenerateRequest {
    with(|asked| asked.stop = Some(stop))
}

fn says(role: i32) -> GenerateRequest {
    let messages = vec![Message { role: 2, content: "a".to_owned() }, Message { role, content: "b".to_owned() }];
    with(|asked| asked.prompt = Some(Prompt::Conversation(Conversation { messages })))
}

fn biases(count: u32, bias: f32) -> GenerateRequest {
    sampling(|sampling| sampling.logit_bias = (0..count).map(|id| (id, bias)).collect())
}

const JSON_OBJECT: format::Format = format::Format::JsonObject(JsonObject {});

fn json(format: format::Format, stop: Stop) -> GenerateRequest {
    with(|asked| (asked.format, asked.stop) = (Some(Format { format: Some(format) }), Some(stop)))
}

fn schema(schema: &str) -> GenerateRequest {
    json(format::Format::JsonSchema(schema.to_owned()), Stop::default())
}

/// A chain of so many references, each to the next.
fn references(count: usize) -> String {
    let link = |i: usize| format!(r##""k{i}": {{"$ref": "#/$defs/k{}"}}"##, i + 1);
    let links: Vec<String> = (0..count).map(link).collect();
    format!(r##"{{"$ref": "#/$defs/k0", "$defs": {{{}, "k{count}": {{"type": "integer"}}}}}}"##, links.join(", "))
}

/// Requests with their reason and field.
fn cases() -> Vec<(GenerateRequest, &'static str, &'static str)> {
    let ids = |ids: Vec<u32>| Some(Prompt::TokenIds(TokenIds { ids }));
    let strings = |strings: Vec<String>| stop(Stop { strings, ..Stop::default() });
    let token_ids = |token_ids: Vec<u32>| stop(Stop { token_ids, ..Stop::default() });
    vec![
        (with(|asked| asked.model.clear()), "MISSING_FIELD", "model"),
        (with(|asked| "unknown".clone_into(&mut asked.model)), "MODEL_NOT_FOUND", "model"),
        (with(|asked| asked.scheduling = None), "MISSING_FIELD", "scheduling"),
        (with(|asked| asked.scheduling = Some(Scheduling::default())), "INVALID_VALUE", "scheduling.priority"),
        (with(|asked| asked.prompt = None), "EMPTY_INPUT", "prompt"),
        (with(|asked| asked.prompt = Some(Prompt::Text(String::new()))), "EMPTY_INPUT", "text"),
        (with(|asked| asked.prompt = ids(vec![])), "EMPTY_INPUT", "token_ids"),
        (
            with(|asked| asked.prompt = Some(Prompt::Conversation(Conversation::default()))),
            "EMPTY_INPUT",
            "conversation.messages",
        ),
        (says(0), "INVALID_VALUE", "conversation.messages[1].role"),
        (says(9), "INVALID_VALUE", "conversation.messages[1].role"),
        (with(|asked| asked.prompt = ids(vec![5, u32::MAX])), "TOKEN_ID_OUT_OF_RANGE", "token_ids"),
        (with(|asked| asked.prompt = ids(vec![5; 512])), "INPUT_TOO_LONG", "token_ids"),
        (with(|asked| asked.max_tokens = 509), "INPUT_TOO_LONG", "token_ids"),
        (with(|asked| asked.max_tokens = u32::MAX), "INPUT_TOO_LONG", "token_ids"),
        (with(|asked| asked.prompt = Some(Prompt::Text("word ".repeat(900)))), "INPUT_TOO_LONG", "text"),
        (with(|asked| asked.choices = 5), "INVALID_VALUE", "choices"),
        (sampling(|sampling| sampling.temperature = Some(2.5)), "INVALID_VALUE", "sampling.temperature"),
        (sampling(|sampling| sampling.temperature = Some(f32::NAN)), "INVALID_VALUE", "sampling.temperature"),
        (sampling(|sampling| sampling.top_p = Some(0.0)), "INVALID_VALUE", "sampling.top_p"),
        (sampling(|sampling| sampling.min_p = 1.5), "INVALID_VALUE", "sampling.min_p"),
        (sampling(|sampling| sampling.frequency_penalty = 3.0), "INVALID_VALUE", "sampling.frequency_penalty"),
        (sampling(|sampling| sampling.presence_penalty = -3.0), "INVALID_VALUE", "sampling.presence_penalty"),
        (sampling(|sampling| sampling.repetition_penalty = Some(11.0)), "INVALID_VALUE", "sampling.repetition_penalty"),
        (biases(301, 1.0), "INVALID_VALUE", "sampling.logit_bias"),
        (biases(1, 101.0), "INVALID_VALUE", "sampling.logit_bias"),
        (sampling(|sampling| sampling.logit_bias = [(9999, 1.0)].into()), "INVALID_VALUE", "sampling.logit_bias"),
        (strings(vec!["a".to_owned(); 17]), "INVALID_VALUE", "stop.strings"),
        (strings(vec!["a".to_owned(), String::new()]), "INVALID_VALUE", "stop.strings[1]"),
        (strings(vec!["a".repeat(257)]), "INVALID_VALUE", "stop.strings[0]"),
        (token_ids(vec![1; 65]), "INVALID_VALUE", "stop.token_ids"),
        (token_ids(vec![1, 9999]), "TOKEN_ID_OUT_OF_RANGE", "stop.token_ids"),
        (with(|asked| asked.top_logprobs = Some(21)), "INVALID_VALUE", "top_logprobs"),
        (with(|asked| asked.top_logprobs = Some(u32::MAX)), "INVALID_VALUE", "top_logprobs"),
        (with(|asked| (asked.format, asked.stop) = (Some(Format::default()), None)), "INVALID_VALUE", "format"),
        (json(JSON_OBJECT, Stop { ignore_eos: true, ..Stop::default() }), "INVALID_VALUE", "stop.ignore_eos"),
        (json(JSON_OBJECT, Stop { min_tokens: 1, ..Stop::default() }), "INVALID_VALUE", "stop.min_tokens"),
        (schema("{"), "INVALID_VALUE", "format.json_schema"),
        (schema("true"), "INVALID_VALUE", "format.json_schema"),
        (schema(r#"{"type": "strange"}"#), "INVALID_VALUE", "format.json_schema"),
        (schema(r#"{"type": "array", "uniqueItems": true}"#), "INVALID_VALUE", "format.json_schema"),
        (schema(r#"{"items": {"minProperties": 2, "required": ["a"]}}"#), "INVALID_VALUE", "format.json_schema"),
        (schema(r#"{"uniqueItems": true, "x-guidance": {"lenient": true}}"#), "INVALID_VALUE", "format.json_schema"),
        (schema(&format!("{{}}{}", " ".repeat(200_000))), "INVALID_VALUE", "format.json_schema"),
        (schema(&references(600)), "INVALID_VALUE", "format.json_schema"),
        (
            schema(r##"{"$ref": "#/$defs/n", "$defs": {"n": {"$ref": "#/$defs/n"}}}"##),
            "INVALID_VALUE",
            "format.json_schema",
        ),
        (
            schema(r#"{"type": "string", "minLength": 65436, "maxLength": 65536}"#),
            "INVALID_VALUE",
            "format.json_schema",
        ),
        // An error's words go into a header, which must not become as long as what they quote.
        (
            schema(&format!(r#"{{"type": "string", "pattern": "{}("}}"#, "a".repeat(90_000))),
            "INVALID_VALUE",
            "format.json_schema",
        ),
        (with(|asked| asked.model = "é".repeat(100_000)), "MODEL_NOT_FOUND", "model"),
        (with(|asked| MODEL.clone_into(&mut asked.model)), "MODEL_TASK_MISMATCH", "model"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_come_to_more_than_may_be_charged_is_not_run() {
    let generating = Generating::ready(config()).await;
    let client = generating.client();
    // A prompt of 4, and twice 10.
    let of = |max_charge| {
        let scheduling = Some(Scheduling { max_charge, ..scheduling() });
        GenerateRequest { choices: 2, scheduling, ..request(prompt(1, 4), 10) }
    };
    assert_eq!(generate(&client, of(24)).await.unwrap().done.unwrap().completion_tokens, 20);
    let refused = generate(&client, of(23)).await.unwrap_err();
    let (found, details) = reason(&refused);
    let metadata = &details.error_info().unwrap().metadata;
    assert_eq!((&*found, &*metadata["actual"], &*metadata["limit"]), ("CHARGE_TOO_HIGH", "24", "23"));
}

fn told(status: &Status) -> (String, String) {
    let (reason, details) = reason(status);
    (reason, details.error_info().unwrap().metadata.get("field").cloned().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_that_is_wrong_is_named() {
    let mut config = config();
    config.model_names.push(MODEL.to_owned());
    let generating = Generating::ready(config).await;
    let client = generating.client();
    for (asked, reason, field) in cases() {
        let status = generate(&client, asked.clone()).await.expect_err(field);
        assert_eq!(told(&status), (reason.to_owned(), field.to_owned()), "{asked:?}: {}", status.message());
    }
    let asked = EmbedRequest { model: TINY.to_owned(), ..texts(&["a"]) };
    let status = embed(&client, asked).await.unwrap_err();
    assert_eq!(told(&status), ("MODEL_TASK_MISMATCH".to_owned(), "model".to_owned()), "{}", status.message());
    generate(&client, request(prompt(1, 4), 4)).await.unwrap();
    generating.wait_until_free().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_with_a_delay() {
    let mut config = one_row();
    config.limits.max_queued_tokens = 64;
    let (generating, control) = Generating::controlled(config).await;
    let [first, second] = generating.spawn_two(&control).await;
    let status = generate(&generating.client(), request(prompt(3, 4), 4)).await.unwrap_err();
    let (reason, details) = reason(&status);
    assert_eq!(reason, "QUEUE_FULL");
    assert!(details.retry_info().is_some() && details.error_info().unwrap().metadata.contains_key("waiting_ms"));
    assert_eq!(generating.ended("refused").await, 1.0);
    let unknown = generate(&generating.client(), request(vec![u32::MAX; 4], 4)).await.unwrap_err();
    assert_eq!(told(&unknown).0, "QUEUE_FULL", "its prompt is not looked at");
    assert_eq!(generating.ended("refused").await, 2.0);
    control.open();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
}
