//! Where a prompt is cut.
//!
//! ONNX Runtime's attention takes another path for a single row, whose last bits differ, and on arm64 others for the rows
//! that are left over where it multiplies four at once; in the layers after it the rounding of activations makes a visible
//! difference of that. So no chunk but that of a one-token prompt has one token, and all but the last are multiples of
//! four. Those give the same numbers to the last bit, wherever they begin; the export checks it. Borders depend on nothing
//! but where reading begins and the prompt's length: never on load.

use hotpath_bundle::CHUNK_STEP;

/// Length of the chunk that begins at `position` of a prompt of `prompt_tokens`, for chunks of `chunk_tokens` (a multiple of
/// 4, at least 8): a full one, or what is left; where that would leave one token, the chunk before gives it four more.
#[must_use]
pub fn chunk_at(position: usize, prompt_tokens: usize, chunk_tokens: usize) -> usize {
    let left = prompt_tokens - position;
    match left {
        _ if left <= chunk_tokens => left,
        _ if left == chunk_tokens + 1 => chunk_tokens - CHUNK_STEP,
        _ => chunk_tokens,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plan(prompt_tokens: usize, chunk_tokens: usize) -> Vec<usize> {
        let mut chunks = Vec::new();
        while chunks.iter().sum::<usize>() < prompt_tokens {
            chunks.push(chunk_at(chunks.iter().sum(), prompt_tokens, chunk_tokens));
        }
        chunks
    }

    #[test]
    fn the_last_token_never_goes_alone() {
        assert_eq!(plan(1, 64), [1]);
        assert_eq!(plan(65, 64), [60, 5]);
        assert_eq!(plan(9, 8), [4, 5]);
        assert_eq!(plan(513, 128), [128, 128, 128, 124, 5]);
    }

    proptest! {
        #[test]
        fn chunks_cover_the_prompt(prompt_tokens in 1..3000_usize, steps in 2..33_usize) {
            let chunk_tokens = steps * CHUNK_STEP;
            let chunks = plan(prompt_tokens, chunk_tokens);
            let borders = &chunks[..chunks.len() - 1];
            prop_assert!(borders.iter().all(|chunk| chunk.is_multiple_of(CHUNK_STEP)));
            prop_assert_eq!(chunks.iter().sum::<usize>(), prompt_tokens);
            prop_assert!(chunks.iter().all(|chunk| (2..=chunk_tokens).contains(chunk)) || chunks == [1]);
            let full = chunks.iter().take_while(|chunk| **chunk == chunk_tokens).count();
            prop_assert!(chunks.len() - full <= 2, "borders are multiples of the chunk size as long as can be");
        }
    }
}
