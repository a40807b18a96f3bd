//! Where a long text may be cut, so that its pieces have the tokens that it has as a whole.
//!
//! The library takes 100 to 150 bytes of memory for each byte of text, all at once. A piece bounds that, and what follows a
//! piece need not be looked at where more tokens change nothing.

use std::{collections::HashSet, ops::ControlFlow};

use tokenizers::{
    ModelWrapper, NormalizerWrapper, PreTokenizerWrapper,
    pre_tokenizers::{byte_level::ByteLevel, digits::Digits},
};

use crate::TokenizeError;

/// A piece ends at the last border before so many bytes.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;

/// Where there is none, it goes on to the next one; but not for longer than this.
pub(crate) const LONGEST_PIECE: usize = 4 * PIECE_BYTES;

/// Where a tokenizer's texts may be cut.
#[derive(Debug, Clone)]
pub(crate) struct Pieces {
    borders: Borders,
    /// Characters of tokens that are looked for in the text as it is. Between two of them it is not cut.
    added: HashSet<char>,
    bytes: usize,
    longest: usize,
}

/// The tokenizers of which it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Borders {
    /// BERT's: each character becomes others or none, whatever stands around it, but for the order of combining ones. Then
    /// words end at white space, at punctuation, and around Chinese characters.
    Bert { chinese: bool },
    /// GPT-2's regular expression: letters, digits, anything else, or white space, and one space may stand before each but
    /// the last. Where digits are split off first, they stand alone.
    ByteLevel { digits: bool },
    /// Any other.
    Unknown,
}

impl Pieces {
    pub(crate) fn of(tokenizer: &tokenizers::Tokenizer) -> Self {
        let added = tokenizer.get_added_tokens_decoder();
        let plain =
            added.values().all(|token| !(token.normalized || token.lstrip || token.rstrip || token.single_word));
        let borders = if plain { Borders::of(tokenizer) } else { Borders::Unknown };
        let added = added.values().flat_map(|token| token.content.chars().collect::<Vec<_>>()).collect();
        Self { borders, added, bytes: PIECE_BYTES, longest: LONGEST_PIECE }
    }

    /// Whether it is known where texts may be cut: then there is a border before white space.
    pub(crate) fn are_known(&self) -> bool {
        self.borders != Borders::Unknown
    }

    /// Hands a text on piece by piece, each with the place where it begins, as long as more are wanted. Says whether that
    /// were all.
    pub(crate) fn each(
        &self,
        text: &str,
        mut tokenize: impl FnMut(&str, usize) -> Result<ControlFlow<()>, TokenizeError>,
    ) -> Result<bool, TokenizeError> {
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, after) = self.cut(rest)?;
            let flow = tokenize(piece, text.len() - rest.len())?;
            rest = after;
            if flow.is_break() {
                break;
            }
        }
        Ok(rest.is_empty())
    }

    /// Cuts the first piece off a text.
    ///
    /// # Errors
    /// [`TokenizeError::Unbroken`] where none ends soon enough.
    pub(crate) fn cut<'a>(&self, text: &'a str) -> Result<(&'a str, &'a str), TokenizeError> {
        if text.len() <= self.bytes {
            return Ok((text, ""));
        }
        let soon = text.floor_char_boundary(self.bytes);
        let late = text.floor_char_boundary(self.longest);
        let before = || self.last_border(&text[..soon]);
        let place = before().or_else(|| self.first_border(&text[..late], soon));
        match place {
            Some(place) => Ok(text.split_at(place)),
            None if text.len() <= self.longest => Ok((text, "")),
            None => Err(TokenizeError::Unbroken { limit: self.longest }),
        }
    }

    fn last_border(&self, text: &str) -> Option<usize> {
        let mut after: Option<(usize, char)> = None;
        text.char_indices().rev().find_map(|(place, character)| {
            let border = after.filter(|(_, next)| self.is_border(character, *next)).map(|(place, _)| place);
            after = Some((place, character));
            border
        })
    }

    /// The first border from some place on.
    fn first_border(&self, text: &str, from: usize) -> Option<usize> {
        let mut before = text[..from].chars().next_back();
        text[from..].char_indices().find_map(|(place, character)| {
            let is_border = before.is_some_and(|before| self.is_border(before, character));
            before = Some(character);
            is_border.then_some(from + place)
        })
    }

    fn is_border(&self, before: char, after: char) -> bool {
        let may_be = match self.borders {
            Borders::Bert { chinese } => {
                is_space(after) || after.is_ascii_punctuation() || chinese && is_chinese(after)
            }
            Borders::ByteLevel { digits } => {
                !before.is_whitespace() && is_space(after)
                    || before.is_ascii_alphabetic() && after.is_ascii() && !after.is_ascii_alphabetic()
                    || is_chinese(before) && ('\u{3000}'..='\u{3003}').contains(&after)
                    || digits && (before.is_ascii_digit() || after.is_ascii_digit())
            }
            Borders::Unknown => false,
        };
        may_be && !(self.added.contains(&before) && self.added.contains(&after))
    }
}

