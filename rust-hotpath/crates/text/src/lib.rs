//! Text to token ids and back: encoding with places, conversations, and text that grows token by token.
//!
//! Must not depend on ONNX Runtime, on scheduling or on gRPC.

#![forbid(unsafe_code)]

mod at_least;
mod chat;
mod detokenizer;
mod pieces;
mod stop_strings;
mod vocabulary;
mod windows;
mod wordpiece;

pub use at_least::LOOKED_AT_TEXTS;
pub use chat::Chat;
pub use detokenizer::Detokenizer;
pub use stop_strings::{Scan, StopStrings};
pub use vocabulary::Vocabulary;

use std::{
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
};

use hotpath_bundle::{Bundle, Refused};
use pieces::{PIECE_BYTES, Pieces};
use wordpiece::WordPiece;

/// The tokenizer of one bundle. It neither pads nor truncates, whatever its file says: both are settled per request.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    frame: Frame,
    encoder: Encoder,
    /// Whether words that white space separates have no token in common.
    separates_words: bool,
}

/// What texts are tokenized by.
#[derive(Debug)]
enum Encoder {
    /// Our own. It stops where the library would after its first piece, so that both count as far.
    WordPiece(WordPiece),
    /// The library, which knows every form. It takes 100 to 150 bytes of memory for each byte of text: a piece at a time.
    Library(Pieces),
}

/// The special tokens that stand around every text.
#[derive(Debug, Clone, Default)]
struct Frame {
    /// As BERT's `[CLS]`.
    prefix: Vec<u32>,
    /// As BERT's `[SEP]`.
    suffix: Vec<u32>,
}

/// What was found of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<T> {
    /// Its tokens, special tokens included.
    pub tokens: T,
    /// Whether that is all of them. Where not, they are more than was asked for.
    pub is_all: bool,
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

/// Why a text has no tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenizeError {
    /// A part of it can be cut nowhere, and has more than so many bytes. No word and no line is that long.
    #[error("more than {limit} bytes follow each other without white space or punctuation")]
    Unbroken {
        /// The bytes.
        limit: usize,
    },
    /// The tokenizer failed. None of ours is known to; the message is for the log.
    #[error("{0}")]
    Failed(String),
}

impl Tokenizer {
    /// Loads a bundle's tokenizer.
    ///
    /// # Errors
    /// [`Refused`] when the file is no tokenizer, or has ids that the manifest says do not exist.
    pub fn load(bundle: &Bundle) -> Result<Self, Refused> {
        let manifest = bundle.manifest.tokenizer()?;
        // The library panics over some files, as one whose template names a token that it does not have.
        let read = catch_unwind(AssertUnwindSafe(|| Self::read(bundle, manifest)));
        read.unwrap_or_else(|_| Err(Refused::file(&manifest.file, "makes the tokenizer library panic".to_owned())))
    }

