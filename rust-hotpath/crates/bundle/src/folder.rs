//! A model's folder: which revision is promoted, and whether a revision's files are what they should be.

use std::{
    fmt::{self, Write},
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    str::FromStr,
    time::SystemTime,
};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{File, Golden, Manifest, Refused, golden, manifest};

/// Name of the file that says which revision is promoted.
const CURRENT: &str = "current";

/// Most bytes of a file that is read as a whole: many times what any model's are.
const MOST_JSON_BYTES: u64 = 16 << 20;

/// A revision's name: the first 16 hexadecimal digits of the SHA-256 of its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision(String);

impl Revision {
    /// The revision that a manifest of these bytes has.
    #[must_use]
    pub fn of(manifest: &[u8]) -> Self {
        Self(hexadecimal(&Sha256::digest(manifest)[..8]))
    }

    /// Reads which revision `model_folder/current` names.
    ///
    /// # Errors
    /// [`Refused`] when the file is absent or malformed.
    pub fn current(model_folder: &Path) -> Result<Self, Refused> {
        /// The file's whole content. History is for those who roll back.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Current {
            revision: String,
            #[serde(rename = "history")]
            _history: Vec<String>,
        }
        // No file of a bundle's: an operator may put there whatever can be read.
        let json = read_from(fs::File::open(model_folder.join(CURRENT)), CURRENT)?;
        let current: Current = serde_json::from_slice(&json).map_err(|error| Refused::file(CURRENT, error))?;
        current.revision.parse().map_err(|problem| Refused::field(CURRENT, "revision", problem))
    }

    /// The 16 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Revision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 16 && text.bytes().all(digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("\"{text}\" is not 16 lower-case hexadecimal digits"))
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// One verified revision of a model.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The revision's name.
    pub revision: Revision,
    /// What it says of itself.
    pub manifest: Manifest,
    /// What its results must be.
    pub golden: Golden,
    /// When its manifest was written.
    pub create_time: SystemTime,
    folder: PathBuf,
}

impl Bundle {
    /// Reads a revision and verifies it: the manifest's hash is the folder's name, and every file has its hash.
    ///
    /// # Errors
    /// [`Refused`] names the first file and field at fault.
    pub fn open(model_folder: &Path, revision: &Revision) -> Result<Self, Refused> {
        let folder = model_folder.join(revision.as_str());
        let manifest = Manifest::open(model_folder, revision)?;
        for file in &manifest.files {
            verify(&folder, file)?;
        }
        let golden = golden::parse(&read(&folder, &manifest.golden_file)?, &manifest)?;
        let create_time = fs::metadata(folder.join(manifest::FILE))
            .and_then(|metadata| metadata.modified())
            .map_err(|error| Refused::file(manifest::FILE, error))?;
        Ok(Self { revision: revision.clone(), manifest, golden, create_time, folder })
    }

    /// Where one of the manifest's files is.
    #[must_use]
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }
}

impl Manifest {
    /// Reads a revision's manifest, without looking at the files that it lists.
    ///
    /// # Errors
    /// [`Refused`] when its hash or the model's name is not the folder's, or a field is at fault.
    pub fn open(model_folder: &Path, revision: &Revision) -> Result<Self, Refused> {
        let json = read(&model_folder.join(revision.as_str()), manifest::FILE)?;
        let found = Revision::of(&json);
        if found != *revision {
            let problem = format!("its hash gives revision {found}, the folder is named {revision}");
            return Err(Refused::file(manifest::FILE, problem));
        }
        let manifest = Self::parse(&json)?;
        let folder_name = model_folder.file_name().unwrap_or_default();
        if folder_name != manifest.name.as_str() {
            let problem = format!("is \"{}\", the folder is named \"{}\"", manifest.name, folder_name.display());
            return Err(Refused::field(manifest::FILE, "name", problem));
        }
        Ok(manifest)
    }
}

/// What a model's folder looks like from outside, at the price of a few `stat` calls. Equal stamps mean that nothing was
/// written in between, so a refused revision need not be read again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stamp(Vec<(PathBuf, u64, Option<SystemTime>)>);

impl Stamp {
    /// Looks at `current` and at the files of the revision that it names.
    #[must_use]
    pub fn of(model_folder: &Path) -> Self {
        let mut paths = vec![model_folder.join(CURRENT)];
        if let Ok(revision) = Revision::current(model_folder) {
            let entries = fs::read_dir(model_folder.join(revision.as_str()));
            paths.extend(entries.into_iter().flatten().flatten().map(|entry| entry.path()));
        }
        paths.sort();
        let seen = paths.into_iter().filter_map(|path| {
            let metadata = fs::metadata(&path).ok()?;
            Some((path, metadata.len(), metadata.modified().ok()))
        });
        Self(seen.collect())
    }
}

fn read(folder: &Path, file: &str) -> Result<Vec<u8>, Refused> {
    read_from(open(&folder.join(file)), file)
}

fn read_from(reader: io::Result<fs::File>, file: &str) -> Result<Vec<u8>, Refused> {
    let refuse = |error: io::Error| Refused::file(file, error);
    let mut bytes = Vec::new();
    reader.map_err(refuse)?.take(MOST_JSON_BYTES + 1).read_to_end(&mut bytes).map_err(refuse)?;
    if bytes.len() as u64 > MOST_JSON_BYTES {
        return Err(Refused::file(file, format!("has more than {MOST_JSON_BYTES} bytes")));
    }
    Ok(bytes)
}

/// A pipe would be waited for, and a device read for ever.
fn open(path: &Path) -> io::Result<fs::File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file"));
    }
    fs::File::open(path)
}

fn verify(folder: &Path, file: &File) -> Result<(), Refused> {
    let (size, sha256) = hash(&folder.join(&file.path)).map_err(|error| Refused::file(&file.path, error))?;
    if size != file.size_bytes {
        let problem = format!("has {size} bytes, the manifest says {}", file.size_bytes);
        return Err(Refused::field(&file.path, "size_bytes", problem));
    }
    if sha256 != file.sha256 {
        let problem = format!("is {sha256}, the manifest says {}", file.sha256);
        return Err(Refused::field(&file.path, "sha256", problem));
    }
    Ok(())
}

/// Length in bytes and SHA-256 (64 lower-case hexadecimal digits) of a file.
///
/// # Errors
/// When it is no regular file or cannot be read.
pub fn hash(path: &Path) -> io::Result<(u64, String)> {
    let mut file = open(path)?;
    let mut hasher = Sha256::new();
    let size = io::copy(&mut file, &mut HashWriter(&mut hasher))?;
    Ok((size, hexadecimal(&hasher.finalize())))
}

/// Lets `io::copy` feed a hash.
struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}
