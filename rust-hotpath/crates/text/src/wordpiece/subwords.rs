//! Words to tokens.

use std::{collections::HashMap, ops::Range};

use tokenizers::{AddedToken, Model, models::wordpiece::WordPiece};

use super::{
    Flow,
    trie::{Set, Trie},
};

/// The tokens that words are made of.
#[derive(Debug)]
pub(crate) struct Subwords {
    tokens: Trie,
    /// What a word is that is not made of them.
    unknown: u32,
    /// A longer one is not, in characters.
    longest_word: usize,
}

/// How the vocabulary spells that a token goes on with a word. No word begins so: this is punctuation.
const CONTINUES: &str = "##";

impl Subwords {
    /// `None` where the model spells its tokens in another way, or is larger than any.
    pub(crate) fn of<S>(model: &WordPiece, added: &HashMap<u32, AddedToken, S>) -> Option<Self> {
        if model.continuing_subword_prefix != CONTINUES || model.max_input_chars_per_word == 0 {
            return None;
        }
        let vocabulary = model.get_vocab();
        let in_words = vocabulary.iter().map(|(token, id)| match token.strip_prefix(CONTINUES) {
            Some(token) => (Set::Continuations, token, *id),
            None => (Set::Words, token.as_str(), *id),
        });
        let added = added.iter().map(|(id, token)| (Set::Added, token.content.as_str(), *id));
        Some(Self {
            tokens: Trie::new(in_words.chain(added))?,
            unknown: *vocabulary.get(&model.unk_token)?,
            longest_word: model.max_input_chars_per_word,
        })
    }
}

/// Hands on the tokens of one text's words, each with its place in the text.
#[derive(Debug)]
pub(crate) struct Splitter<'a, F> {
    subwords: &'a Subwords,
    /// A word's tokens, each with its end in the word.
    parts: Vec<(u32, usize)>,
    token: F,
}

impl<'a, F: FnMut(u32, Range<usize>) -> Flow> Splitter<'a, F> {
    pub(crate) fn new(subwords: &'a Subwords, token: F) -> Self {
        Self { subwords, parts: Vec::new(), token }
    }

    /// Of a longer word only the length is of interest, in characters.
    pub(crate) fn longest_word(&self) -> usize {
        self.subwords.longest_word
    }

    /// A word: the longest token that begins it, the longest that begins the rest, and so on. `place` says which bytes of the
    /// text some bytes of the word come from.
    pub(crate) fn word(
        &mut self,
        word: &[u8],
        characters: usize,
        place: impl Fn(Range<usize>) -> Range<usize>,
    ) -> Flow {
        self.parts.clear();
        let mut end = 0;
        while end < word.len() && characters <= self.subwords.longest_word {
            let set = if end == 0 { Set::Words } else { Set::Continuations };
            let Some((length, id)) = self.subwords.tokens.longest(set, &word[end..]) else { break };
            end += length;
            self.parts.push((id, end));
        }
        if end < word.len() {
            return (self.token)(self.subwords.unknown, place(0..word.len()));
        }
        let mut start = 0;
        for (id, end) in &self.parts {
            (self.token)(*id, place(start..*end))?;
            start = *end;
        }
        Flow::Continue(())
    }

    /// The added token that `text` begins with; gives its length in bytes, 0 where there is none.
    pub(crate) fn added(&mut self, text: &[u8], start: usize) -> Flow<usize> {
        let Some((length, id)) = self.subwords.tokens.longest(Set::Added, text) else {
            return Flow::Continue(0);
        };
        (self.token)(id, start..start + length)?;
        Flow::Continue(length)
    }
}
