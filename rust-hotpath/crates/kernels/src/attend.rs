//! Attention over keys and values that lie together, by [`Lanes`].
//!
//! For each query the order of operations is one: a score is the sum of eight lanes, each of which adds its products in
//! ascending order; the weights are summed likewise, token after token; and so are the values. Which queries, and how many
//! tokens, are computed along changes nothing of it.

#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "several arrays by one number, in an order that is meant")]

use std::{array, ops::Range};

use half::f16;

use crate::{
    lanes::{LANES, Lanes, Vector, exponentials},
    prefetch::{LINE, prefetch},
};

/// Tokens whose keys or values all queries see, while those are in the first-level cache.
pub(crate) const TOKENS: usize = 32;

/// What is written once for each set of instructions.
#[derive(Clone, Copy)]
#[allow(clippy::type_complexity, reason = "each is documented where it is written")]
pub struct Attention {
    /// [`rotate`].
    pub(crate) rotate: unsafe fn(&[f32], &[f32], &[f32], f32, &mut [f32]),
    /// [`keep`].
    pub(crate) keep: unsafe fn(&[f32], &mut [f16]),
    /// [`attend`].
    pub(crate) attend: unsafe fn(&mut Attended<'_>, &[f16], &[f16], &mut [f32]),
}

/// Queries of rows that follow each other, of heads that share keys and values.
pub(crate) struct Attended<'a> {
    /// How many rows there are.
    pub rows: usize,
    /// Query heads of a row.
    pub heads: usize,
    /// Numbers of a head.
    pub size: usize,
    /// What the last row sees. Each row before sees one token less.
    pub tokens: usize,
    /// `[rows, heads, size]`, rotated and scaled.
    pub queries: &'a [f32],
    /// Room for a score of each query and token, of which there are a multiple of [`LANES`]:
    /// `[rows, heads, tokens.next_multiple_of(LANES)]`.
    pub scores: &'a mut [f32],
    /// `[rows, heads, size]`
    pub to: &'a mut [f32],
}

impl Attended<'_> {
    /// How many queries there are.
    fn count(&self) -> usize {
        self.rows * self.heads
    }

    /// Tokens that a query sees.
    fn seen(&self, query: usize) -> usize {
        self.tokens - (self.rows - 1 - query / self.heads)
    }

    fn scores(&mut self, query: usize) -> &mut [f32] {
        let padded = self.tokens.next_multiple_of(LANES);
        &mut self.scores[query * padded..][..padded]
    }
}

/// What attention is made of. Wider registers hold more of it; the lanes of a score are always eight.
///
/// # Safety
/// Of its function: as of [`Lanes`].
pub(crate) trait Registers {
    type Lanes: Lanes;
    /// Of values, whose numbers are each by itself.
    type Wide: Vector;

    /// Products of two queries, one behind the other, with eight keys.
    unsafe fn dot_two(queries: *const f32, keys: &[*const f32; LANES], size: usize) -> [[f32; LANES]; 2];
}

impl<L: Lanes> Registers for L {
    type Lanes = L;
    type Wide = L;

    #[inline(always)]
    unsafe fn dot_two(queries: *const f32, keys: &[*const f32; LANES], size: usize) -> [[f32; LANES]; 2] {
        const HALF: usize = LANES / 2;
        let mut scores = [[0.0; LANES]; 2];
        for (half, keys) in keys.as_chunks::<HALF>().0.iter().enumerate() {
            let mut both = [0.0; LANES];
            // SAFETY: the caller's.
            unsafe { dot::<L, 2, HALF>(queries, keys, size).store(both.as_mut_ptr()) }
            for (scores, both) in scores.iter_mut().zip(both.as_chunks::<HALF>().0) {
                scores[half * HALF..][..HALF].copy_from_slice(both);
            }
        }
        scores
    }
}

/// Turns a head by a position's angles, and multiplies it by `scale`.
///
/// # Safety
/// As of [`Lanes`]. A head, and what it becomes, is two times as long as the angles, and those a multiple of [`LANES`].
#[inline(always)]
pub(crate) unsafe fn rotate<L: Lanes>(head: &[f32], cosines: &[f32], sines: &[f32], scale: f32, to: &mut [f32]) {
    let half = cosines.len();
    // SAFETY: the caller's.
    unsafe {
        let scale = L::splat(scale);
        for i in (0..half).step_by(LANES) {
            let (a, b) = (L::load(head.as_ptr().add(i)), L::load(head.as_ptr().add(half + i)));
            let (cosine, sine) = (L::load(cosines.as_ptr().add(i)), L::load(sines.as_ptr().add(i)));
            let low = a.fma(cosine, L::splat(-0.0).sub(b.mul(sine)));
            let high = b.fma(cosine, a.mul(sine));
            low.mul(scale).store(to.as_mut_ptr().add(i));
            high.mul(scale).store(to.as_mut_ptr().add(half + i));
        }
    }
}