    fn read(bundle: &Bundle, manifest: &hotpath_bundle::Tokenizer) -> Result<Self, Refused> {
        let refuse = |field: &str, problem: String| Refused::field(&manifest.file, field, problem);
        let mut inner = tokenizers::Tokenizer::from_file(bundle.path(&manifest.file))
            .map_err(|error| refuse("", error.to_string()))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| refuse("truncation", error.to_string()))?;
        if let Some(id) = inner.get_vocab(true).into_values().max().filter(|id| *id >= manifest.vocabulary_size) {
            let problem = format!("has id {id}, the manifest's vocabulary_size is {}", manifest.vocabulary_size);
            return Err(refuse("model.vocab", problem));
        }
        let frame = Frame::of(&inner).map_err(|error| refuse("post_processor", error.to_string()))?;
        if frame.suffix.len() >= manifest.max_tokens as usize {
            let (count, most) = (frame.suffix.len(), manifest.max_tokens);
            return Err(refuse("post_processor", format!("adds {count} tokens, the manifest's max_tokens is {most}")));
        }
        Ok(Self::of(inner, frame))
    }

    fn of(inner: tokenizers::Tokenizer, frame: Frame) -> Self {
        let encoder = match WordPiece::of(&inner) {
            Some(wordpiece) => Encoder::WordPiece(wordpiece),
            None => Encoder::Library(Pieces::of(&inner)),
        };
        let knows_borders = match &encoder {
            Encoder::WordPiece(_) => true,
            Encoder::Library(pieces) => pieces.are_known(),
        };
        let separates_words = knows_borders && at_least::are_single(inner.get_added_tokens_decoder().values());
        Self { inner, frame, encoder, separates_words }
    }

    /// So many tokens a text has at least, special tokens included: what does not have room for as many has none for it.
    #[must_use]
    pub fn at_least(&self, text: &str) -> usize {
        let words = if self.separates_words { at_least::words(text) } else { 0 };
        self.frame.prefix.len() + words + self.frame.suffix.len()
    }

    /// The ids of a text. A long one is looked at until more than `most` are known.
    ///
    /// # Errors
    /// [`TokenizeError`].
    pub fn ids(&self, text: &str, most: usize) -> Result<Found<Vec<u32>>, TokenizeError> {
        let mut ids = self.frame.prefix.clone();
        ids.reserve(most.min(text.len() / 4)); // about as many as English has
        let enough = |count: usize| count + self.frame.suffix.len() > most;
        let is_all = match &self.encoder {
            Encoder::WordPiece(wordpiece) => wordpiece.encode(text, |id, place| {
                ids.push(id);
                stop_if(enough(ids.len()) && place.end > PIECE_BYTES)
            })?,
            Encoder::Library(pieces) => pieces.each(text, |piece, _| {
                ids.extend_from_slice(self.inner.encode_fast(piece, false)?.get_ids());
                Ok(stop_if(enough(ids.len())))
            })?,
        };
        ids.extend(&self.frame.suffix);
        Ok(Found { tokens: ids, is_all })
    }

    /// The ids of a text with their places.
    ///
    /// # Errors
    /// [`TokenizeError`].
    pub fn tokens(&self, text: &str, most: usize) -> Result<Found<Tokens>, TokenizeError> {
        u32::try_from(text.len()).map_err(|error| TokenizeError::Failed(error.to_string()))?;
        let byte = |place: usize| u32::try_from(place).expect("the text is no longer than that");
        let Frame { prefix, suffix } = &self.frame;
        let (mut ids, mut starts, mut ends) = (prefix.clone(), vec![0; prefix.len()], vec![0; prefix.len()]);
        let enough = |count: usize| count + suffix.len() > most;
        let is_all = match &self.encoder {
            Encoder::WordPiece(wordpiece) => wordpiece.encode(text, |id, place| {
                ids.push(id);
                starts.push(byte(place.start));
                ends.push(byte(place.end));
                stop_if(enough(ids.len()) && place.end > PIECE_BYTES)
            })?,
            Encoder::Library(pieces) => pieces.each(text, |piece, begins| {
                let encoding = self.inner.encode(piece, false)?;
                ids.extend_from_slice(encoding.get_ids());
                starts.extend(encoding.get_offsets().iter().map(|(start, _)| byte(begins + start)));
                ends.extend(encoding.get_offsets().iter().map(|(_, end)| byte(begins + end)));
                Ok(stop_if(enough(ids.len())))
            })?,
        };
        ids.extend(suffix);
        starts.resize(ids.len(), 0);
        ends.resize(ids.len(), 0);
        Ok(Found { tokens: Tokens { ids, byte_starts: starts, byte_ends: ends }, is_all })
    }

    /// The inputs of at most `max_tokens` that the whole of a text is run as: one, or windows of like length, each with the
    /// special tokens that a text has. `None` where they would be more than `most`.
    ///
    /// # Errors
    /// [`TokenizeError`].
    pub fn windows(&self, text: &str, max_tokens: usize, most: usize) -> Result<Option<Vec<Vec<u32>>>, TokenizeError> {
        let Frame { prefix, suffix } = &self.frame;
        let around = prefix.len() + suffix.len();
        let room = max_tokens.saturating_sub(around).max(1).saturating_mul(most);
        let ids = self.ids(text, room.saturating_add(around))?;
        let windows = || windows::windows(&ids.tokens, prefix.len(), suffix.len(), max_tokens);
        Ok(ids.is_all.then(windows).filter(|windows| windows.len() <= most))
    }

    /// Keeps the first `max_tokens` of a text's ids. The special tokens that end it are among them if they ended it before.
    pub fn truncate(&self, ids: &mut Vec<u32>, max_tokens: usize) {
        if ids.len() <= max_tokens {
            return;
        }
        if ids.ends_with(&self.frame.suffix) && self.frame.suffix.len() < max_tokens {
            ids.truncate(max_tokens - self.frame.suffix.len());
            ids.extend(&self.frame.suffix);
        } else {
            ids.truncate(max_tokens);
        }
    }
}

impl Frame {
    fn of(tokenizer: &tokenizers::Tokenizer) -> Result<Self, TokenizeError> {
        let frame = |text: &str| {
            let bare = tokenizer.encode_fast(text, false)?;
            let whole = tokenizer.encode_fast(text, true)?;
            let (bare, whole) = (bare.get_ids(), whole.get_ids());
            let place = whole.windows(bare.len().max(1)).position(|part| part == bare);
            Ok::<_, TokenizeError>(place.map(|place| (whole[..place].to_vec(), whole[place + bare.len()..].to_vec())))
        };
        match (frame("a")?, frame("a b.")?) {
            (Some((prefix, suffix)), Some(other)) if (&prefix, &suffix) == (&other.0, &other.1) => {
                Ok(Self { prefix, suffix })
            }
            _ => Err(TokenizeError::Failed("does more than to put tokens around a text".to_owned())),
        }
    }
}

fn stop_if(enough: bool) -> ControlFlow<()> {
    if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

impl From<tokenizers::Error> for TokenizeError {
    fn from(error: tokenizers::Error) -> Self {
        Self::Failed(error.to_string())
    }
}
