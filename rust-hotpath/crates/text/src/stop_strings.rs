//! Ends a text before the first of some strings, and holds back no more of it than might be the start of one.

/// A text in the making that is searched for some strings.
///
/// The text ends before the string whose last byte comes first; of several that end there, before the longest. So where it
/// ends does not depend on the pieces in which it came.
#[derive(Debug, Clone)]
pub struct StopStrings {
    searches: Vec<Search>,
    /// The end of the text, as far as it may be the start of one of the strings.
    held: String,
}

/// What a piece of text led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// Text that is certain now.
    pub text: String,
    /// Index of the string that ended the text.
    pub stop: Option<usize>,
}

/// The search for one string, a byte at a time (Knuth, Morris and Pratt).
#[derive(Debug, Clone)]
struct Search {
    string: Vec<u8>,
    /// For each length, that of the longest proper prefix of the string that ends its prefix of that length.
    borders: Vec<usize>,
    /// Length of the longest prefix of the string that ends the text.
    matched: usize,
}

impl StopStrings {
    /// Searches for some strings; empty ones are never found.
    #[must_use]
    pub fn new<'a>(strings: impl IntoIterator<Item = &'a str>) -> Self {
        Self { searches: strings.into_iter().map(Search::new).collect(), held: String::new() }
    }

    /// Appends a piece of text. After a stop, nothing more may come.
    pub fn push(&mut self, piece: &str) -> Scan {
        let before = self.held.len();
        self.held.push_str(piece);
        for (place, byte) in piece.bytes().enumerate() {
            self.searches.iter_mut().for_each(|search| search.advance(byte));
            let found = self.searches.iter().enumerate().filter(|(_, search)| search.is_found());
            // Of equal ones the first: `max_by_key` gives the last, hence `rev`.
            if let Some((stop, search)) = found.rev().max_by_key(|(_, search)| search.matched) {
                self.held.truncate(before + place + 1 - search.matched);
                return Scan { text: std::mem::take(&mut self.held), stop: Some(stop) };
            }
        }
        let hold = self.searches.iter().map(|search| search.matched).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - hold);
        Scan { text: std::mem::replace(&mut self.held, rest), stop: None }
    }

    /// Ends the text; gives what was held back.
    pub fn finish(&mut self) -> String {
        self.searches.iter_mut().for_each(|search| search.matched = 0);
        std::mem::take(&mut self.held)
    }
}

impl Search {
    fn new(string: &str) -> Self {
        let mut search = Self { string: string.into(), borders: vec![0; string.len() + 1], matched: 0 };
        // The border of a prefix is what a search for the string has matched in it, without its first byte.
        for length in 2..=search.string.len() {
            search.advance(search.string[length - 1]);
            search.borders[length] = search.matched;
        }
        search.matched = 0;
        search
    }

    fn advance(&mut self, byte: u8) {
        while self.matched > 0 && self.string.get(self.matched) != Some(&byte) {
            self.matched = self.borders[self.matched];
        }
        if self.string.get(self.matched) == Some(&byte) {
            self.matched += 1;
        }
    }

    fn is_found(&self) -> bool {
        self.matched > 0 && self.matched == self.string.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Where a whole text ends, and by which string.
    fn end_of(text: &str, stops: &[String]) -> Option<(usize, usize)> {
        (1..=text.len()).find_map(|end| {
            let ending = |stop: &&String| !stop.is_empty() && text.as_bytes()[..end].ends_with(stop.as_bytes());
            let longest = stops.iter().filter(ending).map(String::len).max()?;
            let stop = stops.iter().position(|stop| stop.len() == longest && ending(&stop))?;
            Some((end - longest, stop))
        })
    }

    /// The longest end of a text that is the start of a string.
    fn undecided(text: &str, stops: &[String]) -> usize {
        let starts = |length: &usize| {
            stops.iter().any(|stop| stop.len() > *length && text.as_bytes().ends_with(&stop.as_bytes()[..*length]))
        };
        (0..=text.len()).rev().find(starts).unwrap_or(0)
    }

    fn text() -> impl Strategy<Value = String> {
        // Few characters, so that strings are found; some of more than one byte.
        prop::collection::vec(prop::sample::select(vec!["a", "b", "ä", "世", "世a"]), 0..30)
            .prop_map(|parts| parts.concat())
    }

    fn stops() -> impl Strategy<Value = Vec<String>> {
        let stop = prop::collection::vec(prop::sample::select(vec!["a", "b", "ä", "世"]), 0..5);
        prop::collection::vec(stop.prop_map(|parts| parts.concat()), 0..4)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn text_ends_before_the_first_string_and_only_its_possible_start_is_held(
            pieces in prop::collection::vec(text(), 0..8),
            stops in stops(),
        ) {
            let mut search = StopStrings::new(stops.iter().map(String::as_str));
            let (mut whole, mut given) = (String::new(), String::new());
            for piece in &pieces {
                whole.push_str(piece);
                let scan = search.push(piece);
                given.push_str(&scan.text);
                let end = end_of(&whole, &stops);
                prop_assert_eq!(scan.stop, end.map(|(_, stop)| stop));
                if let Some((end, _)) = end {
                    prop_assert_eq!(given, &whole[..end]);
                    return Ok(());
                }
                prop_assert_eq!(&given, &whole[..whole.len() - undecided(&whole, &stops)]);
            }
            given.push_str(&search.finish());
            prop_assert_eq!(given, whole);
        }
    }

    #[test]
    fn the_longest_of_those_that_end_together() {
        let scan = StopStrings::new(["b", "ab", "ab"]).push("xab");
        assert_eq!(scan, Scan { text: "x".to_owned(), stop: Some(1) });
    }
}
