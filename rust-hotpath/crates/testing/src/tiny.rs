//! A decoder with random weights, made by the research side's exporter when a test first asks for it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::OnceLock,
};

use hotpath_bundle::{Bundle, Revision};

use crate::{open, repository};

const NAME: &str = "tiny-decoder";

/// The bundle of a generation model of which a step takes a millisecond. Kept in `target/` for as long as the code that
/// makes it stays the same.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn tiny_decoder() -> Bundle {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    open(FOLDER.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tiny_decoder.py");
        let cached = repository().join("rust-hotpath/target").join(NAME).join(fingerprint(&script));
        if !cached.is_dir() {
            make(&script, &cached);
        }
        cached.join(NAME)
    }))
}

/// Names the content of the script and of the modules that it uses.
fn fingerprint(script: &Path) -> String {
    let modules = ["", "decoder", "reference"].map(|folder| sources().join("triptych_research").join(folder));
    let entries = modules.iter().flat_map(|folder| fs::read_dir(folder).expect("the research side is in the checkout"));
    let files = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "py")).collect();
    files.sort();
    files.push(script.to_owned());
    let content: Vec<u8> = files.iter().flat_map(|path| fs::read(path).expect("it was listed")).collect();
    Revision::of(&content).to_string()
}

/// Runs the script into a folder of its own and moves that into place, so that test processes may race.
fn make(script: &Path, place: &Path) {
    let made = place.with_extension(process::id().to_string());
    let python = repository().join(".venv/bin/python");
    let mut command = Command::new(&python);
    command.arg(script).arg(made.join(NAME)).env("PYTHONPATH", sources());
    let status = command.status().unwrap_or_else(|error| panic!("{}: {error}: run `make models`", python.display()));
    assert!(status.success(), "{}: {status}", script.display());
    if fs::rename(&made, place).is_err() {
        fs::remove_dir_all(&made).expect("another process was faster; this one made the folder");
    }
}

fn sources() -> PathBuf {
    repository().join("python-research/src")
}
