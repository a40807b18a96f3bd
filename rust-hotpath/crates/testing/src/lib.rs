//! Where tests find the real parts: promoted bundles and ONNX Runtime. For tests alone.
//!
//! `HOTPATH_MODELS_DIR` and `HOTPATH_ONNXRUNTIME_LIBRARY` say where; without them, it is where `make` puts them. A test
//! whose parts are not there fails and says what to do.

#![forbid(unsafe_code)]

mod tiny;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use hotpath_bundle::{Bundle, Golden, GoldenEmbedding, GoldenGenerations, Revision};
use hotpath_runtime::Library;

pub use tiny::{tiny_decoder, tiny_encoder};

/// The embedding model that the repository makes by default.
pub const MODEL: &str = "all-minilm-l6-v2";

/// The generation model that the repository makes by default.
pub const GENERATION_MODEL: &str = "smollm2-135m-instruct";

/// The classification model that the repository makes by default, on [`MODEL`].
pub const CLASSIFICATION_MODEL: &str = "moderation-minilm";

/// The folder of models.
///
/// # Panics
/// When the default embedding model is not in it.
#[must_use]
pub fn models_dir() -> PathBuf {
    models_dir_with(MODEL)
}

fn models_dir_with(model: &str) -> PathBuf {
    let dir = env::var_os("HOTPATH_MODELS_DIR").map_or_else(|| repository().join("models"), PathBuf::from);
    let promoted = dir.join(model).join("current").is_file();
    assert!(
        promoted,
        "no promoted bundle of {model} in {}: run `make models`, or set HOTPATH_MODELS_DIR",
        dir.display()
    );
    dir
}

/// Path of ONNX Runtime's library.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn library_path() -> PathBuf {
    env::var_os("HOTPATH_ONNXRUNTIME_LIBRARY").map(PathBuf::from).or_else(|| find_in_wheel(&repository())).expect(
        "no ONNX Runtime in .venv: run `make models`, or set HOTPATH_ONNXRUNTIME_LIBRARY to the library of its wheel",
    )
}

/// The library, loaded once for the process.
///
/// # Panics
/// When it cannot be loaded.
#[must_use]
pub fn library() -> Library {
    Library::load(&library_path(), None).unwrap_or_else(|error| panic!("{error}"))
}

/// The promoted bundle of the default embedding model.
///
/// # Panics
/// When it is refused.
#[must_use]
pub fn bundle() -> Bundle {
    open(&models_dir().join(MODEL))
}

/// The promoted bundle of the default generation model.
///
/// # Panics
/// When it is refused.
#[must_use]
pub fn generation_bundle() -> Bundle {
    open(&models_dir_with(GENERATION_MODEL).join(GENERATION_MODEL))
}

/// The promoted bundle of the default classification model.
///
/// # Panics
/// When it is refused.
#[must_use]
pub fn classification_bundle() -> Bundle {
    open(&models_dir_with(CLASSIFICATION_MODEL).join(CLASSIFICATION_MODEL))
}

/// The golden cases of an embedding model.
///
/// # Panics
/// When the model does another task.
#[must_use]
pub fn golden_embeddings(bundle: &Bundle) -> &[GoldenEmbedding] {
    match &bundle.golden {
        Golden::Embeddings(cases) => cases,
        _ => panic!("{} does another task", bundle.manifest.name),
    }
}

/// The golden cases of a generation model.
///
/// # Panics
/// When the model does another task.
#[must_use]
pub fn golden_generations(bundle: &Bundle) -> &GoldenGenerations {
    match &bundle.golden {
        Golden::Generations(golden) => golden,
        _ => panic!("{} does another task", bundle.manifest.name),
    }
}

fn open(folder: &Path) -> Bundle {
    let open = || Bundle::open(folder, &Revision::current(folder)?);
    open().unwrap_or_else(|refused| panic!("{}: {refused}", folder.display()))
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

/// The installed wheel keeps the library as `libonnxruntime.so.1.31.1`, or `libonnxruntime.1.31.1.dylib`.
fn find_in_wheel(repository: &Path) -> Option<PathBuf> {
    let pythons = fs::read_dir(repository.join(".venv/lib")).ok()?;
    let folders = pythons.flatten().map(|python| python.path().join("site-packages/onnxruntime/capi"));
    let files = folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    files.map(|file| file.path()).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libonnxruntime.") && name != "libonnxruntime.so"
    })
}
