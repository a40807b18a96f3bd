//! How a model's texts become ids.

use hotpath_bundle::{Bundle, Refused};
use hotpath_text::{TokenizeError, Tokenizer};

/// A tokenizer, and what bounds its ids.
#[derive(Debug)]
pub struct Texts {
    /// Text to ids.
    pub tokenizer: Tokenizer,
    /// The bounds.
    pub limits: hotpath_bundle::Tokenizer,
}

impl Texts {
    /// Those of a bundle.
    ///
    /// # Errors
    /// [`Refused`] when it has no tokenizer, or a malformed one.
    pub fn load(bundle: &Bundle) -> Result<Self, Refused> {
        Ok(Self { tokenizer: Tokenizer::load(bundle)?, limits: bundle.manifest.tokenizer()?.clone() })
    }

    /// The inputs that the whole of a text is run as; `None` where they would be more than `most`.
    ///
    /// # Errors
    /// [`TokenizeError`].
    pub fn windows(&self, text: &str, most: usize) -> Result<Option<Vec<Vec<u32>>>, TokenizeError> {
        self.tokenizer.windows(text, self.limits.max_tokens as usize, most)
    }
}
