//! What a format leaves no choice of is known ahead, in the longest tokens that spell it.

use std::sync::Arc;

use hotpath_generation::{Ahead, Grammar};
use serde_json::{Map, Value, json};

use super::vocabulary;
use crate::{
    compile::{Compiler, Tokens},
    schema::check,
    walk::prove,
};

/// What tokens spell.
fn spelt(tokens: &Tokens, ids: &[u32]) -> String {
    String::from_utf8(ids.iter().flat_map(|id| tokens.bytes[*id as usize].clone()).collect()).unwrap()
}

fn text(compiler: &Compiler, tokens: &Tokens, schema: &Value) -> (Arc<dyn Grammar>, Ahead) {
    let source = prove(compiler, tokens, check(&schema.to_string()).unwrap()).unwrap();
    let format = compiler.format(&source).unwrap().0;
    (format.beginning(), format.ahead())
}

fn allowed(ahead: &Ahead) -> impl Iterator<Item = u32> {
    let bit = |id: &u32| ahead.mask[*id as usize / 32] >> (id % 32) & 1 == 1;
    (0..u32::try_from(ahead.mask.len() * 32).unwrap()).filter(bit)
}

fn object() -> Value {
    let properties = json!({
        "name": {"type": "string", "maxLength": 40},
        "date of birth": {"type": "string", "format": "date"},
        "is_member": {"type": "boolean"},
        "points": {"type": "integer"},
        "kind": {"const": "customer"},
        "colour": {"enum": ["red", "green", "grey"]},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3},
    });
    let required: Vec<&String> = properties.as_object().unwrap().keys().collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

#[test]
fn keys_are_known_ahead_and_what_may_be_part_of_a_longer_token_is_likely() {
    let (compiler, tokens) = vocabulary();
    let (begins, ahead) = text(compiler, tokens, &object());
    assert_eq!(spelt(tokens, &ahead.forced), "{\"name");
    assert_eq!(ahead.forced.len(), 2, "in the longest tokens");
    assert_eq!(spelt(tokens, ahead.likely.as_slice()), "\":\"");
    let spellings: Vec<String> = allowed(&ahead).map(|id| spelt(tokens, &[id])).collect();
    assert_eq!(spellings, ["\"", "\":", "\":\""], "a value may begin with a token that has the last quote");
    let mut text = begins.fork();
    let id = |bytes: &[u8]| u32::try_from(tokens.bytes.iter().position(|token| token == bytes).unwrap()).unwrap();
    for (said, forced) in [("\":\"", ""), ("A", ""), ("da", ""), ("\",", "\"date of birth\":\"")] {
        text.push(id(said.as_bytes())).unwrap();
        assert_eq!(spelt(tokens, &text.ahead().unwrap().forced), forced, "behind {said}");
    }
}

