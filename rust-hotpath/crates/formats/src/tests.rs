//! What of JSON Schema is taken and what is refused, where, and in which words.

mod ahead;

use std::{sync::OnceLock, thread};

use hotpath_testing::generation_bundle;
use hotpath_text::{Tokenizer, Vocabulary};
use serde_json::{Map, Value, json};

use crate::{
    compile::{Compiler, Source, Tokens},
    schema::{Refusal, check},
    walk::prove,
};

/// The default model's.
fn vocabulary() -> &'static (Compiler, Tokens) {
    static VOCABULARY: OnceLock<(Compiler, Tokens)> = OnceLock::new();
    VOCABULARY.get_or_init(|| {
        let bundle = generation_bundle();
        let vocabulary = Vocabulary::load(&bundle, &Tokenizer::load(&bundle).unwrap()).unwrap();
        let bytes = vocabulary.ids().map(|id| vocabulary.bytes(id).to_vec()).collect();
        let tokens = Tokens { bytes, stop_ids: bundle.manifest.generation().unwrap().stop_token_ids.clone() };
        (Compiler::new(&tokens).unwrap(), tokens)
    })
}

/// As a worker does it.
fn try_out(schema: &Value) -> Result<Source, Refusal> {
    let schema = schema.to_string();
    let trying = thread::Builder::new().stack_size(64 << 20).spawn(move || {
        let (compiler, tokens) = vocabulary();
        check(&schema).and_then(|checked| prove(compiler, tokens, checked))
    });
    trying.unwrap().join().unwrap()
}

/// An object of so many entries, each made of its number.
fn entries(count: usize, entry: impl Fn(usize) -> (String, Value)) -> Value {
    Value::Object((0..count).map(entry).collect::<Map<String, Value>>())
}

fn strings(count: usize) -> Value {
    entries(count, |i| (format!("p{i}"), json!({"type": "string"})))
}

/// What the whole of a schema is written as, where it is no reference.
fn written(schema: &Value) -> Value {
    check(&schema.to_string()).unwrap().schema["$defs"]["0"].clone()
}

#[test]
fn what_excludes_nothing_is_taken_and_left_out() {
    let base = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
    let idle = [
        ("propertyNames", json!({"type": "string"})),
        ("propertyNames", json!(true)),
        ("title", json!("A")),
        ("$comment", json!({"any": 1})),
        ("$schema", json!("https://json-schema.org/draft/2019-09/schema")),
        ("$id", json!("https://example.com/a")),
        ("deprecated", json!(true)),
        ("x-guidance", json!({"lenient": true})),
        ("discriminator", json!({"propertyName": "a"})),
        ("not", json!(false)),
        ("not", json!({"not": {}})),
        ("if", json!({"type": "string"})),
        ("then", json!({"type": "string"})),
        ("minContains", json!(2)),
        ("uniqueItems", json!(false)),
        ("dependentRequired", json!({"b": ["a"], "c": []})),
        ("dependentSchemas", json!({"b": {}})),
        ("dependencies", json!({"b": ["a"]})),
        ("unevaluatedProperties", json!(true)),
        ("minProperties", json!(1)),
        ("format", json!("password")),
        ("format", json!("unknown")),
    ];
    for (name, value) in idle {
        let mut schema = base.clone();
        schema[name] = value;
        assert_eq!(written(&schema), base, "{name}");
    }
}

#[test]
fn what_means_the_same_is_written_as_the_compiler_knows_it() {
    let same = [
        (
            json!({"items": [true, {"type": "null"}], "additionalItems": false}),
            json!({"prefixItems": [true, {"type": "null"}], "items": false}),
        ),
        (
            json!({"properties": {"a": true}, "unevaluatedProperties": false}),
            json!({"properties": {"a": true}, "additionalProperties": false}),
        ),
        (json!({"minLength": 2.0, "maxLength": 65_536}), json!({"minLength": 2, "maxLength": 8192})),
        (
            json!({"anyOf": [{"type": "number"}, {"type": "string", "pattern": "^(?!a)b"}, {"$ref": "#"}]}),
            json!({"anyOf": [{"type": "number"}]}),
        ),
        (json!({"$defs": {"a/b": {"type": "null"}}, "$ref": "#/$defs/a~1b"}), json!({"$ref": "#/$defs/1"})),
    ];
    for (schema, expected) in same {
        assert_eq!(written(&schema), expected, "{schema}");
    }
}