impl Borders {
    fn of(tokenizer: &tokenizers::Tokenizer) -> Self {
        match (tokenizer.get_normalizer(), tokenizer.get_pre_tokenizer(), tokenizer.get_model()) {
            (
                Some(NormalizerWrapper::BertNormalizer(normalizer)),
                Some(PreTokenizerWrapper::BertPreTokenizer(_)),
                ModelWrapper::WordPiece(_),
            ) if normalizer.clean_text => Self::Bert { chinese: normalizer.handle_chinese_chars },
            (None, Some(PreTokenizerWrapper::ByteLevel(gpt2)), ModelWrapper::BPE(model))
                if is_gpt2(*gpt2) && model.dropout.is_none() =>
            {
                Self::ByteLevel { digits: false }
            }
            (None, Some(PreTokenizerWrapper::Sequence(parts)), ModelWrapper::BPE(model)) if model.dropout.is_none() => {
                match parts.as_ref() {
                    [
                        PreTokenizerWrapper::Digits(Digits { individual_digits: true, .. }),
                        PreTokenizerWrapper::ByteLevel(gpt2),
                    ] if is_gpt2(*gpt2) => Self::ByteLevel { digits: true },
                    _ => Self::Unknown,
                }
            }
            _ => Self::Unknown,
        }
    }
}

fn is_gpt2(byte_level: ByteLevel) -> bool {
    byte_level.use_regex && !byte_level.add_prefix_space
}

/// White space that every rule takes for it.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r')
}

/// The block that has nearly all of them: letters, of which nothing is composed.
fn is_chinese(character: char) -> bool {
    ('\u{4E00}'..='\u{9FFF}').contains(&character)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use hotpath_testing::{bundle, generation_bundle};
    use proptest::prelude::*;

    use super::*;
    use crate::{Encoder, Tokenizer, Tokens};

    static BERT: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::load(&bundle()).unwrap());
    static GPT2: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::load(&generation_bundle()).unwrap());

    /// The same tokenizer by the library, which is given pieces of a few bytes.
    fn cutting(tokenizer: &Tokenizer, bytes: usize) -> Tokenizer {
        let pieces = Pieces { bytes, longest: 1000, ..Pieces::of(&tokenizer.inner) };
        let (inner, frame) = (tokenizer.inner.clone(), tokenizer.frame.clone());
        Tokenizer { inner, frame, encoder: Encoder::Library(pieces), separates_words: true }
    }

    fn whole(tokenizer: &Tokenizer, text: &str) -> Tokens {
        let encoding = tokenizer.inner.encode(text, true).unwrap();
        let place = |place: usize| u32::try_from(place).unwrap();
        Tokens {
            ids: encoding.get_ids().to_vec(),
            byte_starts: encoding.get_offsets().iter().map(|(start, _)| place(*start)).collect(),
            byte_ends: encoding.get_offsets().iter().map(|(_, end)| place(*end)).collect(),
        }
    }

    #[test]
    fn both_tokenizers_are_known() {
        assert_eq!(Pieces::of(&BERT.inner).borders, Borders::Bert { chinese: true });
        assert_eq!(Pieces::of(&GPT2.inner).borders, Borders::ByteLevel { digits: true });
    }

    #[test]
    fn a_text_is_cut_at_the_last_border_or_at_the_next_one() {
        let pieces = Pieces { bytes: 10, longest: 20, ..Pieces::of(&BERT.inner) };
        assert_eq!(pieces.cut("short").unwrap(), ("short", ""));
        assert_eq!(pieces.cut("one two three").unwrap(), ("one two", " three"));
        assert_eq!(pieces.cut("abcdefghijklmno pq").unwrap(), ("abcdefghijklmno", " pq"));
        assert_eq!(pieces.cut("abcdefghijklmnopqrst").unwrap(), ("abcdefghijklmnopqrst", ""));
        assert_eq!(pieces.cut("abcdefghijklmnopqrstu"), Err(TokenizeError::Unbroken { limit: 20 }));
        assert_eq!(pieces.cut("abcdef[CLS]xyzuvw").unwrap().0, "abcdef", "not within a token's name");
        let unknown = Pieces { borders: Borders::Unknown, ..pieces };
        assert_eq!(unknown.cut("a b c d e f g h").unwrap(), ("a b c d e f g h", ""));
        assert!(unknown.cut("a b c d e f g h i j k").is_err());
    }

    /// What the rules tell apart, in any order: also the names of special tokens, what is composed, and what is dropped.
    fn texts() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            8 => "[a-z]{1,6}",
            4 => "[ ]{1,3}|\n|\t|\r\n|\u{a0}|\u{3000}|\u{b}|\u{85}",
            3 => "[0-9]{1,4}",
            3 => "'s|'t|'re|n't|'|''|--|[!-/]{1,3}|[:-@]|\\.\\.\\.",
            2 => "[东京大学你好]{1,3}|[，。、！]",
            2 => "[ÀéîõüßøĐσΣς]{1,3}",
            2 => "[\u{300}-\u{305}\u{316}\u{323}]{1,3}|\u{200b}|\u{ad}|\u{0}|\u{fffd}",
            1 => "\\[CLS\\]|\\[SEP\\]|\\[MASK|<\\|im_start\\|>|<\\|endoftext\\|>|<\\|im|<file_sep>",
            1 => "\\PC{1,3}|(?s:.{1,3})",
        ];
        prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn pieces_have_the_tokens_of_the_whole(text in texts(), bytes in 1..40_usize) {
            for tokenizer in [&*BERT, &*GPT2] {
                let cutting = cutting(tokenizer, bytes);
                let expected = whole(tokenizer, &text);
                prop_assert_eq!(&cutting.tokens(&text, usize::MAX).unwrap().tokens, &expected);
                prop_assert!(tokenizer.at_least(&text) <= expected.ids.len(), "{}", tokenizer.at_least(&text));
                prop_assert_eq!(cutting.ids(&text, usize::MAX).unwrap().tokens, expected.ids);
            }
        }
    }
}
