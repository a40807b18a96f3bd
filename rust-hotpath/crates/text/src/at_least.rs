//! How many tokens a text has at least, for a small part of what it takes to tokenize it.

use tokenizers::AddedToken;

/// Of a longer text only so many bytes are looked at.
const LOOKED_AT: usize = 4096;

/// Of more texts only so many are worth to be looked at: what is to be spared must cost little.
pub const LOOKED_AT_TEXTS: usize = 16;

/// Whether no added token holds two words: it stands for all that is written in it.
pub(crate) fn are_single<'a>(added: impl IntoIterator<Item = &'a AddedToken>) -> bool {
    added.into_iter().all(|token| !token.content.bytes().any(is_space))
}

/// Words that have a letter or a digit of ASCII, which no tokenizer drops, between white space that every rule takes for
/// it: each of them is a token or more.
pub(crate) fn words(text: &str) -> usize {
    let (mut words, mut counted) = (0, false);
    for byte in text.bytes().take(LOOKED_AT) {
        if is_space(byte) {
            counted = false;
        } else if !counted && byte.is_ascii_alphanumeric() {
            (words, counted) = (words + 1, true);
        }
    }
    words
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_once_and_only_those_that_are_never_dropped() {
        for (text, count) in
            [("", 0), (" \n", 0), ("one  two\tthree\r\n", 3), ("don't a-b", 2), ("… é \u{0}", 0), ("é1", 1)]
        {
            assert_eq!(words(text), count, "{text:?}");
        }
        assert_eq!(words(&"a ".repeat(LOOKED_AT)), LOOKED_AT / 2, "the rest is not looked at");
    }

    #[test]
    fn a_token_that_was_added_may_be_several_words() {
        let token = |content: &str| AddedToken::from(content, true);
        assert!(are_single(&[token("<s>"), token("[MASK]")]));
        assert!(!are_single(&[token("<s>"), token("a b")]));
    }
}
