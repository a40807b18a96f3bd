//! What a continuation's text must parse as: which tokens may come next, so that it does, and which must.

use std::{any::Any, fmt, sync::Arc};

/// Which tokens may come next: bit `id % 32` of word `id / 32`.
pub type Mask = Arc<[u32]>;

/// Most tokens that are known ahead.
pub const AHEAD: usize = 8;

/// What comes next in a text: as far as its format leaves no choice, and behind that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ahead {
    /// Tokens that must come, in order; at most [`AHEAD`]. No stop id is among them.
    pub forced: Vec<u32>,
    /// Which tokens may come behind those; where the text is complete, every stop id.
    pub mask: Mask,
    /// One of these, where it will hardly be another.
    pub likely: Option<u32>,
}

/// A text that must parse, in the making. The seam between the engine and what knows a format.
pub trait Grammar: fmt::Debug + Send + Sync {
    /// Appends a token, which is no stop id.
    ///
    /// # Errors
    /// Why that is not possible, in words that continue a sentence.
    fn push(&mut self, token: u32) -> Result<(), String>;

    /// What comes next. The text is then as if what is forced had been pushed.
    ///
    /// # Errors
    /// Why that cannot be said, in words that continue a sentence.
    fn ahead(&mut self) -> Result<Ahead, String>;

    /// The same text once more.
    fn fork(&self) -> Box<dyn Grammar>;
}

/// What a text must parse as, with what it begins with.
#[derive(Clone)]
pub struct Format {
    beginning: Arc<dyn Grammar>,
    ahead: Ahead,
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
        let ahead = beginning.ahead().map_err(InvalidFormat)?;
        Ok(Self { beginning: beginning.into(), ahead, _reservation: None })
    }

    /// The same for one request, which keeps `reservation` for as long as it has texts.
    #[must_use]
    pub fn reserved(&self, reservation: impl Any + Send + Sync) -> Self {
        Self { _reservation: Some(Arc::new(reservation)), ..self.clone() }
    }

    /// A text of what all begin with, to be forked.
    #[must_use]
    pub fn beginning(&self) -> Arc<dyn Grammar> {
        self.beginning.clone()
    }

    /// What a text begins with.
    #[must_use]
    pub fn ahead(&self) -> Ahead {
        self.ahead.clone()
    }
}

impl fmt::Debug for Format {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Format").finish_non_exhaustive()
    }
}
