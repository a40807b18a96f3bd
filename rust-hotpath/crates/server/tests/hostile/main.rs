//! Bundles of which every number, field and type may be anything: each is loaded or refused, soon and in little memory.
//!
//! A process of its own, because memory is measured.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test's panic is its failure")]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hotpath_bundle::{Bundle, Refused, Revision};
use hotpath_cores::Cores;
use hotpath_encoding::Limits;
use hotpath_runtime::Threads;
use hotpath_server::{
    metrics::Metrics,
    models::{
        Models,
        load::Loader,
        sessions::Compute,
        tasks::{LoadError, generation::GenerationSettings},
    },
};
use hotpath_testing::{library, tiny_decoder, tiny_encoder};
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

const LIMIT: Duration = Duration::from_secs(20);

/// More than loading either model takes twice over. What a number may make of it is gigabytes.
const MOST_BYTES: usize = 1 << 30;

/// A model's folder, whose revision is to be written anew.
struct Model {
    name: &'static str,
    real: PathBuf,
    manifest: Value,
    golden: Value,
}

impl Model {
    fn of(bundle: &Bundle, name: &'static str) -> Self {
        let real = bundle.path("");
        let read = |file: &str| serde_json::from_slice(&fs::read(real.join(file)).unwrap()).unwrap();
        Self { name, manifest: read("bundle.json"), golden: read("golden.json"), real }
    }

    /// Writes a bundle whose hashes are right, and loads it as the service does.
    async fn load(&self, manifest: &Value, golden: &Value) -> Result<(), LoadError> {
        let models = tempfile::tempdir().unwrap();
        let golden = serde_json::to_vec(golden).unwrap();
        let of_golden = models.path().join("golden");
        fs::write(&of_golden, &golden).unwrap();
        let (size, sha256) = hotpath_bundle::hash(&of_golden).unwrap();
        let mut manifest = manifest.clone();
        let files = manifest.pointer_mut("/files").and_then(Value::as_array_mut);
        if let Some(file) = files.and_then(|files| files.iter_mut().find(|file| file["path"] == "golden.json")) {
            (file["sha256"], file["size_bytes"]) = (json!(sha256), json!(size.to_string()));
        }
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let revision = Revision::of(&manifest);
        let folder = models.path().join(self.name).join(revision.as_str());
        fs::create_dir_all(&folder).unwrap();
        for file in fs::read_dir(&self.real).unwrap().flatten().map(|file| file.path()) {
            symlink(fs::canonicalize(&file).unwrap(), folder.join(file.file_name().unwrap())).unwrap();
        }
        for (file, content) in [("bundle.json", &manifest), ("golden.json", &golden)] {
            fs::remove_file(folder.join(file)).unwrap();
            fs::write(folder.join(file), content).unwrap();
        }
        let loader = Arc::new(loader(models.path(), self.name));
        let serving = loader.load(self.name, revision).await?;
        Ok(serving.task().check(&serving.source).await?)
    }

    /// Loads it with one thing changed. Whatever that is, it must be over soon.
    async fn try_with(&self, what: &str, manifest: &Value, golden: &Value) -> bool {
        let loading = tokio::time::timeout(LIMIT, self.load(manifest, golden));
        let outcome = loading.await.unwrap_or_else(|_| panic!("{}: {what}: loads for ever", self.name));
        if let Err(error) = &outcome {
            let refused = error.downcast_ref::<Refused>();
            assert!(refused.is_some(), "{}: {what}: not refused, but: {error}", self.name);
        }
        assert!(most_memory() < MOST_BYTES, "{}: {what}: took {} bytes", self.name, most_memory());
        outcome.is_ok()
    }
}

fn loader(models: &Path, name: &str) -> Loader {
    let (max_wait, metrics) = (Duration::from_secs(60), Arc::new(Metrics::new("test")));
    let formats = hotpath_formats::Settings {
        program: env!("CARGO_BIN_EXE_hotpath").into(),
        workers: 1,
        cache_bytes: 1 << 20,
        text_bytes: 64 << 20,
        max_wait,
    };
    Loader {
        models: models.to_owned(),
        precision: None,
        limits: Limits { workers: 1, batch_tokens: 112, max_queued_tokens: 65_536, max_wait },
        generation: GenerationSettings {
            precision: None,
            threads: Threads::CALLER,
            max_wait,
            cache_bytes: 64 << 20,
            max_rows: 4,
            chunk_tokens: 32,
            max_choices: 1,
            default_max_tokens: 24,
            slow_reader: max_wait,
            share_prefixes: false,
        },
        formats: hotpath_formats::Service::new(&formats, metrics.clone()),
        compute: Compute { sessions: Arc::new(library()), cores: Arc::new(Cores::new(1)), alive: TaskTracker::new() },
        metrics,
        served: Models::new(&[name.to_owned()]),
    }
}

/// The most memory that the process has ever held.
fn most_memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default(); // elsewhere it is not measured
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok()).map_or(0, |kilobytes| kilobytes << 10)
}

/// JSON pointers of what is no list and no object, and of each list; of long lists the first members alone.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| places(value, &format!("{at}/{name}"), found)),
        Value::Array(items) => {
            found.push(at.to_owned());
            items.iter().take(2).enumerate().for_each(|(i, item)| places(item, &format!("{at}/{i}"), found));
        }
        _ => found.push(at.to_owned()),
    }
}

/// What stands in a place instead: the borders of every type of number, and other types.
fn instead() -> Vec<Value> {
    let mut values =
        vec![json!("NaN"), json!("Infinity"), json!(-1), json!(1e300), json!(0.5), Value::Null, json!("x")];
    values
        .extend([0, 1, 2, 3, 1 << 16, 1 << 20, 1 << 31, u64::from(u32::MAX), 1 << 53].map(|number: u64| json!(number)));
    values.extend([json!([]), json!({}), json!(true), json!("9".repeat(400))]);
    values
}

/// Every so many of the changes, so that all of them together take about as long as they may in a test; all of them with
/// `HOTPATH_HOSTILE_STEP=1`.
async fn every(step: usize, model: Model) {
    let step = std::env::var("HOTPATH_HOSTILE_STEP").map_or(step, |step| step.parse().unwrap());
    assert!(model.try_with("unchanged", &model.manifest, &model.golden).await, "it loads as it is");
    let (mut tried, mut number) = (0, 0);
    for of_golden in [false, true] {
        let whole = if of_golden { &model.golden } else { &model.manifest };
        let mut found = Vec::new();
        places(whole, "", &mut found);
        for place in found {
            for value in instead() {
                number += 1;
                if number % step > 0 {
                    continue;
                }
                let mut changed = whole.clone();
                *changed.pointer_mut(&place).unwrap() = value.clone();
                let (manifest, golden) =
                    if of_golden { (&model.manifest, &changed) } else { (&changed, &model.golden) };
                model
                    .try_with(&format!("{place} = {}", value.to_string().get(..40).unwrap_or("")), manifest, golden)
                    .await;
                tried += 1;
            }
        }
    }
    println!("{}: {tried} of {number} changes", model.name);
    assert!(tried > 50, "only {tried} were tried");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decoders_bundle_with_anything_in_it_is_loaded_or_refused() {
    every(7, Model::of(&tiny_decoder(), "tiny-decoder")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoders_bundle_with_anything_in_it_is_loaded_or_refused() {
    every(7, Model::of(&tiny_encoder(), "tiny-encoder")).await;
}
