//! What a continuation's text must parse as: which tokens may come next, so that it does.

use std::{any::Any, fmt, sync::Arc};

/// Which tokens may come next: bit `id % 32` of word `id / 32`.
pub type Mask = Arc<[u32]>;

/// A text that must parse, in the making. The seam between the engine and what knows a format.
pub trait Grammar: fmt::Debug + Send + Sync {
    /// Appends a token, which is no stop id.
    ///
    /// # Errors
    /// Why that is not possible, in words that continue a sentence.
    fn push(&mut self, token: u32) -> Result<(), String>;

    /// Which tokens may come next; where the text is complete, every stop id.
    ///
    /// # Errors
    /// Why that cannot be said, in words that continue a sentence.
    fn mask(&mut self) -> Result<Mask, String>;

    /// The same text once more.
    fn fork(&self) -> Box<dyn Grammar>;
}

/// What a text must parse as, with what it may begin with.
#[derive(Clone)]
pub struct Format {
    beginning: Arc<dyn Grammar>,
    mask: Mask,
    _reservation: Option<Arc<dyn Any + Send + Sync>>,
}

/// A format that cannot be kept to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidFormat(pub String);

impl Format {
    /// The format of texts that go on as this one does.
    ///
    /// # Errors
    /// [`InvalidFormat`] when it is not known how they may begin.
    pub fn new(mut beginning: Box<dyn Grammar>) -> Result<Self, InvalidFormat> {
        let mask = beginning.mask().map_err(InvalidFormat)?;
        Ok(Self { beginning: beginning.into(), mask, _reservation: None })
    }

    /// The same for one request, which keeps `reservation` for as long as it has texts.
    #[must_use]
    pub fn reserved(&self, reservation: impl Any + Send + Sync) -> Self {
        Self { _reservation: Some(Arc::new(reservation)), ..self.clone() }
    }

    /// An empty text, to be forked.
    #[must_use]
    pub fn beginning(&self) -> Arc<dyn Grammar> {
        self.beginning.clone()
    }

    /// What a text may begin with.
    #[must_use]
    pub fn mask(&self) -> Mask {
        self.mask.clone()
    }
}

impl fmt::Debug for Format {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Format").finish_non_exhaustive()
    }
}
