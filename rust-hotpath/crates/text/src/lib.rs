//! Text to token ids and back: encoding with places, conversations, and text that grows token by token.
//!
//! Must not depend on ONNX Runtime, on scheduling or on gRPC.

#![forbid(unsafe_code)]

mod chat;
mod detokenizer;
mod stop_strings;
mod vocabulary;
mod windows;

pub use chat::Chat;
pub use detokenizer::Detokenizer;
pub use stop_strings::{Scan, StopStrings};
pub use vocabulary::Vocabulary;

use hotpath_bundle::{Bundle, Refused};

/// The tokenizer of one bundle. It neither pads nor truncates, whatever its file says: both are settled per request.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// How many special tokens begin every text, as BERT's `[CLS]`.
    prefix: usize,
    /// The special tokens that end every text, as BERT's `[SEP]`.
    suffix: Vec<u32>,
}

/// A text's tokens with their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Token ids, special tokens included.
    pub ids: Vec<u32>,
    /// First byte of each token in the UTF-8 text, inclusive; 0 for special tokens that stand for no text.
    pub byte_starts: Vec<u32>,
    /// End of each token in the UTF-8 text in bytes, exclusive; 0 for special tokens that stand for no text.
    pub byte_ends: Vec<u32>,
}

/// The tokenizer failed on a text. None of ours is known to; the message is for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizeError(pub String);

impl Tokenizer {
    /// Loads a bundle's tokenizer.
    ///
    /// # Errors
    /// [`Refused`] when the file is no tokenizer, or has ids that the manifest says do not exist.
    pub fn load(bundle: &Bundle) -> Result<Self, Refused> {
        let manifest = bundle.manifest.tokenizer()?;
        let refuse =
            |field: &str, problem: String| Refused { file: manifest.file.clone(), field: field.into(), problem };
        let mut inner = tokenizers::Tokenizer::from_file(bundle.path(&manifest.file))
            .map_err(|error| refuse("", error.to_string()))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| refuse("truncation", error.to_string()))?;
        if let Some(id) = inner.get_vocab(true).into_values().max().filter(|id| *id >= manifest.vocabulary_size) {
            let problem = format!("has id {id}, the manifest's vocabulary_size is {}", manifest.vocabulary_size);
            return Err(refuse("model.vocab", problem));
        }
        let (prefix, suffix) = frame(&inner).map_err(|error| refuse("post_processor", error.0))?;
        if suffix.len() >= manifest.max_tokens as usize {
            let problem = format!("adds {} tokens, the manifest's max_tokens is {}", suffix.len(), manifest.max_tokens);
            return Err(refuse("post_processor", problem));
        }
        Ok(Self { inner, prefix, suffix })
    }

    /// The ids of a text, special tokens included.
    ///
    /// # Errors
    /// [`TokenizeError`] when the tokenizer fails.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>, TokenizeError> {
        Ok(self.inner.encode_fast(text, true)?.get_ids().to_vec())
    }

    /// The ids of a text, special tokens included, with their places. Slower than [`Tokenizer::ids`].
    ///
    /// # Errors
    /// [`TokenizeError`] when the tokenizer fails.
    pub fn tokens(&self, text: &str) -> Result<Tokens, TokenizeError> {
        let encoding = self.inner.encode(text, true)?;
        let byte = |place: usize| u32::try_from(place).map_err(|error| TokenizeError(error.to_string()));
        let offsets = encoding.get_offsets();
        Ok(Tokens {
            ids: encoding.get_ids().to_vec(),
            byte_starts: offsets.iter().map(|(start, _)| byte(*start)).collect::<Result<_, _>>()?,
            byte_ends: offsets.iter().map(|(_, end)| byte(*end)).collect::<Result<_, _>>()?,
        })
    }

    /// The inputs of at most `max_tokens` that the whole of a text is run as: one, or windows of like length, each with the
    /// special tokens that a text has.
    ///
    /// # Errors
    /// [`TokenizeError`] when the tokenizer fails.
    pub fn windows(&self, text: &str, max_tokens: usize) -> Result<Vec<Vec<u32>>, TokenizeError> {
        Ok(windows::windows(&self.ids(text)?, self.prefix, self.suffix.len(), max_tokens))
    }

    /// Keeps the first `max_tokens` of a text's ids. The special tokens that end it are among them if they ended it before.
    pub fn truncate(&self, ids: &mut Vec<u32>, max_tokens: usize) {
        if ids.len() <= max_tokens {
            return;
        }
        if ids.ends_with(&self.suffix) && self.suffix.len() < max_tokens {
            ids.truncate(max_tokens - self.suffix.len());
            ids.extend(&self.suffix);
        } else {
            ids.truncate(max_tokens);
        }
    }
}

/// How many tokens a tokenizer puts before every text, and which ones after it.
fn frame(tokenizer: &tokenizers::Tokenizer) -> Result<(usize, Vec<u32>), TokenizeError> {
    let bare = tokenizer.encode_fast("a", false)?;
    let whole = tokenizer.encode_fast("a", true)?;
    let (bare, whole) = (bare.get_ids(), whole.get_ids());
    let place = whole.windows(bare.len().max(1)).position(|part| part == bare);
    Ok(place.map_or_else(|| (0, Vec::new()), |place| (place, whole[place + bare.len()..].to_vec())))
}

impl From<tokenizers::Error> for TokenizeError {
    fn from(error: tokenizers::Error) -> Self {
        Self(error.to_string())
    }
}
