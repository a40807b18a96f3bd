//! From logits to a token. Sums go in a fixed order, so that a draw is the same wherever it is made.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

use super::{
    Sampling,
    exponential::{exp, sum},
};

/// How many of the likeliest tokens are looked at first for those that make up `top_p`: nearly always enough.
const FIRST_LOOK: usize = 64;

/// More than so many are found faster by a selection from all than by a heap of those that are in.
const HEAP: usize = 256;

/// Tokens whose weights are summed up together.
const BLOCK: usize = 256;

/// Whether all logits are numbers.
pub(super) fn all_finite(logits: &[f32]) -> bool {
    // By blocks: to look for a reason to stop after each logit would take ten times as long.
    logits.chunks(BLOCK).all(|block| block.iter().fold(true, |finite, logit| finite & logit.is_finite()))
}

/// The token of the largest logit, of equal ones the first; `None` when none is above negative infinity.
pub(super) fn argmax(logits: &[f32]) -> Option<u32> {
    let mut largest = f32::NEG_INFINITY;
    let mut first = None;
    for (start, block) in (0..).step_by(BLOCK).zip(logits.chunks(BLOCK)) {
        let of_block = max(block);
        if of_block > largest {
            (largest, first) = (of_block, Some((start, block)));
        }
    }
    let (start, block) = first?;
    (start..).zip(block).find(|(_, logit)| **logit == largest).map(|(token, _)| token)
}

/// The natural logarithm of the sum of the logits' exponentials.
#[allow(clippy::cast_possible_truncation)] // as exact as the logits are
pub(super) fn log_sum_exp(logits: &[f32]) -> f32 {
    let largest = max(logits);
    let sum: f64 = logits.chunks(BLOCK).map(|block| sum(block, |logit| exp(logit - largest))).sum();
    largest + sum.ln() as f32
}

fn max(logits: &[f32]) -> f32 {
    logits.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// The largest logits with their tokens in falling order; of equal ones the first come first.
pub(super) fn largest(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    if count == 0 {
        return Vec::new();
    }
    if count > HEAP {
        return select(logits, count);
    }
    let mut heap: BinaryHeap<Reverse<Ranked>> = BinaryHeap::with_capacity(count.min(logits.len()) + 1);
    let mut least = f32::NEG_INFINITY; // of those that are in, once `count` are
    for (token, logit) in (0..).zip(logits) {
        if *logit > least || heap.len() < count {
            heap.push(Reverse(Ranked { token, logit: *logit }));
            if heap.len() > count {
                heap.pop();
            }
            if heap.len() == count {
                least = heap.peek().map_or(f32::INFINITY, |Reverse(ranked)| ranked.logit);
            }
        }
    }
    heap.into_sorted_vec().into_iter().map(|Reverse(ranked)| (ranked.token, ranked.logit)).collect()
}

/// As [`largest`], for many.
fn select(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut ranks: Vec<u64> = (0..).zip(logits).map(|(token, logit)| rank(token, *logit)).collect();
    if count < ranks.len() {
        ranks.select_nth_unstable(count);
        ranks.truncate(count);
    }
    ranks.sort_unstable();
    #[allow(clippy::cast_possible_truncation)] // the lower half is the token
    ranks.into_iter().map(|rank| (rank as u32, logits[rank as u32 as usize])).collect()
}

/// Ascends where [`Ranked`] falls: integers are compared several times as fast.
fn rank(token: u32, logit: f32) -> u64 {
    let bits = (logit + 0.0).to_bits(); // there is one zero
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(!ascending) << 32 | u64::from(token)
}

/// Draws a token with a number in [0, 1). `likeliest` has the largest logit.
pub(super) fn draw(logits: &[f32], likeliest: u32, sampling: &Sampling, uniform: f64) -> u32 {
    let weights = Weights { largest: logits[likeliest as usize], sampling };
    let top_k = sampling.top_k as usize;
    if top_k > 0 && top_k < logits.len() {
        let mut kept = weights.of(largest(logits, top_k).into_iter());
        let total = kept.iter().map(|(_, weight)| weight).sum();
        keep_nucleus(&mut kept, sampling.top_p, total);
        pick(&kept, uniform)
    } else if sampling.top_p < 1.0 {
        pick(&weights.nucleus(logits), uniform)
    } else {
        weights.pick_of_all(logits, uniform)
    }
}

/// Probabilities, each divided by the largest.
struct Weights<'a> {
    largest: f32,
    sampling: &'a Sampling,
}

