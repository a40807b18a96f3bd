//! BERT's tokenizer: the library's tokens and their places, in one pass over the text.
//!
//! The library holds a text several times over, with 16 bytes of alignment for each byte of it, and allocates several times
//! for each word. Here one word at a time is held, so a text costs no more memory than its tokens. Hence it is not cut into
//! pieces, and a word of any length is taken: one that is longer than the model's longest is unknown.
//!
//! Words of ASCII letters and digits between white space and punctuation, which is nearly all of most texts, are read where
//! they stand. Whatever else lies between two such borders goes through the rules character by character.

mod characters;
mod subwords;
#[cfg(test)]
mod tests;
mod trie;
mod words;

use std::ops::{ControlFlow, Range};

use tokenizers::{ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, normalizers::BertNormalizer};

use crate::{TokenizeError, pieces::LONGEST_PIECE};
use subwords::{Splitter, Subwords};
use words::Words;

/// A tokenizer of this form.
#[derive(Debug)]
pub(crate) struct WordPiece {
    rules: BertNormalizer,
    subwords: Subwords,
}

impl WordPiece {
    /// `None` where the tokenizer is of another form in any part.
    pub(crate) fn of(tokenizer: &tokenizers::Tokenizer) -> Option<Self> {
        let (
            Some(NormalizerWrapper::BertNormalizer(normalizer)),
            Some(PreTokenizerWrapper::BertPreTokenizer(_)),
            ModelWrapper::WordPiece(model),
        ) = (tokenizer.get_normalizer(), tokenizer.get_pre_tokenizer(), tokenizer.get_model())
        else {
            return None;
        };
        // Added tokens are looked for where they stand, and only at borders: so they must begin with one.
        let added = tokenizer.get_added_tokens_decoder();
        let plain = added.values().all(|token| {
            !(token.normalized || token.lstrip || token.rstrip || token.single_word)
                && token.content.starts_with(|first: char| first.is_ascii_punctuation())
        });
        if !plain || tokenizer.get_encode_special_tokens() {
            return None;
        }
        Some(Self { rules: *normalizer, subwords: Subwords::of(model, &added)? })
    }

    /// Hands a text's tokens on, each with its bytes, as long as more are wanted. Says whether that were all.
    ///
    /// # Errors
    /// [`TokenizeError::Unbroken`] where too many characters combine with one.
    pub(crate) fn encode(
        &self,
        text: &str,
        mut token: impl FnMut(u32, Range<usize>) -> ControlFlow<()>,
    ) -> Result<bool, TokenizeError> {
        let token = |id, place| token(id, place).map_break(|()| End::Enough);
        match Words::new(self.rules, Splitter::new(&self.subwords, token)).text(text) {
            Flow::Continue(()) => Ok(true),
            Flow::Break(End::Enough) => Ok(false),
            Flow::Break(End::Unbroken) => Err(TokenizeError::Unbroken { limit: LONGEST_PIECE }),
        }
    }
}

/// What goes on until a text ends, or before.
type Flow<T = ()> = ControlFlow<End, T>;

/// Why a text is not looked at to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Enough,
    Unbroken,
}
