//! Schemas in processes of their own: what one costs is nobody else's matter, and what they leave is nothing.

use std::{
    fs,
    io::Write,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{future::join_all, poll};
use hotpath_fairness::{Class, Turn};
use hotpath_formats::{Failure, Formats, Noted, Observer, SUBCOMMAND, Service, Settings};
use hotpath_testing::tiny_decoder;
use hotpath_text::{Tokenizer, Vocabulary};
use serde_json::{Map, Value, json};
use tokio::{sync::Mutex, time::timeout};

use crate::support::{LIMIT, config};

/// Longest time until a verdict, on a machine that has other things to do.
const VERDICT: Duration = Duration::from_secs(15);

/// What was noted.
#[derive(Debug, Default)]
struct Counts([AtomicUsize; 4]);

impl Observer for Counts {
    fn noted(&self, what: Noted) {
        self.0[what as usize].fetch_add(1, Ordering::SeqCst);
    }
}

struct Tried {
    formats: Formats,
    service: Arc<Service>,
    counts: Arc<Counts>,
}

impl Tried {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = config().formats;
        change(&mut settings);
        let counts = Arc::new(Counts::default());
        let service = Service::new(&settings, counts.clone());
        Self { formats: formats(&service), service, counts }
    }

    fn noted(&self, what: Noted) -> usize {
        self.counts.0[what as usize].load(Ordering::SeqCst)
    }

    async fn ask(&self, key: &str, schema: &Value) -> Result<(), Failure> {
        self.formats.json_schema(&turn(key), &schema.to_string(), 1).await.map(drop)
    }
}

fn formats(service: &Arc<Service>) -> Formats {
    let bundle = tiny_decoder();
    let vocabulary = Vocabulary::load(&bundle, &Tokenizer::load(&bundle).unwrap()).unwrap();
    let stop_ids = &bundle.manifest.generation().unwrap().stop_token_ids;
    Formats::new(service, &vocabulary, stop_ids).unwrap()
}

fn turn(key: &str) -> Turn {
    Turn { class: Class::Interactive, key: key.into() }
}

/// These tests look at the children and at the memory of this process, so they do not run at the same time.
async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::const_new(());
    ONE.lock().await
}

fn entries(count: usize, entry: impl Fn(usize) -> (String, Value)) -> Value {
    Value::Object((0..count).map(entry).collect::<Map<String, Value>>())
}

fn many(count: usize, each: impl Fn(usize) -> Value) -> Value {
    (0..count).map(each).collect()
}

/// Each pattern doubles what must be remembered. The number makes it another schema.
fn costly(number: usize) -> Value {
    json!({"type": "string", "title": number.to_string(), "allOf": many(30, |i| json!({"pattern": format!("a{i}")}))})
}

fn cheap(number: usize) -> Value {
    json!({"type": "object", "properties": {format!("p{number}"): {"type": "integer"}}, "additionalProperties": false})
}

