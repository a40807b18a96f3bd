//! Models with random weights, made by the research side's exporter when a test first asks for one.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::OnceLock,
};

use hotpath_bundle::{Bundle, Revision};

use crate::{open, repository};

/// The bundle of a generation model of which a step takes a millisecond. Kept in `target/` for as long as the code that
/// makes it stays the same.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn tiny_decoder() -> Bundle {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    open(FOLDER.get_or_init(|| tiny("tiny-decoder", "tiny_decoder.py")))
}

/// The same of an embedding model.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn tiny_encoder() -> Bundle {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    open(FOLDER.get_or_init(|| tiny("tiny-encoder", "tiny_encoder.py")))
}

/// The folder of a model that a script makes.
fn tiny(name: &str, script: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let cached = repository().join("rust-hotpath/target").join(name).join(fingerprint(&script));
    if !cached.is_dir() {
        make(name, &script, &cached);
    }
    cached.join(name)
}

/// Names the content of the script and of the modules that it uses, and what runs it: an emulated processor's golden cases
/// have last bits of their own.
fn fingerprint(script: &Path) -> String {
    let modules =
        ["", "decoder", "embedding", "reference"].map(|folder| sources().join("triptych_research").join(folder));
    let entries = modules.iter().flat_map(|folder| fs::read_dir(folder).expect("the research side is in the checkout"));
    let files = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "py")).collect();
    files.sort();
    files.extend([checkpoints().join("tiny.py"), script.to_owned()]);
    let mut content: Vec<u8> = files.iter().flat_map(|path| fs::read(path).expect("it was listed")).collect();
    content.extend(python().join(" ").bytes());
    Revision::of(&content).to_string()
}

/// Runs the script into a folder of its own and moves that into place, so that test processes may race.
fn make(name: &str, script: &Path, place: &Path) {
    let made = place.with_extension(process::id().to_string());
    let python = python();
    let mut command = Command::new(&python[0]);
    let modules = env::join_paths([sources(), checkpoints()]).expect("no path has a colon in it");
    command.args(&python[1..]).arg(script).arg(made.join(name)).env("PYTHONPATH", modules);
    let status = command.status().unwrap_or_else(|error| panic!("{python:?}: {error}: run `make models`"));
    assert!(status.success(), "{}: {status}", script.display());
    if fs::rename(&made, place).is_err() {
        fs::remove_dir_all(&made).expect("another process was faster; this one made the folder");
    }
}

/// The command line of a Python on the processor that this runs on. What a test starts is not emulated by itself: of an
/// x86 processor the emulator is named, for another architecture a Python of its own is.
fn python() -> Vec<String> {
    let words = |variable| env::var(variable).unwrap_or_default();
    let mut command: Vec<String> = words("TRIPTYCH_EMULATOR").split_whitespace().map(ToOwned::to_owned).collect();
    command.push(match words("TRIPTYCH_PYTHON") {
        own if own.is_empty() => repository().join(".venv/bin/python").display().to_string(),
        other => other,
    });
    command
}

fn sources() -> PathBuf {
    repository().join("python-research/src")
}

/// Where the research side's tests keep the checkpoints of their own.
fn checkpoints() -> PathBuf {
    repository().join("python-research/tests")
}
