//! What each token adds to a text, in bytes: a token may end in the middle of a character.

use std::ops::Range;

use hotpath_bundle::{Bundle, Refused};
use tokenizers::Decoder;

use crate::Tokenizer;

/// The bytes of every token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    /// All tokens' bytes, one after the other.
    bytes: Vec<u8>,
    /// Where each token's bytes end; they begin where those of the id before end.
    ends: Vec<usize>,
    control: Vec<bool>,
}

/// How a tokenizer writes bytes that are no characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// Each byte is a character of its own alphabet (GPT-2).
    ByteLevel,
    /// A byte that has no token is a token like `<0x0A>`, and `▁` is a space (SentencePiece).
    ByteFallback,
}

impl Vocabulary {
    /// Reads a bundle's vocabulary.
    ///
    /// # Errors
    /// [`Refused`] when the tokenizer does not spell bytes in a known way.
    pub fn load(bundle: &Bundle, tokenizer: &Tokenizer) -> Result<Self, Refused> {
        let manifest = bundle.manifest.tokenizer()?;
        let unknown = || Refused::field(&manifest.file, "decoder", "is neither byte-level nor one with byte fallback");
        let spelling = spelling(&tokenizer.inner).ok_or_else(unknown)?;
        Ok(Self::read(&tokenizer.inner, spelling, manifest.vocabulary_size))
    }

    fn read(tokenizer: &tokenizers::Tokenizer, spelling: Spelling, size: u32) -> Self {
        let added = tokenizer.get_added_tokens_decoder();
        let mut vocabulary = Self { bytes: Vec::new(), ends: Vec::new(), control: Vec::new() };
        for id in 0..size {
            let control = added.get(&id).is_some_and(|token| token.special);
            // A control token is no text. Neither is an id that is there only to round the graph's size up.
            if let Some(token) = tokenizer.id_to_token(id).filter(|_| !control) {
                vocabulary.bytes.extend(spelling.bytes(&token));
            }
            vocabulary.ends.push(vocabulary.bytes.len());
            vocabulary.control.push(control);
        }
        vocabulary
    }

    /// What a token adds to a text; nothing for a control token, or for an id beyond the vocabulary.
    #[must_use]
    pub fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(end) = self.ends.get(id) else { return &[] };
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.bytes[start..*end]
    }

    /// Whether a token is a control token.
    #[must_use]
    pub fn is_control(&self, id: u32) -> bool {
        self.control.get(id as usize).copied().unwrap_or(false)
    }

    /// All ids.
    #[must_use]
    pub fn ids(&self) -> Range<u32> {
        0..u32::try_from(self.ends.len()).expect("ids are counted in 32 bits")
    }
}

/// Asks the tokenizer's decoder how it reads each spelling.
fn spelling(tokenizer: &tokenizers::Tokenizer) -> Option<Spelling> {
    let decoder = tokenizer.get_decoder()?;
    let reads = |tokens: &[&str], text: &str| {
        decoder.decode(tokens.iter().map(|token| (*token).to_owned()).collect()).is_ok_and(|decoded| decoded == text)
    };
    if reads(&["aĠb", "Ã", "¤"], "a bä") {
        Some(Spelling::ByteLevel)
    } else if reads(&["a", "▁b", "<0xC3>", "<0xA4>"], "a bä") {
        Some(Spelling::ByteFallback)
    } else {
        None
    }
}

impl Spelling {
    fn bytes(self, token: &str) -> Vec<u8> {
        match self {
            // A token with a character outside of the alphabet is one that was added as it is.
            Self::ByteLevel => {
                token.chars().map(byte_of_character).collect::<Option<_>>().unwrap_or_else(|| token.as_bytes().to_vec())
            }
            Self::ByteFallback => {
                byte_of_token(token).map_or_else(|| token.replace('▁', " ").into(), |byte| vec![byte])
            }
        }
    }
}

/// The byte-level alphabet: printable bytes of Latin-1 are themselves, the other 68 follow in order from U+0100 on.
fn byte_of_character(character: char) -> Option<u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u32::from(character) {
        code @ 0..=0xFF => u8::try_from(code).ok().filter(|byte| printable(*byte)),
        code => (0..=u8::MAX).filter(|byte| !printable(*byte)).nth(code as usize - 0x100),
    }
}

/// The byte of a token like `<0x0A>`.
fn byte_of_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use tokenizers::{
        AddedToken,
        decoders::{byte_fallback::ByteFallback, fuse::Fuse, sequence::Sequence},
        models::bpe::BPE,
        normalizers::Replace,
    };

    use super::*;

    #[test]
    fn the_alphabet_has_every_byte_once() {
        let bytes: Vec<u8> = (0..0x200).filter_map(char::from_u32).filter_map(byte_of_character).collect();
        let mut sorted = bytes.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..=u8::MAX).collect::<Vec<_>>());
        assert_eq!(byte_of_character('Ġ'), Some(b' '));
        assert_eq!(byte_of_character('Ċ'), Some(b'\n'));
        assert_eq!(byte_of_character('▁'), None);
    }

    #[test]
    fn byte_fallback_reads_as_the_library_does() {
        let tokens = ["▁the", "re", "▁", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "ü", "<0x>", "<0x123>"];
        let vocab: [(String, u32); 10] = std::array::from_fn(|id| (tokens[id].to_owned(), u32::try_from(id).unwrap()));
        let model = BPE::builder().vocab_and_merges(vocab, vec![]).build();
        let mut tokenizer = tokenizers::Tokenizer::new(model.unwrap());
        tokenizer.add_special_tokens([AddedToken::from("<s>", true)]).unwrap();
        assert_eq!(spelling(&tokenizer), None, "without a decoder");
        let decoders = vec![Replace::new("▁", " ").unwrap().into(), ByteFallback::new().into(), Fuse::new().into()];
        tokenizer.with_decoder(Some(Sequence::new(decoders)));
        assert_eq!(spelling(&tokenizer), Some(Spelling::ByteFallback));
        let vocabulary = Vocabulary::read(&tokenizer, Spelling::ByteFallback, 12);
        let ids = [0, 1, 2, 10, 3, 4, 5, 6, 7, 8, 9, 11];
        let bytes: Vec<u8> = ids.iter().flat_map(|id| vocabulary.bytes(*id).to_vec()).collect();
        assert_eq!(String::from_utf8_lossy(&bytes), tokenizer.decode(&ids[..11], true).unwrap());
        assert!(vocabulary.is_control(10) && !vocabulary.is_control(0) && !vocabulary.is_control(99));
        assert_eq!(vocabulary.ids(), 0..12);
    }
}
