//! How a text that is longer than an encoder takes is cut. The research side has the same function.

/// The inputs of at most `max_tokens` that a tokenized text is run as.
///
/// `ids` begin with `opening` special tokens and end with `closing` ones, and so does each window. Between them are the
/// text's other tokens: as few parts as will do, in order, without overlap, and of lengths that differ by 1 at most, so that
/// no part is a stump.
pub(crate) fn windows(ids: &[u32], opening: usize, closing: usize, max_tokens: usize) -> Vec<Vec<u32>> {
    let (opening, rest) = ids.split_at(opening.min(ids.len()));
    let (content, closing) = rest.split_at(rest.len() - closing.min(rest.len()));
    let room = max_tokens.saturating_sub(opening.len() + closing.len()).max(1);
    let parts = content.len().div_ceil(room).max(1);
    let border = |part: usize| part * content.len() / parts;
    (0..parts).map(|part| [opening, &content[border(part)..border(part + 1)], closing].concat()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_are_of_like_length() {
        assert_eq!(windows(&[1, 5, 2], 1, 1, 4), [[1, 5, 2]]);
        assert_eq!(windows(&[1, 2], 1, 1, 4), [[1, 2]]);
        assert_eq!(windows(&[1, 5, 6, 7, 2], 1, 1, 4), [vec![1, 5, 2], vec![1, 6, 7, 2]]);
    }

    proptest! {
        #[test]
        fn windows_have_all_tokens_once_and_fit(count in 0..2000_u32, max_tokens in 3..300_usize) {
            let ids: Vec<u32> = std::iter::once(1).chain(10..10 + count).chain([2]).collect();
            let windows = windows(&ids, 1, 1, max_tokens);
            let content: Vec<u32> = windows.iter().flat_map(|window| window[1..window.len() - 1].to_vec()).collect();
            prop_assert_eq!(&content, &ids[1..ids.len() - 1]);
            prop_assert!(windows.iter().all(|window| window.len() <= max_tokens && window[0] == 1));
            prop_assert!(windows.iter().all(|window| window[window.len() - 1] == 2));
            let lengths = windows.iter().map(Vec::len);
            prop_assert!(lengths.clone().max().unwrap() - lengths.min().unwrap() <= 1);
        }
    }
}
