use std::fmt;

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
    pub(crate) fn file(file: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self { file: file.into(), field: String::new(), problem: problem.to_string() }
    }

    pub(crate) fn field(file: impl Into<String>, field: impl Into<String>, problem: impl fmt::Display) -> Self {
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