/// Texts of chance. What is forced is all that the plain library would allow, byte by byte, and no longer token would do.
#[test]
fn nothing_is_forced_of_which_there_is_a_choice_and_texts_are_what_they_must_be() {
    let (compiler, tokens) = vocabulary();
    let plain = Compiler::without_forcing(tokens).unwrap();
    let schemas = [object(), json!({"type": "array", "items": object(), "minItems": 1, "maxItems": 2})];
    let (mut random, mut forced, mut free) = (1u64, 0, 0);
    let mut below = |bound: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap() % bound
    };
    let formats = schemas.map(|schema| (text(compiler, tokens, &schema), text(&plain, tokens, &schema)));
    for ((begins, ahead), (plain_begins, any)) in formats.iter().cycle().take(12) {
        let (mut ahead, mut any) = (ahead.clone(), any.clone());
        let (mut following, mut unforced, mut said) = (begins.fork(), plain_begins.fork(), Vec::new());
        loop {
            for token in &ahead.forced {
                assert!(any.forced.is_empty() && allowed(&any).any(|id| id == *token), "{}", spelt(tokens, &said));
                let bytes = &tokens.bytes[*token as usize];
                for id in allowed(&any).map(|id| &tokens.bytes[id as usize]) {
                    let is_part = bytes.starts_with(id) && !id.is_empty();
                    assert!(is_part, "{} leaves a choice of {bytes:?} and {id:?}", spelt(tokens, &said));
                }
                unforced.push(*token).unwrap();
                any = unforced.ahead().unwrap();
                said.push(*token);
                forced += 1;
            }
            let next: Vec<u32> = allowed(&ahead).collect();
            if next == tokens.stop_ids {
                break;
            }
            assert!(next.iter().all(|id| any.mask[*id as usize / 32] >> (id % 32) & 1 == 1));
            assert!(ahead.likely.is_none_or(|id| next.contains(&id)));
            // Ends of strings and of numbers come sooner or later.
            let ends =
                next.iter().copied().find(|id| matches!(&tokens.bytes[*id as usize][..], b"\"," | b"\"" | b"," | b"]"));
            let token = ends.filter(|_| below(3) == 0).unwrap_or_else(|| next[below(next.len())]);
            if tokens.stop_ids.contains(&token) {
                break;
            }
            for text in [&mut following, &mut unforced] {
                text.push(token).unwrap();
            }
            said.push(token);
            free += 1;
            (ahead, any) = (following.ahead().unwrap(), unforced.ahead().unwrap());
        }
        let value: Value = serde_json::from_str(&spelt(tokens, &said)).unwrap();
        let of = if value.is_array() { &value[0] } else { &value };
        assert_eq!(of.as_object().unwrap().len(), 7, "{value}");
    }
    assert!(forced > 300 && free > 300, "{forced} forced, {free} chosen");
}

/// All of a text may be forced, and is still no more than a few tokens at a time.
#[test]
fn a_long_text_without_a_choice_is_followed_to_its_end() {
    let (compiler, tokens) = vocabulary();
    let names: Vec<String> = (0..2000).map(|number| format!("property {number}")).collect();
    let properties: Map<String, Value> = names.iter().map(|name| (name.clone(), json!({"const": name}))).collect();
    let schema = json!({"type": "object", "properties": properties, "required": names, "additionalProperties": false});
    let (begins, mut ahead) = text(compiler, tokens, &schema);
    let (mut text, mut said) = (begins.fork(), Vec::new());
    loop {
        said.extend(&ahead.forced);
        let next: Vec<u32> = allowed(&ahead).collect();
        if next == tokens.stop_ids {
            break;
        }
        let token = ahead.likely.unwrap_or(next[0]);
        said.push(token);
        text.push(token).unwrap();
        ahead = text.ahead().unwrap();
    }
    let value: Value = serde_json::from_str(&spelt(tokens, &said)).unwrap();
    assert_eq!(value.as_object().unwrap().len(), names.len());
}

#[test]
fn a_vocabulary_that_lacks_a_byte_forces_nothing() {
    let (_, tokens) = vocabulary();
    let mut few = tokens.clone();
    few.bytes.iter_mut().filter(|bytes| bytes[..] == [b'~']).for_each(|bytes| bytes.push(b'~'));
    let (_, ahead) = text(&Compiler::new(&few).unwrap(), &few, &object());
    assert!(ahead.forced.is_empty());
}

#[test]
fn a_key_with_a_byte_that_no_token_has_is_refused() {
    let (compiler, tokens) = vocabulary();
    let key = "a\u{40000}";
    assert!(!tokens.bytes.iter().any(|bytes| bytes.contains(&key.as_bytes()[1])), "the default model has it");
    let schema = json!({"type": "object", "properties": {key: true}, "required": [key]});
    prove(compiler, tokens, check(&schema.to_string()).unwrap()).unwrap_err();
}

#[test]
fn a_stop_id_spells_nothing() {
    let (_, tokens) = vocabulary();
    let brace = u32::try_from(tokens.bytes.iter().position(|token| token == b"{\"").unwrap()).unwrap();
    let stops = Tokens { stop_ids: vec![tokens.stop_ids[0], brace], ..tokens.clone() };
    let (_, ahead) = text(&Compiler::new(&stops).unwrap(), &stops, &object());
    assert_eq!(spelt(tokens, &ahead.forced), "{\"name");
    assert!(!ahead.forced.contains(&brace));
}
