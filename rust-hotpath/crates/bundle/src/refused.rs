//! The one error of this crate.

use std::fmt;

/// Name of the manifest's file.
pub(crate) const FILE: &str = "bundle.json";

/// Why a bundle is refused: which file, which field of it, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Refused {
    /// Name of the file in the model's folder.
    pub file: String,
    /// Path of the field in the file, as in `graphs[0].tolerance`; empty when the file itself is at fault.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Refused {
    /// A fault of a file as a whole.
    pub fn file(file: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self { file: file.into(), field: String::new(), problem: problem.to_string() }
    }

    /// A fault of a field of the manifest.
    pub fn manifest(field: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self::field(FILE, field, problem)
    }

    /// A fault of one of a file's fields.
    pub fn field(file: impl Into<String>, field: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self { file: file.into(), field: field.into(), problem: problem.to_string() }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            write!(out, "{}: {}", self.file, self.problem)
        } else {
            write!(out, "{}: {}: {}", self.file, self.field, self.problem)
        }
    }
}