/// `to = from`, as the numbers of a cache: to the nearest of float16, ties to even, and what is beyond its largest number is that
/// one. NaN stays NaN.
///
/// # Safety
/// As of [`Lanes`]. Both are as long, which is a multiple of [`LANES`].
#[inline(always)]
pub(crate) unsafe fn keep<L: Lanes>(from: &[f32], to: &mut [f16]) {
    // SAFETY: the caller's.
    unsafe {
        let (least, most) = (L::splat(f16::MIN.to_f32_const()), L::splat(f16::MAX.to_f32_const()));
        for i in (0..from.len()).step_by(LANES) {
            // In this order, NaN is the result of both.
            let bounded = least.max(most.min(L::load(from.as_ptr().add(i))));
            bounded.store_half(to.as_mut_ptr().add(i));
        }
    }
}

/// Numbers of a cache as float32, in `room`. They are a multiple of [`LANES`].
///
/// # Safety
/// As of [`Lanes`].
#[inline(always)]
unsafe fn widened<'a, L: Lanes>(from: &[f16], room: &'a mut [f32]) -> &'a [f32] {
    let room = &mut room[..from.len()];
    for i in (0..from.len()).step_by(LANES) {
        // SAFETY: the caller's.
        unsafe { L::load_half(from.as_ptr().add(i)).store(room.as_mut_ptr().add(i)) }
    }
    room
}

/// `to = softmax(queries · keys) · values`, each query by itself. `keys` and `values` are `[tokens, size]`, and `room` is for
/// [`TOKENS`] of them.
///
/// # Safety
/// As of [`Registers`]. The lengths fit, a head's size is a multiple of `2 * LANES`, and the first row sees a token at least.
#[inline(always)]
pub(crate) unsafe fn attend<R: Registers>(a: &mut Attended<'_>, keys: &[f16], values: &[f16], room: &mut [f32]) {
    let block = TOKENS * a.size;
    // SAFETY: the caller's.
    unsafe {
        for (number, some) in keys.chunks(block).enumerate() {
            let some = widened::<R::Lanes>(some, room);
            for (eight, some) in some.chunks(LANES * a.size).enumerate() {
                let first = number * TOKENS + eight * LANES;
                call_for(a, keys, first + TOKENS, LANES);
                score::<R>(a, some, first);
            }
        }
        for query in 0..a.count() {
            let seen = a.seen(query);
            softmax::<R::Lanes>(a.scores(query), seen);
        }
        a.to.fill(0.0);
        for (number, some) in values.chunks(block).enumerate() {
            call_for(a, values, (number + 1) * TOKENS, TOKENS);
            weigh_some::<R>(a, widened::<R::Lanes>(some, room), number * TOKENS);
        }
    }
}

/// Scores of each query with eight keys, or with fewer: then the last scores are those of the last key again, where no token is.
#[inline(always)]
unsafe fn score<R: Registers>(a: &mut Attended<'_>, keys: &[f32], first: usize) {
    let (count, size) = (a.count(), a.size);
    let last = keys.len() / size - 1;
    let keys: [*const f32; LANES] = array::from_fn(|token| keys[token.min(last) * size..].as_ptr());
    // SAFETY: the caller's.
    unsafe {
        for query in (0..count - count % 2).step_by(2) {
            let both = R::dot_two(a.queries[query * size..].as_ptr(), &keys, size);
            for (of, both) in both.iter().enumerate() {
                a.scores(query + of)[first..][..LANES].copy_from_slice(both);
            }
        }
        if count % 2 == 1 {
            let scores = dot::<R::Lanes, 1, LANES>(a.queries[(count - 1) * size..].as_ptr(), &keys, size);
            scores.store(a.scores(count - 1)[first..].as_mut_ptr());
        }
    }
}

/// Calls for keys or values of later tokens. Rows that share them wait for them less than the calls would take.
#[inline(always)]
fn call_for(a: &Attended<'_>, of: &[f16], first: usize, tokens: usize) {
    if a.rows == 1 {
        let some = of.get(first * a.size..).unwrap_or_default();
        let some = &some[..some.len().min(tokens * a.size)];
        some.chunks(LINE / size_of::<f16>()).for_each(|line| prefetch(line.as_ptr()));
    }
}

/// Products of `Q` queries with `K` keys each, eight in all: those of the first query first.
#[inline(always)]
unsafe fn dot<L: Lanes, const Q: usize, const K: usize>(queries: *const f32, keys: &[*const f32; K], size: usize) -> L {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [L::splat(0.0); LANES];
        for i in (0..size).step_by(LANES) {
            let mut query = [L::splat(0.0); Q];
            for q in 0..Q {
                query[q] = L::load(queries.add(q * size + i));
            }
            for k in 0..K {
                let key = L::load(keys[k].add(i));
                for q in 0..Q {
                    sums[q * K + k] = key.fma(query[q], sums[q * K + k]);
                }
            }
        }
        L::totals(sums)
    }
}

