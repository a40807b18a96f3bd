//! Text that must parse does, whatever the weights would rather say.

use hotpath_contract::inference::v1::{
    Format, GenerateRequest, JsonObject, Sampling, finish::Reason, format::Format as Kind,
};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::support::{Generating, Told, config, generate, prompt, request};

fn asked(kind: Kind, seed: u64) -> GenerateRequest {
    let number = usize::try_from(seed).unwrap();
    let sampling = Sampling { temperature: Some(1.0), seed: Some(seed), ..Sampling::default() };
    GenerateRequest {
        format: Some(Format { format: Some(kind) }),
        sampling: Some(sampling),
        stop: None,
        ..request(prompt(number, 6), 120)
    }
}

/// A text that ended by itself; `None` for one that was cut.
fn whole(told: &Told) -> Option<String> {
    match told.deltas.last().unwrap().finish.as_ref().unwrap().reason.as_ref().unwrap() {
        Reason::StopTokenId(_) => Some(told.text(0)),
        Reason::Length(_) => None,
        Reason::StopString(_) => panic!("none was asked for"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_what_its_schema_allows() {
    let generating = Generating::ready(config()).await;
    let client = generating.client();
    let schema = json!({
        "type": "object",
        "properties": {"color": {"enum": ["red", "green"]}, "big": {"type": "boolean"}, "name": {"$ref": "#/$defs/name"}},
        "required": ["color", "big", "name"],
        "additionalProperties": false,
        "$defs": {"name": {"type": "string", "maxLength": 3}},
    });
    let mut colors = Vec::new();
    for seed in 0..12 {
        let told = generate(&client, asked(Kind::JsonSchema(schema.to_string()), seed)).await.unwrap();
        let text = whole(&told).expect("every text of this schema is short");
        let value: Value = serde_json::from_str(&text).unwrap();
        let fields = value.as_object().unwrap();
        assert_eq!(fields.len(), 3, "{value}");
        assert!(fields["big"].is_boolean() && fields["name"].as_str().unwrap().chars().count() <= 3, "{value}");
        colors.push(fields["color"].as_str().unwrap().to_owned());
    }
    assert!(colors.iter().all(|color| ["red", "green"].contains(&color.as_str())), "{colors:?}");
    colors.sort();
    colors.dedup();
    assert_eq!(colors.len(), 2, "within its format a text is still drawn");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_object_parses_or_was_cut() {
    let generating = Generating::ready(config()).await;
    let client = generating.client();
    let mut ended = 0;
    for seed in 0..24 {
        let told = generate(&client, asked(Kind::JsonObject(JsonObject {}), seed)).await.unwrap();
        assert!(told.text(0).starts_with('{'), "{}", told.text(0));
        if let Some(text) = whole(&told) {
            // Its numbers may be larger than any that a computer has, so they are not read.
            serde_json::from_str::<IgnoredAny>(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            ended += 1;
        }
    }
    assert!(ended > 0, "none of them ended by itself");
}
