//! How much may wait, and how much of that one key may take.

/// What one key of one class has queued may be at most so many times what is left of the bound. So one that floods the
/// queue alone fills four fifths of it, and however many do, there is room for a newcomer (dynamic thresholds, Choudhury and
/// Hahne 1998).
const SHARE: usize = 4;

/// Tokens that must leave a queue of at most `most` before so many more fit. It holds `queued`, `of_key` of them of the same
/// key and class.
#[must_use]
pub fn excess(most: usize, queued: usize, of_key: usize, tokens: usize) -> usize {
    let after = queued + tokens;
    let beyond_bound = after.saturating_sub(most);
    let room = most.saturating_sub(after).saturating_mul(SHARE);
    // Each token of the key that leaves takes one from its side and adds SHARE to the room.
    let beyond_share = (of_key + tokens).saturating_sub(room).div_ceil(SHARE + 1);
    beyond_bound.max(beyond_share)
}