/// Makes weights of the scores of those tokens that are `seen`.
#[inline(always)]
unsafe fn softmax<L: Lanes>(scores: &mut [f32], seen: usize) {
    let scores = &mut scores[..seen.next_multiple_of(LANES)];
    // SAFETY: the caller's; the scores are whole lanes.
    unsafe {
        let inverse = L::splat(1.0 / exponentials::<L, L>(scores, seen));
        for i in (0..scores.len()).step_by(LANES) {
            L::load(scores.as_ptr().add(i)).mul(inverse).store(scores.as_mut_ptr().add(i));
        }
    }
}

/// Adds the weighted values of some tokens, from the `first` on, to what each query sees.
#[inline(always)]
unsafe fn weigh_some<R: Registers>(a: &mut Attended<'_>, values: &[f32], first: usize) {
    let (count, tokens) = (a.count(), values.len() / a.size);
    let all_see = first + tokens <= a.tokens - (a.rows - 1);
    let seen = |a: &Attended<'_>, query| if all_see { tokens } else { a.seen(query).saturating_sub(first).min(tokens) };
    // SAFETY: the caller's.
    unsafe {
        for query in (0..count - count % 2).step_by(2) {
            let (both, second) = (seen(a, query), seen(a, query + 1));
            weigh::<R, 2>(a, query, values, first, 0..both);
            // It may be of the next row, which sees one token more.
            weigh::<R, 1>(a, query + 1, values, first, both..second);
        }
        if count % 2 == 1 {
            let seen = seen(a, count - 1);
            weigh::<R, 1>(a, count - 1, values, first, 0..seen);
        }
    }
}

/// The same of `Q` queries, by as many registers of the values at a time as there are, and at the end by two.
#[inline(always)]
unsafe fn weigh<R: Registers, const Q: usize>(
    a: &mut Attended<'_>,
    query: usize,
    values: &[f32],
    first: usize,
    tokens: Range<usize>,
) {
    if tokens.is_empty() {
        return;
    }
    let (padded, size, mut i) = (a.tokens.next_multiple_of(LANES), a.size, 0);
    let weights = a.scores[query * padded + first..].as_ptr();
    let to = a.to[query * size..].as_mut_ptr();
    // SAFETY: the caller's.
    unsafe {
        while Q == 1 && i + 8 * R::Wide::COUNT <= size {
            weigh_vectors::<R::Wide, Q, 8>(weights, padded, &values[i..], size, tokens.clone(), to.add(i));
            i += 8 * R::Wide::COUNT;
        }
        while i + 4 * R::Wide::COUNT <= size {
            weigh_vectors::<R::Wide, Q, 4>(weights, padded, &values[i..], size, tokens.clone(), to.add(i));
            i += 4 * R::Wide::COUNT;
        }
        while i < size {
            weigh_vectors::<R::Lanes, Q, 2>(weights, padded, &values[i..], size, tokens.clone(), to.add(i));
            i += 2 * LANES;
        }
    }
}

/// The same of `N` registers of the values.
#[inline(always)]
unsafe fn weigh_vectors<V: Vector, const Q: usize, const N: usize>(
    weights: *const f32,
    padded: usize,
    values: &[f32],
    size: usize,
    tokens: Range<usize>,
    to: *mut f32,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[V::splat(0.0); N]; Q];
        for q in 0..Q {
            for n in 0..N {
                sums[q][n] = V::load(to.add(q * size + n * V::COUNT));
            }
        }
        for token in tokens {
            let values = values.as_ptr().add(token * size);
            for n in 0..N {
                let value = V::load(values.add(n * V::COUNT));
                for q in 0..Q {
                    sums[q][n] = V::splat(*weights.add(q * padded + token)).fma(value, sums[q][n]);
                }
            }
        }
        for q in 0..Q {
            for n in 0..N {
                sums[q][n].store(to.add(q * size + n * V::COUNT));
            }
        }
    }
}

/// Writes out what is made of [`Lanes`] for a path.
macro_rules! of_cache {
    ($lanes:ty, $registers:ty $(, $features:literal)?) => {
        use ::half::f16;

        use crate::attend::{self, Attended, Attention};

        pub(super) const KERNELS: Attention = Attention { rotate, keep, attend };

        $(#[target_feature(enable = $features)])?
        unsafe fn rotate(head: &[f32], cosines: &[f32], sines: &[f32], scale: f32, to: &mut [f32]) {
            // SAFETY: the caller's.
            unsafe { attend::rotate::<$lanes>(head, cosines, sines, scale, to) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn keep(from: &[f32], to: &mut [f16]) {
            // SAFETY: the caller's.
            unsafe { attend::keep::<$lanes>(from, to) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn attend(attended: &mut Attended<'_>, keys: &[f16], values: &[f16], room: &mut [f32]) {
            // SAFETY: the caller's.
            unsafe { attend::attend::<$registers>(attended, keys, values, room) }
        }
    };
}
pub(crate) use of_cache;
