//! Regular expressions in schemas: whether they are understood, and how far they count.

use llguidance::{derivre::RegexBuilder, regex_to_lark};
use regex_syntax::{
    Error, ParserBuilder,
    hir::{Hir, HirKind},
};

/// Most bytes of a pattern.
const MAX_BYTES: usize = 8192;

/// Characters up to which a pattern counts.
///
/// # Errors
/// What of it is not understood, in words that continue a sentence.
pub(crate) fn length(pattern: &str) -> Result<u64, String> {
    if pattern.len() > MAX_BYTES {
        return Err(format!("has {} bytes, it may have at most {MAX_BYTES}", pattern.len()));
    }
    let lark = regex_to_lark(pattern, "dw"); // digits and letters of words are those of ASCII, as in JavaScript
    let parsed = ParserBuilder::new().utf8(false).build().parse(&lark).map_err(|error| match error {
        Error::Parse(error) => format!("is not understood: {}", error.kind()),
        Error::Translate(error) => format!("is not understood: {}", error.kind()),
        other => format!("is not understood: {other}"),
    })?;
    // Its own words would quote the whole pattern.
    RegexBuilder::new().mk_regex_for_serach(&lark).map_err(|error| {
        let words = error.to_string();
        format!("is not understood: {}", words.rsplit("error: ").next().unwrap_or_default().trim())
    })?;
    Ok(repeated(&parsed))
}

/// Characters that repetitions count.
fn repeated(expression: &Hir) -> u64 {
    match expression.kind() {
        HirKind::Repetition(repetition) => {
            let times = u64::from(repetition.max.unwrap_or(repetition.min));
            let within = repeated(&repetition.sub);
            if times > 1 { times.saturating_mul(characters(&repetition.sub).max(within)) } else { within }
        }
        HirKind::Capture(capture) => repeated(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().map(repeated).fold(0, u64::saturating_add),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => 0,
    }
}

/// Characters of an expression, its repetitions counted once.
fn characters(expression: &Hir) -> u64 {
    match expression.kind() {
        HirKind::Literal(literal) => literal.0.len() as u64,
        HirKind::Class(_) => 1,
        HirKind::Repetition(repetition) => characters(&repetition.sub),
        HirKind::Capture(capture) => characters(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(characters).fold(0, u64::saturating_add)
        }
        HirKind::Empty | HirKind::Look(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_count_and_multiply() {
        assert_eq!(length("^[a-z]+$"), Ok(0));
        assert_eq!(length("^[0-9]{4}-[0-9]{2}$"), Ok(6));
        assert_eq!(length("^(([a-z]{10}){10}){10}$"), Ok(1000));
        assert_eq!(length("^(ab){500}$"), Ok(1000));
    }

    #[test]
    fn what_is_not_understood_says_so_without_quoting_the_pattern() {
        for (pattern, word) in [("^(?=a)b", "look-ahead"), ("(", "unclosed"), ("\\1", "backreferences")] {
            let problem = length(pattern).unwrap_err();
            assert!(problem.contains(word) && !problem.contains('\n'), "{problem}");
        }
        assert!(length(&"a".repeat(10_000)).is_err());
    }
}
