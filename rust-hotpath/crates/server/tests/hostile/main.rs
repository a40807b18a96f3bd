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
use hotpath_fairness::Class;
use hotpath_runtime::{Kernels, Threads};
use hotpath_server::{
    metrics::Metrics,
    models::{
        Models,
        load::Loader,
        sessions::Compute,
        tasks::{LoadError, Unproven, generation::GenerationSettings},
    },
};
use hotpath_testing::{library, tiny_decoder, tiny_encoder};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

const LIMIT: Duration = Duration::from_secs(20);

/// More than loading either model takes twice over. What a number may make of it is gigabytes.
const MOST_BYTES: usize = 1 << 30;

/// The files that are read as JSON.
const DOCUMENTS: [&str; 3] = ["bundle.json", "golden.json", "tokenizer.json"];

/// A model's revision, which is to be written anew.
struct Model {
    name: &'static str,
    folder: PathBuf,
    documents: [Value; 3],
}

impl Model {
    fn of(bundle: &Bundle, name: &'static str) -> Self {
        let read = |file| serde_json::from_slice(&fs::read(bundle.path(file)).unwrap()).unwrap();
        Self { name, folder: bundle.path(""), documents: DOCUMENTS.map(read) }
    }

    /// Writes a bundle whose hashes are right, and loads it as the service does.
    async fn load(&self, documents: &[Value; 3]) -> Result<(), LoadError> {
        let models = tempfile::tempdir().unwrap();
        let beside = models.path().join("revision");
        fs::create_dir(&beside).unwrap();
        for file in fs::read_dir(&self.folder).unwrap().flatten() {
            symlink(fs::canonicalize(file.path()).unwrap(), beside.join(file.file_name())).unwrap();
        }
        let mut manifest = documents[0].clone();
        for (file, content) in DOCUMENTS.iter().zip(documents).skip(1) {
            let (size, sha256) = write(&beside.join(file), content);
            let files = manifest.pointer_mut("/files").and_then(Value::as_array_mut);
            if let Some(entry) = files.and_then(|files| files.iter_mut().find(|entry| entry["path"] == *file)) {
                (entry["sha256"], entry["size_bytes"]) = (json!(sha256), json!(size.to_string()));
            }
        }
        write(&beside.join(DOCUMENTS[0]), &manifest);
        let revision = Revision::of(&serde_json::to_vec(&manifest).unwrap());
        fs::create_dir(models.path().join(self.name)).unwrap();
        fs::rename(&beside, models.path().join(self.name).join(revision.as_str())).unwrap();
        let loader = Arc::new(loader(models.path(), self.name));
        let serving = loader.load(self.name, revision).await?;
        serving.task().check(&serving.source).await?;
        serving.task().prove(&serving.source, Class::Interactive).await?;
        Ok(())
    }

    /// Loads it. Whatever it is, that must be over soon, and a failure the bundle's.
    async fn is_loaded(&self, documents: &[Value; 3]) -> Result<bool, String> {
        let outcome = timeout(LIMIT, self.load(documents)).await.map_err(|_| "loads for ever".to_owned())?;
        let bytes = most_memory();
        if bytes > MOST_BYTES {
            return Err(format!("took {bytes} bytes"));
        }
        match outcome {
            Ok(()) => Ok(true),
            Err(error) if error.is::<Refused>() => Ok(false),
            Err(error) if matches!(error.downcast_ref(), Some(Unproven::Refused(_))) => Ok(false),
            Err(error) => Err(format!("is not refused, but: {error}")),
        }
    }
}

/// Replaces a file, and gives its size and hash.
fn write(place: &Path, content: &Value) -> (u64, String) {
    fs::remove_file(place).unwrap(); // a link to the real one
    fs::write(place, serde_json::to_vec(content).unwrap()).unwrap();
    hotpath_bundle::hash(place).unwrap()
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
        kernels: Kernels::best(),
        limits: Limits { workers: 1, batch_tokens: 112, max_queued_tokens: 65_536, max_wait },
        generation: GenerationSettings {
            threads: Threads::CALLER,
            max_wait,
            cache_bytes: 64 << 20,
            max_rows: 4,
            chunk_tokens: 32,
            draft_tokens: 8,
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

/// JSON pointers of what is no list and no object, and of each list; of long ones the first members alone.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().take(32).for_each(|(name, value)| places(value, &format!("{at}/{}", escaped(name)), found));
        }
        Value::Array(items) => {
            found.push(at.to_owned());
            items.iter().take(2).enumerate().for_each(|(i, item)| places(item, &format!("{at}/{i}"), found));
        }
        _ => found.push(at.to_owned()),
    }
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
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

/// Tries every so many of the changes, for as long as a test may take; all of them with `HOTPATH_HOSTILE_STEP=1`.
fn every(step: usize, model: &Model) {
    let step = std::env::var("HOTPATH_HOSTILE_STEP").map_or(step, |step| step.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (tried, problems) = runtime.block_on(async {
        assert_eq!(model.is_loaded(&model.documents).await, Ok(true), "as it is");
        let (mut tried, mut number, mut problems) = (0, 0, Vec::new());
        for (document, file) in DOCUMENTS.iter().enumerate() {
            let mut found = Vec::new();
            places(&model.documents[document], "", &mut found);
            for (place, value) in found.iter().flat_map(|place| instead().into_iter().map(move |value| (place, value)))
            {
                number += 1;
                if number % step == 0 {
                    let mut changed = model.documents.clone();
                    *changed[document].pointer_mut(place).unwrap() = value.clone();
                    if let Err(problem) = model.is_loaded(&changed).await {
                        problems.push(format!("{file}: {place} = {value:.40}: {problem}"));
                    }
                    tried += 1;
                }
            }
        }
        println!("{}: {tried} of {number} changes", model.name);
        (tried, problems)
    });
    runtime.shutdown_background(); // a thread that loops would be waited for
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(tried > 50, "too few were tried");
}

#[test]
fn a_decoders_bundle_with_anything_in_it_is_loaded_or_refused() {
    every(23, &Model::of(&tiny_decoder(), "tiny-decoder"));
}

#[test]
fn an_encoders_bundle_with_anything_in_it_is_loaded_or_refused() {
    every(23, &Model::of(&tiny_encoder(), "tiny-encoder"));
}