/// Schemas that cannot be kept to, where, and a word of why.
fn refused() -> Vec<(Value, &'static str, &'static str)> {
    let property = |schema: Value| json!({"type": "object", "properties": {"price": schema}});
    let chain = |length: usize| {
        let link = |i: usize| {
            (
                format!("k{i}"),
                if i == 0 { json!({"type": "integer"}) } else { json!({"$ref": format!("#/$defs/k{}", i - 1)}) },
            )
        };
        json!({"$defs": entries(length, link), "$ref": format!("#/$defs/k{}", length - 1)})
    };
    let nested =
        |depth: usize| (0..depth).fold(json!({"type": "null"}), |within, _| json!({"type": "array", "items": within}));
    vec![
        (chain(600), "$defs.k344", "deeper than 256"),
        (nested(200), "", "recursion limit"),
        (json!([]), "", "no JSON object"),
        (json!({"type": "strnig"}), "type", "strnig"),
        (property(json!(5)), "properties.price", "must be an object"),
        (property(json!({"type": "array", "uniqueItems": true})), "properties.price.uniqueItems", "not supported"),
        (property(json!({"propertyNames": {"pattern": "^a"}})), "properties.price.propertyNames", "not supported"),
        (property(json!({"not": {"type": "null"}})), "properties.price.not", "not supported"),
        (property(json!({"if": true, "then": {"type": "null"}})), "properties.price.if", "not supported"),
        (property(json!({"contains": {"type": "null"}})), "properties.price.contains", "not supported"),
        (property(json!({"dependentRequired": {"a": ["b"]}})), "properties.price.dependentRequired", "not supported"),
        (
            property(json!({"dependentSchemas": {"a": {"type": "null"}}})),
            "properties.price.dependentSchemas",
            "not supported",
        ),
        (property(json!({"$dynamicRef": "#a"})), "properties.price.$dynamicRef", "not supported"),
        (
            property(json!({"allOf": [{}], "unevaluatedProperties": false})),
            "properties.price.unevaluatedProperties",
            "additionalProperties",
        ),
        (property(json!({"pattern": "^(?=a)b"})), "properties.price.pattern", "look-ahead"),
        (property(json!({"pattern": "("})), "properties.price.pattern", "unclosed"),
        (property(json!({"pattern": "a".repeat(10_000)})), "properties.price.pattern", "10000 bytes"),
        (property(json!({"pattern": "^(.{100}){200}$"})), "properties.price.pattern", "20000 characters"),
        (property(json!({"anyOf": [{"pattern": "^(?!a)b"}]})), "properties.price.anyOf[0].pattern", "look-ahead"),
        (property(json!({"anyOf": [{"type": 5}, {"type": "null"}]})), "properties.price.anyOf[0].type", "must be of"),
        (property(json!({"anyOf": []})), "properties.price.anyOf", "at least one"),
        (property(json!({"minimum": 5, "maximum": 3})), "properties.price.minimum", "above maximum"),
        (property(json!({"minLength": 3, "maxLength": 2})), "properties.price.minLength", "above maxLength"),
        (property(json!({"minLength": -1})), "properties.price.minLength", "whole number"),
        (property(json!({"minItems": 3, "maxItems": 2})), "properties.price.minItems", "above maxItems"),
        (property(json!({"minimum": "5"})), "properties.price.minimum", "number"),
        (property(json!({"multipleOf": 0})), "properties.price.multipleOf", "above 0"),
        (property(json!({"type": "integer", "multipleOf": 999_983})), "properties.price.multipleOf", "at most 10000"),
        (property(json!({"enum": []})), "properties.price.enum", "at least one"),
        (property(json!({"required": ["a", 5]})), "properties.price.required", "array of strings"),
        (
            property(json!({"minProperties": 2, "required": ["a"]})),
            "properties.price.minProperties",
            "required properties, 1",
        ),
        (
            property(json!({"maxProperties": 2, "properties": strings(3)})),
            "properties.price.maxProperties",
            "optional properties",
        ),
        (json!({"$ref": "https://example.com/a"}), "$ref", "example.com"),
        (json!({"$ref": "#/$defs/none"}), "$ref", "nothing"),
        (json!({"$ref": "#/$defs/n", "$defs": {"n": {"$ref": "#/$defs/n"}}}), "$defs.n.$ref", "itself"),
        (json!({"allOf": [{"$ref": "#"}]}), "allOf[0].$ref", "itself"),
        (
            json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
            "properties.a.$ref",
            "no text can come to an end",
        ),
        (json!({"type": "string", "minLength": 65_436, "maxLength": 65_536}), "minLength", "at most 8192"),
        (json!({"anyOf": [{"maxLength": 8000}, {"maxLength": 7000}]}), "anyOf[1].maxLength", "15000 characters"),
        (json!({"type": "object", "properties": strings(510)}), "properties", "510 optional"),
        (
            json!({"type": "object", "patternProperties": entries(500, |i| (format!("^a{i}b$"), json!(true)))}),
            "patternProperties",
            "500 patterns",
        ),
        (json!({"oneOf": [{"type": "integer"}, {"type": "number"}]}), "oneOf", "anyOf"),
        (json!({"patternProperties": {"^a": {"type": "null"}, "a$": {"type": "boolean"}}}), "", "disjoint"),
        (json!({"allOf": [{"type": "string"}, {"type": "null"}]}), "", "allows no text"),
        (json!({"type": "object", "properties": {"a": false}, "required": ["a"]}), "", "allows no text"),
    ]
}