/// Something much of every keyword.
#[allow(clippy::too_many_lines)] // a table
fn hostile() -> Vec<(&'static str, Value)> {
    let nested = |depth: usize, wrap: &dyn Fn(Value) -> Value| {
        (0..depth).fold(json!({"type": "null"}), |within, _| wrap(within))
    };
    let within = |keyword: &'static str| nested(60, &move |schema| json!({keyword: schema}));
    let among = |keyword: &'static str| nested(60, &move |schema| json!({keyword: [schema, {"type": "string"}]}));
    let chain = |length: usize, link: &dyn Fn(String) -> Value| {
        let target = |i: usize| if i == 0 { json!({"type": "integer"}) } else { link(format!("#/$defs/k{}", i - 1)) };
        json!({"$defs": entries(length, |i| (format!("k{i}"), target(i))), "$ref": format!("#/$defs/k{}", length - 1)})
    };
    let string = |i: usize| (format!("p{i}"), json!({"type": "string"}));
    vec![
        ("references", chain(600, &|to| json!({"$ref": to}))),
        ("references up to the limit", chain(120, &|to| json!({"$ref": to}))),
        ("references beside keywords", chain(100, &|to| json!({"$ref": to, "minimum": 1}))),
        ("references that double", chain(60, &|to| json!({"allOf": [{"$ref": to}, {"$ref": to}]}))),
        (
            "branches that double",
            chain(40, &|to| json!({"anyOf": [{"type": "array", "items": {"$ref": to}}, {"$ref": to}]})),
        ),
        (
            "properties that double",
            chain(100, &|to| json!({"properties": {"a": {"$ref": to}, "b": {"$ref": to}}, "required": ["a", "b"]})),
        ),
        (
            "objects that multiply",
            json!({"allOf": many(12, |i| json!({"anyOf": many(8, |j| json!({"properties": {format!("a{i}"): {"const": j}}}))}))}),
        ),
        ("allOf within", among("allOf")),
        ("anyOf within", among("anyOf")),
        ("oneOf within", among("oneOf")),
        ("not within", within("not")),
        ("items within", within("items")),
        ("contains within", within("contains")),
        ("additionalProperties within", within("additionalProperties")),
        ("unevaluatedProperties within", within("unevaluatedProperties")),
        (
            "if within",
            nested(60, &|schema| json!({"if": schema, "then": {"type": "null"}, "else": {"type": "string"}})),
        ),
        ("prefixItems within", among("prefixItems")),
        ("dependentSchemas within", nested(40, &|schema| json!({"dependentSchemas": {"a": schema}}))),
        ("patternProperties within", nested(40, &|schema| json!({"patternProperties": {"^a": schema}}))),
        ("propertyNames within", within("propertyNames")),
        (
            "properties",
            json!({"properties": entries(3000, string), "required": many(3000, |i| json!(format!("p{i}")))}),
        ),
        ("optional properties", json!({"properties": entries(510, string)})),
        ("optional properties up to the limit", json!({"properties": entries(400, string)})),
        ("required names alone", json!({"type": "object", "required": many(8000, |i| json!(format!("p{i}")))})),
        ("patternProperties", json!({"patternProperties": entries(500, |i| (format!("^a{i}b$"), json!(true)))})),
        (
            "patternProperties up to the limit",
            json!({"patternProperties": entries(100, |i| (format!("^a{i}b$"), json!(true)))}),
        ),
        (
            "patternProperties that count",
            json!({"patternProperties": entries(20, |i| (format!("^(.*a.{{{i}}}){{3}}$"), json!(true)))}),
        ),
        ("patterns", costly(0)),
        (
            "patterns by reference",
            json!({"$defs": entries(30, |i| (format!("k{i}"), json!({"pattern": format!("a{i}")}))), "allOf": many(30, |i| json!({"$ref": format!("#/$defs/k{i}")}))}),
        ),
        ("a pattern that remembers", json!({"type": "string", "pattern": "^(.*a.{20}|.*b.{15}|[^c]*d.{12})*$"})),
        ("a pattern that repeats", json!({"type": "string", "pattern": "^((((a{9}){9}){9}){9}){9}$"})),
        ("a pattern of branches", json!({"type": "string", "pattern": format!("({})", "a|".repeat(4000))})),
        (
            "a pattern within",
            json!({"type": "string", "pattern": format!("{}a{}", "(".repeat(3000), ")".repeat(3000))}),
        ),
        ("a pattern of classes", json!({"type": "string", "pattern": "[\\p{L}\\p{N}]{50}".repeat(100)})),
        ("lengths", json!({"type": "string", "minLength": 65_436, "maxLength": 65_536})),
        (
            "many lengths",
            json!({"properties": entries(300, |i| (format!("p{i}"), json!({"type": "string", "maxLength": 500 + i})))}),
        ),
        ("a length and a pattern", json!({"type": "string", "maxLength": 8000, "pattern": "^(a|b)*c(a|b){12}$"})),
        (
            "a format and a pattern",
            json!({"type": "string", "format": "uri", "pattern": "a.*b.*c.*d", "maxLength": 2000}),
        ),
        (
            "formats",
            json!({"type": "string", "allOf": [{"format": "email"}, {"format": "uri"}, {"format": "hostname"}]}),
        ),
        (
            "items",
            json!({"type": "array", "items": {"type": "array", "minItems": 100_000, "items": {"type": "null"}}, "minItems": 1_000_000, "maxItems": 2_000_000}),
        ),
        ("prefixItems", json!({"type": "array", "prefixItems": many(4000, |_| json!({"type": "null"}))})),
        ("enum", json!({"enum": many(15_000, |i| json!(i))})),
        (
            "enum of long strings",
            json!({"enum": [format!("{}a", "x".repeat(60_000)), format!("{}b", "x".repeat(60_000))]}),
        ),
        ("enum of objects", json!({"enum": many(600, |i| json!({"a": {"b": [i, {"c": i}]}}))})),
        ("const", json!({"const": nested(100, &|value| json!([value]))})),
        ("multipleOf", json!({"type": "integer", "multipleOf": 999_983})),
        ("multipleOf up to the limit", json!({"type": "integer", "multipleOf": 9973})),
        (
            "multipleOf that multiplies",
            json!({"type": "integer", "allOf": [{"multipleOf": 9973}, {"multipleOf": 9967}, {"multipleOf": 9949}]}),
        ),
        ("bounds", json!({"type": "number", "minimum": -1.234_567_890_123e300, "maximum": 9.876_543_210_987e300})),
        (
            "bounds that are near",
            json!({"type": "number", "exclusiveMinimum": 1e-300, "exclusiveMaximum": 1.000_000_1e-300}),
        ),
        (
            "counts of properties",
            json!({"type": "object", "properties": entries(300, string), "minProperties": 1, "maxProperties": 1, "additionalProperties": false}),
        ),
        ("counts beyond numbers", json!({"type": "array", "minItems": 18_446_744_073_709_551_615_u64})),
    ]
}

