//! Text to words, as BERT normalizes and separates them.

use std::{mem, ops::Range};

use tokenizers::normalizers::BertNormalizer;
use unicode_normalization_alignments::char::{canonical_combining_class, decompose_canonical};

use super::{End, Flow, characters::Kind, subwords::Splitter};
use crate::pieces::LONGEST_PIECE;

/// A text on its way.
#[derive(Debug)]
pub(crate) struct Words<'a, F> {
    rules: BertNormalizer,
    /// Whether characters are decomposed, and lose their accents.
    strips_accents: bool,
    splitter: Splitter<'a, F>,
    /// The word so far; of one that is too long, no more than may matter.
    word: Vec<u8>,
    /// Where in the text each of its bytes comes from, unless it is read where it stands.
    places: Vec<Range<usize>>,
    /// Its length in characters, also of one that is too long.
    characters: usize,
    /// Characters that combine with the one before, until it is known that no more follow: they are put in order.
    combining: Vec<Combining>,
    /// Where those of them that begin a character of the text come from.
    origins: Vec<Range<usize>>,
    /// Where the last character came from.
    place: Range<usize>,
}

#[derive(Debug)]
struct Combining {
    class: u8,
    character: char,
    /// Whether it is the first that a character of the text decomposes to.
    begins: bool,
}

impl<'a, F: FnMut(u32, Range<usize>) -> Flow> Words<'a, F> {
    pub(crate) fn new(rules: BertNormalizer, splitter: Splitter<'a, F>) -> Self {
        Self {
            rules,
            strips_accents: rules.strip_accents.unwrap_or(rules.lowercase),
            splitter,
            word: Vec::new(),
            places: Vec::new(),
            characters: 0,
            combining: Vec::new(),
            origins: Vec::new(),
            place: 0..0,
        }
    }

    /// Hands a whole text's words on.
    pub(crate) fn text(&mut self, text: &str) -> Flow {
        let bytes = text.as_bytes();
        let mut start = 0;
        while start < bytes.len() {
            if is_border(bytes[start]) {
                start = self.border(bytes, start)?;
                continue;
            }
            let rest = &bytes[start..];
            let letters = rest.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(rest.len());
            if rest.get(letters).is_none_or(|byte| is_border(*byte)) {
                self.ascii(bytes, start..start + letters)?;
                start += letters;
            } else {
                start = self.any(text, start)?;
            }
        }
        Flow::Continue(())
    }

    /// What stands between words: white space, punctuation, or an added token. Gives its end.
    fn border(&mut self, bytes: &[u8], start: usize) -> Flow<usize> {
        let mut end = start + 1;
        if bytes[start].is_ascii_punctuation() {
            match self.splitter.added(&bytes[start..], start)? {
                0 => self.splitter.word(&bytes[start..end], 1, |_| start..end)?,
                length => end = start + length,
            }
        }
        Flow::Continue(end)
    }

    /// A word of ASCII letters and digits.
    fn ascii(&mut self, bytes: &[u8], place: Range<usize>) -> Flow {
        self.word.clear();
        self.word.extend_from_slice(&bytes[place.clone()]);
        if self.rules.lowercase {
            self.word.make_ascii_lowercase();
        }
        let part = |part: Range<usize>| place.start + part.start..place.start + part.end;
        let flow = self.splitter.word(&self.word, self.word.len(), part);
        self.word.clear();
        flow
    }

    /// Words of any characters, up to the next border. Gives its place.
    fn any(&mut self, text: &str, start: usize) -> Flow<usize> {
        let mut end = start;
        for character in text[start..].chars() {
            if u8::try_from(character).is_ok_and(is_border) {
                break;
            }
            let place = end..end + character.len_utf8();
            end = place.end;
            self.character(character, place)?;
        }
        self.settle()?;
        self.end()?;
        Flow::Continue(end)
    }

