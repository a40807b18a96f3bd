//! What BERT's rules take a character for.
//!
//! The tables are those that the library has, in the same versions: of others, some characters are of another kind.

use std::sync::LazyLock;

use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::char::{canonical_combining_class, decompose_canonical};

/// A set of properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind(u8);

impl Kind {
    /// A control character, or one that has no meaning; cleaning drops it.
    pub(crate) const DROPPED: Self = Self(1);
    /// White space; it separates words.
    pub(crate) const SPACE: Self = Self(1 << 1);
    /// Punctuation; it is a word of its own.
    pub(crate) const PUNCTUATION: Self = Self(1 << 2);
    /// Chinese; where these are told apart, it stands as if between spaces.
    pub(crate) const CHINESE: Self = Self(1 << 3);
    /// An accent.
    pub(crate) const ACCENT: Self = Self(1 << 4);
    /// It decomposes, has an order among others that combine, or has another lower case.
    pub(crate) const CHANGES: Self = Self(1 << 5);

    /// None of these.
    pub(crate) const PLAIN: Self = Self(0);

    pub(crate) fn of(character: char) -> Self {
        BASIC.get(character as usize).copied().unwrap_or_else(|| Self::look_up(character))
    }

    pub(crate) fn is(self, kind: Self) -> bool {
        self.0 & kind.0 != 0
    }

    fn look_up(character: char) -> Self {
        let meaningless = matches!(character, '\0' | '\u{FFFD}') || character.is_other();
        let mut pieces = 0;
        decompose_canonical(character, |piece| pieces += 1 + usize::from(piece != character));
        let changes = pieces != 1
            || canonical_combining_class(character) != 0
            || !character.to_lowercase().eq(std::iter::once(character));
        let kinds = [
            (Self::DROPPED, meaningless && !matches!(character, '\t' | '\n' | '\r')),
            (Self::SPACE, character.is_whitespace()),
            (Self::PUNCTUATION, character.is_ascii_punctuation() || character.is_punctuation()),
            (Self::CHINESE, is_chinese(character)),
            (Self::ACCENT, character.is_mark_nonspacing()),
            (Self::CHANGES, changes),
        ];
        Self(kinds.into_iter().filter(|(_, is)| *is).map(|(kind, _)| kind.0).sum())
    }
}

/// The basic plane, looked up once: 64 KiB, some milliseconds. The library searches some ten tables for each character.
static BASIC: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    // Surrogates are no characters; nobody asks for them.
    (0..0x1_0000).map(|code| char::from_u32(code).map_or(Kind::PLAIN, Kind::look_up)).collect()
});

/// As the library has it: one block that Unicode has since added to is as long as it once was.
fn is_chinese(character: char) -> bool {
    matches!(
        u32::from(character),
        0x4E00..=0x9FFF
            | 0x3400..=0x4DBF
            | 0x2_0000..=0x2_A6DF
            | 0x2_A700..=0x2_B73F
            | 0x2_B740..=0x2_B81F
            | 0x2_B920..=0x2_CEAF
            | 0xF900..=0xFAFF
            | 0x2_F800..=0x2_FA1F
    )
}