/// What `/proc` says of a process.
fn status(process: u32, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

fn resident_mib() -> u64 {
    status(std::process::id(), "VmRSS:").unwrap() / 1024
}

/// Workers of this process that are alive.
fn workers() -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let command = |process: u32| fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let own = |process: &u32| status(*process, "PPid:") == Some(u64::from(std::process::id()));
    processes.filter(own).filter(|process| command(*process).contains(SUBCOMMAND)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_schema_is_made_of_there_is_a_verdict_in_time_and_nothing_else_happens() {
    let _alone = alone().await;
    let tried = Tried::new(|_| ());
    tried.ask("a", &cheap(0)).await.unwrap();
    let before = resident_mib();
    for (name, schema) in hostile() {
        let began = Instant::now();
        match timeout(VERDICT, tried.ask("a", &schema)).await.expect(name) {
            Ok(()) | Err(Failure::Refused(_)) => (),
            Err(other) => panic!("{name}: {other:?}"),
        }
        println!("{name}: {:?}", began.elapsed());
        assert!(workers().len() <= 2, "{name}");
    }
    let deep = format!("{}{}", r#"{"a":"#.repeat(20_000), "[".repeat(20_000));
    let deep = tried.formats.json_schema(&turn("a"), &deep, 1).await;
    assert!(matches!(deep, Err(Failure::Refused(_))), "{deep:?}");
    assert!(resident_mib() < before + 200, "{before} → {} MiB", resident_mib());
    assert!(tried.noted(Noted::Killed) > 0, "none of them cost its worker: the limits were not met");
    tried.ask("a", &cheap(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_costs_too_much_is_refused_once_and_remembered() {
    let _alone = alone().await;
    let tried = Tried::new(|settings| settings.workers = 1);
    let refused = tried.ask("a", &costly(0)).await.unwrap_err();
    assert!(refused.to_string().contains("costs too much"), "{refused}");
    assert_eq!(tried.noted(Noted::Killed), 1);
    assert_eq!(tried.ask("b", &costly(0)).await, Err(refused));
    assert_eq!((tried.noted(Noted::Killed), tried.noted(Noted::Hit)), (1, 1));
    tried.ask("a", &cheap(0)).await.unwrap();
}

/// There is one worker, and the first schema would keep it until it is killed for its cost.
#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_takes_the_worker_along() {
    let _alone = alone().await;
    let tried = Tried::new(|settings| settings.workers = 1);
    let schema = costly(0);
    {
        let mut asking = Box::pin(tried.ask("a", &schema));
        while workers().is_empty() {
            assert!(poll!(&mut asking).is_pending());
            tokio::task::yield_now().await;
        }
    }
    tried.ask("b", &cheap(0)).await.unwrap();
    assert_eq!(tried.noted(Noted::Killed), 0, "the first schema was tried to its end");
    tried.ask("b", &schema).await.unwrap_err();
    assert_eq!(tried.noted(Noted::Killed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_costly_schemas_lets_another_key_wait_for_one_of_them() {
    let _alone = alone().await;
    let tried = Arc::new(Tried::new(|settings| settings.workers = 1));
    let flood = |number: usize| {
        let tried = tried.clone();
        tokio::spawn(async move { tried.ask("flood", &costly(number)).await })
    };
    let flood: Vec<_> = (0..20).map(flood).collect();
    while workers().is_empty() {
        tokio::task::yield_now().await;
    }
    timeout(LIMIT, tried.ask("other", &cheap(0))).await.unwrap().unwrap();
    assert!(tried.noted(Noted::Killed) <= 2, "{} of the flood went before", tried.noted(Noted::Killed));
    flood.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_schema_is_compiled_once_whoever_asks_and_whoever_leaves() {
    let _alone = alone().await;
    let tried = Tried::new(|_| ());
    let schema = cheap(0);
    {
        let mut first = Box::pin(tried.ask("first", &schema));
        assert!(poll!(&mut first).is_pending());
        let mut second = Box::pin(tried.ask("second", &schema));
        assert!(poll!(&mut second).is_pending());
        drop(first);
        second.await.unwrap();
    }
    assert_eq!(tried.noted(Noted::Compiled), 1);
    let schema = cheap(1);
    let keys = ["a", "b", "c", "a", "b", "c"].map(|key| tried.ask(key, &schema));
    assert!(join_all(keys).await.iter().all(Result::is_ok));
    assert_eq!((tried.noted(Noted::Compiled), tried.noted(Noted::Hit)), (2, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_admitted_by_what_they_may_come_to_and_no_key_has_it_all() {
    let _alone = alone().await;
    let tried = Tried::new(|settings| settings.text_bytes = 256 << 20);
    let large = json!({"type": "string", "maxLength": 8000});
    let ask = |key: &'static str| {
        let (tried, large) = (&tried, &large);
        async move { tried.formats.json_schema(&turn(key), &large.to_string(), 1).await }
    };
    let mut held = Vec::new();
    let full = loop {
        match ask("a").await {
            Ok(format) => held.push(format),
            Err(failure) => break failure,
        }
    };
    assert!(matches!(full, Failure::Full { .. }), "{full:?}");
    assert!((2..8).contains(&held.len()), "{} texts", held.len());
    let other = ask("b").await.unwrap();
    drop(held);
    assert!(tried.service.text_bytes() < 50 << 20);
    drop(other);
    assert_eq!(tried.service.text_bytes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn vocabularies_share_the_workers_there_are() {
    let _alone = alone().await;
    let tried = Tried::new(|settings| settings.workers = 1);
    let other = formats(&tried.service);
    for number in 0..4 {
        tried.ask("a", &cheap(number)).await.unwrap();
        assert_eq!(workers().len(), 1);
        other.json_schema(&turn("a"), &cheap(number).to_string(), 1).await.unwrap();
        assert_eq!(workers().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_schemas_leave_nothing() {
    let _alone = alone().await;
    let tried = Tried::new(|settings| settings.cache_bytes = 4 << 20);
    for number in 0..100 {
        tried.ask("a", &cheap(number)).await.unwrap();
    }
    let before = resident_mib();
    let count = std::env::var("SCHEMAS").ok().and_then(|count| count.parse().ok()).unwrap_or(500);
    for number in 100..count {
        tried.ask("a", &cheap(number)).await.unwrap();
    }
    println!("{before} → {} MiB", resident_mib());
    assert!(resident_mib() < before + 30, "{before} → {} MiB", resident_mib());
    assert!(tried.service.cached_bytes() <= 4 << 20);
}

/// The system's count of a worker's time may be ahead of ours: a sound schema must not pay for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_gives_way_to_another_before_its_clocks_are_far_apart() {
    let _alone = alone().await;
    let tried = Tried::new(|settings| settings.workers = 1);
    tried.ask("a", &cheap(0)).await.unwrap();
    let first = workers();
    let until = Instant::now() + Duration::from_mins(3);
    for number in 0.. {
        let name = |i: usize| (format!("name {number} {i}"), json!({"type": "string"}));
        tried.ask("a", &json!({"type": "object", "properties": entries(100, name)})).await.unwrap();
        if workers() != first {
            break;
        }
        assert!(Instant::now() < until, "the first one still works after {number}");
    }
    tried.ask("a", &cheap(1)).await.unwrap();
}

/// What a process of origin says first, and then a schema.
fn worker(tokens: &[&str], schema: Option<&Value>) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hotpath"));
    let mut child = command.arg(SUBCOMMAND).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let bytes: Vec<&[u8]> = tokens.iter().map(|token| token.as_bytes()).collect();
    let tokens = json!({"bytes": bytes, "stop_ids": [0]}).to_string();
    let schema = schema.map(|schema| Value::String(schema.to_string()).to_string());
    for message in [Some(tokens), schema].into_iter().flatten() {
        let input = child.stdin.as_mut().unwrap();
        input.write_all(&u32::try_from(message.len()).unwrap().to_le_bytes()).unwrap();
        input.write_all(message.as_bytes()).unwrap();
    }
    child
}

/// As when the serving process is killed: the system closes what it held.
#[test]
fn a_worker_outlives_nobody() {
    for schema in [None, Some(costly(0))] {
        let mut child = worker(&["", "\"", "a", "0", "1", "{", "}"], schema.as_ref());
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success(), "it went on until it was killed");
    }
}
