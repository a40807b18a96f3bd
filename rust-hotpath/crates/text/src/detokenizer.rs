//! Tokens to text as they come, without ever cutting a character.

use std::sync::Arc;

use crate::Vocabulary;

/// One text in the making. What it has given after [`Detokenizer::finish`] is what all of its tokens' bytes give when they
/// are read at once: bytes that are no UTF-8 become U+FFFD.
#[derive(Debug, Clone)]
pub struct Detokenizer {
    vocabulary: Arc<Vocabulary>,
    /// The beginning of a character; at most 3 bytes between calls.
    pending: Vec<u8>,
}

impl Detokenizer {
    /// An empty text.
    #[must_use]
    pub fn new(vocabulary: Arc<Vocabulary>) -> Self {
        Self { vocabulary, pending: Vec::new() }
    }

    /// Appends a token; gives the characters that are complete now.
    pub fn push(&mut self, id: u32) -> String {
        self.pending.extend_from_slice(self.vocabulary.bytes(id));
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        let incomplete = loop {
            match str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    break 0;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(str::from_utf8(valid).expect("it is valid up to here"));
                    let Some(invalid) = error.error_len() else { break after.len() };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[invalid..];
                }
            }
        };
        self.pending.drain(..self.pending.len() - incomplete);
        text
    }

    /// Ends the text; gives what stands for the beginning of a character that was never completed.
    pub fn finish(&mut self) -> &'static str {
        let cut = !self.pending.is_empty();
        self.pending.clear();
        if cut { "\u{FFFD}" } else { "" }
    }
}
