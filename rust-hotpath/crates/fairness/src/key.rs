//! Whom work counts for.

use std::{
    borrow::Borrow,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

/// A name that work counts for, and its weight: it gets so many times the tokens of a key of weight 1. The name alone
/// says which key it is.
#[derive(Debug, Clone)]
pub struct Key {
    name: Arc<str>,
    weight: u32,
}

impl Key {
    /// A key of some weight, at least 1.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, weight: u32) -> Self {
        Self { name: name.into(), weight: weight.max(1) }
    }

    /// Whether it is the key of no caller: what bears it is a sign of life.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.name.is_empty()
    }

    pub(crate) fn weight(&self) -> usize {
        self.weight as usize
    }
}

impl From<&str> for Key {
    /// A key of weight 1.
    fn from(name: &str) -> Self {
        Self::new(name, 1)
    }
}

impl From<String> for Key {
    /// A key of weight 1.
    fn from(name: String) -> Self {
        Self::new(name, 1)
    }
}

impl Deref for Key {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        self
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state); // as that of a str: maps are looked into by one
    }
}
