//! What a continuation may say next, drafted from its own text: what followed the last time that its latest tokens came.
//!
//! A draft costs rows of a run and changes nothing that is said: each of its tokens is kept only if it is the one that the
//! continuation's own choice gives.

use ahash::{HashMap, HashMapExt};

/// Tokens that must have come before in the same order, the longest first.
const MATCHES: [usize; 2] = [4, 2];

/// After a draft of which nothing was accepted, none is made for so many tokens; for twice as many after the next one.
const FIRST_REST: usize = 4;
const LONGEST_REST: usize = 64;

/// The text so far, and where its tokens came.
#[derive(Debug, Clone)]
pub(crate) struct Drafter {
    text: Vec<u32>,
    /// For each length of match, by its tokens: the place behind where they last came, but for the end of the text.
    places: [HashMap<[u32; MATCHES[0]], usize>; MATCHES.len()],
    /// Most tokens of the next draft.
    length: usize,
    most: usize,
    /// Tokens until the next draft.
    rest: usize,
    next_rest: usize,
}

impl Drafter {
    /// Of a prompt; drafts have at most so many tokens.
    pub(crate) fn new(prompt: &[u32], most: usize) -> Self {
        let text = Vec::with_capacity(prompt.len() * 2);
        let places = [HashMap::with_capacity(prompt.len()), HashMap::with_capacity(prompt.len())];
        let mut drafter = Self { text, places, length: 1, most, rest: 0, next_rest: FIRST_REST };
        for token in prompt {
            drafter.push(*token);
        }
        drafter
    }

    /// Appends a token.
    pub(crate) fn push(&mut self, token: u32) {
        // What ended before this token is followed by something now.
        for (places, length) in self.places.iter_mut().zip(MATCHES) {
            if let Some(key) = key(&self.text, length) {
                places.insert(key, self.text.len());
            }
        }
        self.text.push(token);
        self.rest = self.rest.saturating_sub(1);
    }

    /// At most so many tokens that may follow; none where nothing like the end of the text came before.
    pub(crate) fn draft(&self, most: usize) -> Vec<u32> {
        let most = most.min(self.length);
        if most == 0 || self.rest > 0 {
            return Vec::new();
        }
        let found = self.places.iter().zip(MATCHES).find_map(|(places, length)| places.get(&key(&self.text, length)?));
        let Some(&place) = found else { return Vec::new() };
        // What repeats itself until the end of the text is taken to go on so.
        let period = self.text.len() - place;
        (0..most).map(|i| self.text[place + i % period]).collect()
    }

    /// Takes note of how many tokens of a draft were accepted.
    pub(crate) fn verified(&mut self, drafted: usize, accepted: usize) {
        if accepted == 0 {
            (self.length, self.rest) = (1, self.next_rest);
            self.next_rest = (2 * self.next_rest).min(LONGEST_REST);
            return;
        }
        self.next_rest = FIRST_REST;
        if accepted < drafted {
            self.length = self.length.min(accepted + 1);
        } else if drafted == self.length {
            self.length = (2 * self.length).min(self.most);
        }
    }
}

/// The last tokens of a text, if it has so many.
fn key(text: &[u32], length: usize) -> Option<[u32; MATCHES[0]]> {
    let last = &text[text.len().checked_sub(length)?..];
    let mut key = [u32::MAX; MATCHES[0]];
    key[..length].copy_from_slice(last);
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drafter(text: &[u32]) -> Drafter {
        Drafter { length: 8, ..Drafter::new(text, 8) }
    }

    #[test]
    fn what_followed_the_longest_match_that_came_last_is_drafted() {
        assert_eq!(drafter(&[1, 2, 3, 4, 9, 8, 7, 3, 4, 6, 1, 2, 3, 4]).draft(3), [9, 8, 7], "four tokens match");
        assert_eq!(drafter(&[1, 3, 4, 9, 3, 4, 6, 5, 3, 4]).draft(2), [6, 5], "of two places the later one");
        assert_eq!(drafter(&[1, 2, 3, 4, 5]).draft(3), [0_u32; 0]);
        assert_eq!(drafter(&[]).draft(3), [0_u32; 0]);
        assert_eq!(drafter(&[1, 2, 5, 1, 2]).draft(0), [0_u32; 0]);
    }

    #[test]
    fn what_repeats_itself_is_drafted_to_go_on() {
        assert_eq!(drafter(&[7, 7, 7]).draft(4), [7, 7, 7, 7]);
        assert_eq!(drafter(&[1, 2, 3, 1, 2, 3, 1, 2]).draft(5), [3, 1, 2, 3, 1]);
    }

    #[test]
    fn drafts_grow_while_they_are_accepted_and_rest_where_they_are_not() {
        let mut drafter = Drafter::new(&[7; 4], 8);
        for length in [1, 2, 4, 8, 8] {
            assert_eq!(drafter.draft(100).len(), length);
            drafter.verified(length, length);
        }
        drafter.verified(8, 2);
        assert_eq!(drafter.draft(100).len(), 3);
        for rest in [4, 8, 16, 32, 64, 64] {
            drafter.verified(1, 0);
            for _ in 0..rest {
                assert_eq!(drafter.draft(100).len(), 0);
                drafter.push(7);
            }
            assert_eq!(drafter.draft(100).len(), 1);
        }
    }
}
