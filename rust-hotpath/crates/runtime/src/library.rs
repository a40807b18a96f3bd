//! Which ONNX Runtime runs: the file is known by its hash before it is loaded, and by its version after.

use std::{
    env::consts::{ARCH, OS},
    error::Error,
    ffi::CStr,
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ort::{environment::Environment, session::RunOptions};

use crate::{Kernels, RunError};

/// SHA-256 of the library in the onnxruntime 1.31.1 wheels on PyPI, for each platform. On macOS the wheels for CPython
/// 3.11 to 3.14 differ in their signature.
const KNOWN: [(&str, &str, &[&str]); 3] = [
    ("linux", "x86_64", &["fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3"]),
    ("linux", "aarch64", &["8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467"]),
    (
        "macos",
        "aarch64",
        &[
            "f8b06155feece624e55e49124340eea279da812529ae6fbc46a9f2be9c9cad2e",
            "d586cbe89effc085a09d3341b3cfbd5c322517f9d397aeb20814af21433f2b36",
            "07fde7652b628c2c744155cf49020f368ddf5e1e13fc17817d1350514446bef8",
            "acc542fceff35dfd837fe7d61e72fd4e10ec65066eebf27066ed8380876d17ae",
        ],
    ),
];

/// ONNX Runtime allows one environment in a process, for as long as that lasts.
static LOADED: Mutex<Option<Library>> = Mutex::new(None);

/// ONNX Runtime, loaded.
#[derive(Debug, Clone)]
pub struct Library {
    path: PathBuf,
    version: String,
    pub(crate) environment: Environment,
    pub(crate) kernels: Kernels,
    pub(crate) runs: Arc<Runs>,
}

/// What sessions are run with. They share it, so that all runs end with one call.
pub(crate) struct Runs {
    pub keep_memory: RunOptions,
    pub give_memory_back: RunOptions,
}

impl fmt::Debug for Runs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Runs").finish_non_exhaustive()
    }
}

impl Runs {
    fn new() -> ort::Result<Self> {
        let mut give_memory_back = RunOptions::new()?;
        give_memory_back.set("memory.enable_memory_arena_shrinkage", "cpu:0")?;
        Ok(Self { keep_memory: RunOptions::new()?, give_memory_back })
    }
}

/// Why the library cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct LibraryError {
    path: PathBuf,
    problem: String,
}

impl Library {
    /// Checks that a file is a known build of the library, without loading it. `sha256` names another build than the
    /// known ones.
    ///
    /// # Errors
    /// When the file cannot be read or has another hash.
    pub fn check(path: &Path, sha256: Option<&str>) -> Result<PathBuf, LibraryError> {
        let fail = |problem: String| LibraryError { path: path.to_owned(), problem };
        // Absolute, because the loader looks for a relative path in places of its own.
        let absolute = fs::canonicalize(path).map_err(|error| fail(error.to_string()))?;
        let (_, found) = hotpath_bundle::hash(&absolute).map_err(|error| fail(error.to_string()))?;
        let known = KNOWN.iter().filter(|(os, arch, _)| (*os, *arch) == (OS, ARCH)).flat_map(|(_, _, hashes)| *hashes);
        if !sha256.map_or_else(|| known.copied().collect(), |sha256| vec![sha256]).contains(&found.as_str()) {
            let wanted = sha256.unwrap_or("that of a known build for this platform");
            return Err(fail(format!("its SHA-256 is {found}, not {wanted}")));
        }
        Ok(absolute)
    }

    /// Checks and loads the library; loading the same file again gives the same environment, and sessions of their own.
    ///
    /// # Errors
    /// As [`Library::check`], and when the file cannot be loaded or another one already is.
    pub fn load(path: &Path, sha256: Option<&str>) -> Result<Self, LibraryError> {
        let path = Self::check(path, sha256)?;
        let fail = |problem: String| LibraryError { path: path.clone(), problem };
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = || Ok(Arc::new(Runs::new().map_err(|error| fail(error.to_string()))?));
        match &*loaded {
            Some(library) if library.path == path => Ok(Self { runs: runs()?, ..library.clone() }),
            Some(library) => Err(fail(format!("{} is loaded already", library.path.display()))),
            None => {
                let version = version(&path).map_err(|error| fail(error.to_string()))?;
                let environment = environment(&path).map_err(|error| fail(error.to_string()))?;
                Ok(loaded
                    .insert(Self { path: path.clone(), version, environment, kernels: Kernels::best(), runs: runs()? })
                    .clone())
            }
        }
    }

    /// The same, whose sessions run the operators of this workspace by some instructions; otherwise it is by the fastest.
    #[must_use]
    pub fn with_kernels(self, kernels: Kernels) -> Self {
        Self { kernels, ..self }
    }

    /// Ends every run of the sessions that were made with this, and of those that will be: each fails, at the next operator.
    ///
    /// # Errors
    /// When ONNX Runtime refuses.
    pub fn terminate(&self) -> Result<(), RunError> {
        self.runs.keep_memory.terminate()?;
        Ok(self.runs.give_memory_back.terminate()?)
    }

    /// As in "1.31.1".
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }
}

fn environment(path: &Path) -> Result<Environment, Box<dyn Error>> {
    Ok(ort::init_from(path)?.with_name("hotpath").with_telemetry(false).build()?)
}

/// The library's own word on its version. The binding has no call for it.
#[allow(unsafe_code)]
fn version(path: &Path) -> Result<String, libloading::Error> {
    type GetApiBase = unsafe extern "C" fn() -> *const ort::sys::OrtApiBase;
    // SAFETY: the file's hash says that it is ONNX Runtime, whose initialisers may run and whose `OrtGetApiBase` has this
    // type and returns a pointer to a static. The string is static in the library, which is still loaded when it is read.
    unsafe {
        let library = libloading::Library::new(path)?;
        let base = library.get::<GetApiBase>(b"OrtGetApiBase")?();
        let version = CStr::from_ptr(((*base).GetVersionString)());
        Ok(version.to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_another_hash_is_refused_before_it_is_loaded() {
        let file = std::env::current_exe().unwrap();
        let error = Library::load(&file, None).unwrap_err().to_string();
        assert!(error.contains("not that of a known build"), "{error}");
        let error = Library::load(&file, Some("00")).unwrap_err().to_string();
        assert!(error.contains("not 00") && error.contains(&file.display().to_string()), "{error}");
        assert!(Library::load(Path::new("/nowhere/libonnxruntime.so"), None).is_err());
    }
}