impl Weights<'_> {
    /// 0 for what `min_p` or a mask leaves out.
    #[inline]
    fn one(&self, logit: f32) -> f32 {
        let weight = exp((logit - self.largest) / self.sampling.temperature);
        let kept = weight >= self.sampling.min_p && logit > f32::NEG_INFINITY;
        if kept { weight } else { 0.0 }
    }

    fn of(&self, ranked: impl Iterator<Item = (u32, f32)>) -> Vec<(u32, f64)> {
        ranked.map(|(token, logit)| (token, f64::from(self.one(logit)))).collect()
    }

    /// The sum over each block.
    fn blocks(&self, logits: &[f32]) -> impl Iterator<Item = f64> {
        logits.chunks(BLOCK).map(|block| sum(block, |logit| self.one(logit)))
    }

    /// As [`pick`], in the order of ids. Sums up blocks first, so that no weight need be kept.
    fn pick_of_all(&self, logits: &[f32], uniform: f64) -> u32 {
        let blocks: Vec<(u32, f64)> = (0..).step_by(BLOCK).zip(self.blocks(logits)).collect();
        let total: f64 = blocks.iter().map(|(_, sum)| sum).sum();
        let (first, left) = find(&blocks, uniform * total);
        let block = logits[first as usize..].iter().take(BLOCK);
        find(&self.of((first..).zip(block.copied())), left).0
    }

    /// The fewest of the likeliest tokens that make up `top_p`.
    fn nucleus(&self, logits: &[f32]) -> Vec<(u32, f64)> {
        let total = self.blocks(logits).sum();
        let mut look = FIRST_LOOK;
        loop {
            let mut kept = self.of(largest(logits, look).into_iter());
            if keep_nucleus(&mut kept, self.sampling.top_p, total) || look >= logits.len() {
                return kept;
            }
            look *= 16;
        }
    }
}

/// Cuts ranked tokens after the first few that make up `top_p` of the total; says whether they do.
fn keep_nucleus(ranked: &mut Vec<(u32, f64)>, top_p: f32, total: f64) -> bool {
    let mut sum = 0.0;
    let end = ranked.iter().position(|(_, weight)| {
        sum += weight;
        sum >= f64::from(top_p) * total
    });
    if let Some(last) = end {
        ranked.truncate(last + 1);
    }
    end.is_some()
}

/// The token in whose part of the sum the number falls.
fn pick(weighted: &[(u32, f64)], uniform: f64) -> u32 {
    let total: f64 = weighted.iter().map(|(_, weight)| weight).sum();
    find(weighted, uniform * total).0
}

/// Who stands at a place in the sum, and how far into their part it is.
fn find(weighted: &[(u32, f64)], place: f64) -> (u32, f64) {
    let mut left = place;
    let mut last = (0, 0.0);
    for (who, weight) in weighted.iter().filter(|(_, weight)| *weight > 0.0) {
        if left < *weight {
            return (*who, left);
        }
        left -= weight;
        last = (*who, *weight);
    }
    last // rounding left a little over
}

/// Larger logits are greater, and of equal ones the first.
#[derive(Debug, PartialEq)]
struct Ranked {
    token: u32,
    logit: f32,
}

impl Eq for Ranked {}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        let logits = self.logit.partial_cmp(&other.logit).expect("logits were checked to be numbers");
        logits.then(other.token.cmp(&self.token))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_selection_gives_what_a_heap_does(
            logits in prop::collection::vec(prop_oneof![Just(0.0), Just(-0.0), Just(f32::NEG_INFINITY), -2.0..2.0_f32], 1..300),
            count in 1..HEAP,
        ) {
            prop_assert_eq!(select(&logits, count), largest(&logits, count));
        }
    }
}