#[test]
fn what_cannot_be_kept_to_is_refused_with_its_path_and_in_words() {
    for (schema, path, word) in refused() {
        let refusal = try_out(&schema).expect_err(&schema.to_string()[..schema.to_string().len().min(200)]);
        let problem = &refusal.problem;
        assert!(
            refusal.path == path && problem.contains(word),
            "{refusal}: {}",
            &schema.to_string()[..schema.to_string().len().min(200)]
        );
        for library in ["NoExtensionBias", "Unimplemented", "Enable", "Unsatisfiable", "\n"] {
            assert!(!problem.contains(library), "{refusal}");
        }
    }
}

#[test]
fn honest_schemas_are_kept_to_and_their_texts_take_little() {
    let tree = json!({
        "$defs": {"node": {"type": "object", "properties": {
            "value": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
        }, "required": ["value"], "additionalProperties": false}},
        "$ref": "#/$defs/node",
    });
    let list = json!({"anyOf": [
        {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"], "additionalProperties": false},
        {"type": "null"},
    ]});
    let required = json!({"type": "object", "properties": strings(500), "required": (0..500).map(|i| format!("p{i}")).collect::<Vec<_>>()});
    let honest = [
        json!({}),
        tree,
        list,
        required,
        json!({"type": "object", "properties": strings(400)}),
        json!({"enum": (0..2000).map(|i| format!("value {i}")).collect::<Vec<_>>()}),
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "minProperties": 1, "additionalProperties": false}),
        json!({"type": "object", "properties": {"a": true}, "maxProperties": 3, "additionalProperties": false}),
        json!({"type": "object", "oneOf": [{"properties": {"t": {"const": "a"}}, "required": ["t"]}, {"properties": {"t": {"const": "b"}}, "required": ["t"]}]}),
        json!({"type": "array", "items": {"type": "integer"}, "minItems": 100, "maxItems": 10_000}),
        json!({"type": "string", "format": "date-time"}),
        json!({"type": "number", "multipleOf": 0.01}),
        json!({"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {"type": "number"}}),
    ];
    for schema in honest {
        let source = try_out(&schema).unwrap_or_else(|refusal| panic!("{refusal}: {schema}"));
        assert!(source.text_bytes() < 8 << 20, "{} bytes: {schema}", source.text_bytes());
    }
    let counted = try_out(&json!({"type": "string", "maxLength": 8192})).unwrap();
    assert!(counted.states >= 8192 * 4, "{counted:?}");
}

/// What a text may come to is the states that it may: more of them than those of the longest that is counted.
#[test]
fn a_counted_string_is_followed_to_its_end() {
    let (compiler, tokens) = vocabulary();
    let checked = check(&json!({"type": "string", "maxLength": 8192}).to_string()).unwrap();
    let source = prove(compiler, tokens, checked).unwrap();
    let mut text = compiler.format(&source).unwrap().0.beginning().fork();
    let id = |bytes: &[u8]| u32::try_from(tokens.bytes.iter().position(|token| token == bytes).unwrap()).unwrap();
    text.push(id(b"\"")).unwrap();
    for _ in 0..8192 / 4 {
        text.push(id(b" the")).and_then(|()| text.ahead()).unwrap();
    }
    assert!(text.push(id(b" the")).is_err(), "it is full");
}