    fn character(&mut self, character: char, place: Range<usize>) -> Flow {
        let kind = Kind::of(character);
        if self.rules.clean_text && kind.is(Kind::DROPPED) {
            return Flow::Continue(());
        }
        if kind.is(Kind::SPACE) {
            self.settle()?;
            return self.end();
        }
        let alone = self.rules.handle_chinese_chars && kind.is(Kind::CHINESE);
        if alone {
            self.settle()?;
            self.end()?;
        }
        if self.strips_accents && kind.is(Kind::CHANGES) {
            self.decompose(character, place)?;
        } else {
            self.settle()?;
            self.place = place;
            self.decomposed(character, kind)?;
        }
        if alone {
            self.settle()?;
            self.end()?;
        }
        Flow::Continue(())
    }

    fn decompose(&mut self, character: char, place: Range<usize>) -> Flow {
        let (mut flow, mut origin) = (Flow::Continue(()), Some(place));
        decompose_canonical(character, |character| {
            if flow.is_break() {
                return;
            }
            let class = canonical_combining_class(character);
            let origin = origin.take();
            if class == 0 {
                flow = self.settle();
                self.place = origin.unwrap_or(self.place.clone());
                if flow.is_continue() {
                    flow = self.decomposed(character, Kind::of(character));
                }
            } else {
                self.combining.push(Combining { class, character, begins: origin.is_some() });
                self.origins.extend(origin);
                if let [first, .., last] = self.origins.as_slice()
                    && last.end - first.start > LONGEST_PIECE
                {
                    flow = Flow::Break(End::Unbroken);
                }
            }
        });
        flow
    }

    /// Puts the characters that combine in their order.
    ///
    /// For the library this changes only what they are: the first of them still comes from where the first one stood.
    fn settle(&mut self) -> Flow {
        if self.combining.is_empty() {
            return Flow::Continue(());
        }
        let (mut combining, mut origins) = (mem::take(&mut self.combining), mem::take(&mut self.origins));
        combining.sort_by_key(|combining| combining.class);
        let mut from = origins.drain(..);
        let flow = combining.drain(..).try_for_each(|Combining { character, begins, .. }| {
            if begins {
                self.place = from.next().expect("there is one for each that begins a character");
            }
            self.decomposed(character, Kind::of(character))
        });
        drop(from);
        (self.combining, self.origins) = (combining, origins); // for the next ones
        flow
    }

    /// A character that decomposes no further, in its place among the others.
    fn decomposed(&mut self, character: char, kind: Kind) -> Flow {
        if self.strips_accents && kind.is(Kind::ACCENT) {
            return Flow::Continue(());
        }
        if self.rules.lowercase && kind.is(Kind::CHANGES) {
            return character.to_lowercase().try_for_each(|character| self.normalized(character, Kind::of(character)));
        }
        self.normalized(character, kind)
    }

    /// A character as it is in a word, or between words.
    fn normalized(&mut self, character: char, kind: Kind) -> Flow {
        if kind.is(Kind::SPACE) {
            return self.end();
        }
        let alone = kind.is(Kind::PUNCTUATION);
        if alone {
            self.end()?;
        }
        self.characters += 1;
        if self.characters <= self.splitter.longest_word() {
            self.word.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            self.places.resize(self.word.len(), self.place.clone());
        } else if let Some(last) = self.places.last_mut() {
            last.end = self.place.end;
        }
        if alone { self.end() } else { Flow::Continue(()) }
    }

    /// The end of a word, if there is one.
    fn end(&mut self) -> Flow {
        if self.characters == 0 {
            return Flow::Continue(());
        }
        let places = &self.places;
        let place = |part: Range<usize>| places[part.start].start..places[part.end - 1].end;
        let flow = self.splitter.word(&self.word, self.characters, place);
        self.word.clear();
        self.places.clear();
        self.characters = 0;
        flow
    }
}

/// What ends a word wherever it stands, and is changed by nothing that follows.
fn is_border(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r') || byte.is_ascii_punctuation()
}
