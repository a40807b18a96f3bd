//! The longest string of a set that begins another.

use std::collections::HashMap;

/// Three sets of strings, each string with its id, in one flat table of edges.
#[derive(Debug, Clone)]
pub(crate) struct Trie {
    /// Open addressing, at most half full.
    edges: Vec<Edge>,
    /// How far a hash is shifted to be a place among the edges.
    shift: u32,
}

/// The sets. Each is the tree under the node of its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    /// What a word may begin with.
    Words,
    /// What may follow within a word, as it stands there.
    Continuations,
    /// Tokens that are looked for in the text as it is.
    Added,
}

const ROOTS: u32 = 3;

/// Nodes and bytes share 32 bits.
const MOST_NODES: usize = 1 << 24;

const NO_ID: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Edge {
    /// The node that it leaves, and its byte.
    key: u32,
    /// The node that it leads to. None leads to a root: with 0, the place is free.
    to: u32,
    /// The string that ends there, if one does.
    id: u32,
}

impl Trie {
    /// `None` where the strings are more than it can hold.
    pub(crate) fn new<'a>(strings: impl Iterator<Item = (Set, &'a str, u32)>) -> Option<Self> {
        let mut edges: HashMap<u32, Edge> = HashMap::new();
        for (set, string, id) in strings {
            let mut node = set as u32;
            let mut last = None;
            for byte in string.bytes() {
                let (key, next) = (key(node, byte), edges.len());
                if next >= MOST_NODES - ROOTS as usize {
                    return None;
                }
                let to = u32::try_from(next).ok()? + ROOTS;
                node = edges.entry(key).or_insert(Edge { key, to, id: NO_ID }).to;
                last = Some(key);
            }
            // An empty string begins all and leads nowhere.
            if let Some(edge) = last.and_then(|key| edges.get_mut(&key)) {
                edge.id = Some(id).filter(|id| *id != NO_ID)?;
            }
        }
        let places = (2 * edges.len()).next_power_of_two().max(2);
        let mut trie =
            Self { edges: vec![Edge { key: 0, to: 0, id: NO_ID }; places], shift: u32::BITS - places.trailing_zeros() };
        for edge in edges.into_values() {
            let place = trie.place(edge.key);
            trie.edges[place] = edge;
        }
        Some(trie)
    }

    /// The length and the id of the longest string of a set that `text` begins with.
    pub(crate) fn longest(&self, set: Set, text: &[u8]) -> Option<(usize, u32)> {
        let (mut node, mut longest) = (set as u32, None);
        for (before, byte) in text.iter().enumerate() {
            let edge = &self.edges[self.place(key(node, *byte))];
            if edge.to == 0 {
                break;
            }
            node = edge.to;
            if edge.id != NO_ID {
                longest = Some((before + 1, edge.id));
            }
        }
        longest
    }

    /// Where an edge is, or would be.
    fn place(&self, key: u32) -> usize {
        let mut place = (key.wrapping_mul(0x9E37_79B1) >> self.shift) as usize; // Fibonacci hashing: 2^32 / φ
        while self.edges[place].to != 0 && self.edges[place].key != key {
            place = (place + 1) & (self.edges.len() - 1);
        }
        place
    }
}

fn key(node: u32, byte: u8) -> u32 {
    node << 8 | u32::from(byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sets_are_apart() {
        let strings = [(Set::Words, "ab", 0), (Set::Words, "abcd", 1), (Set::Continuations, "abc", 2)];
        let trie = Trie::new(strings.into_iter()).unwrap();
        assert_eq!(trie.longest(Set::Words, b"abcde"), Some((4, 1)));
        assert_eq!(trie.longest(Set::Words, b"abc"), Some((2, 0)));
        assert_eq!(trie.longest(Set::Continuations, b"abcd"), Some((3, 2)));
        assert_eq!(trie.longest(Set::Added, b"abcd"), None);
        assert_eq!(trie.longest(Set::Words, b""), None);
        assert_eq!(Trie::new(std::iter::once((Set::Words, "", 0))).unwrap().longest(Set::Words, b"a"), None);
        assert!(Trie::new(std::iter::once((Set::Words, "a", u32::MAX))).is_none());
        assert_eq!(Trie::new(std::iter::empty()).unwrap().longest(Set::Words, b"a"), None);
    }

    proptest! {
        #[test]
        fn it_is_the_longest(strings in prop::collection::btree_set("[abä]{1,6}", 0..40), text in "[abä]{0,12}") {
            let ids = || (0_u32..).zip(&strings);
            let trie = Trie::new(ids().map(|(id, string)| (Set::Continuations, string.as_str(), id))).unwrap();
            let beginning = ids().filter(|(_, string)| text.starts_with(string.as_str()));
            let longest = beginning.map(|(id, string)| (string.len(), id)).max();
            prop_assert_eq!(trie.longest(Set::Continuations, text.as_bytes()), longest);
        }
    }
}
