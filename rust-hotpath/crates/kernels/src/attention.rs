//! Grouped-query attention over a cache, with rotary positions. What a row gives depends on that row and on the keys and values
//! before it alone: not on which rows are computed along, nor on how a prompt was cut.
//!
//! Positions are in the half-split order of the published checkpoints: number `i` of a head turns with `i + size / 2`.

#![allow(unsafe_code)]

use std::cell::RefCell;

use half::f16;

use crate::{
    Path, Pool,
    attend::{Attended, TOKENS},
    lanes::LANES,
    parts::Parts,
};

/// Rows that are computed together at most, as they see nearly the same.
const TOGETHER: usize = 4;

/// How many heads there are, and how long each is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub queries: usize,
    /// Heads of keys and values, each shared by as many query heads.
    pub shared: usize,
    /// Numbers of a head.
    pub size: usize,
}

/// Rows that are appended to sequences, with the sequences' keys and values. Each row says for itself where it belongs: a run
/// may hold parts of prompts and single tokens of any sequences.
#[derive(Debug)]
pub struct Appended<'a> {
    /// Queries, keys and values `[rows, (queries + 2 * shared) * size]`.
    pub rows: &'a [f32],
    /// Which sequence each row is of, `[rows]`.
    pub sequences: &'a [i32],
    /// Tokens of the sequence before each row, `[rows]`. What is at those before must be in the cache, or among the rows. Of
    /// rows at one place the last is kept.
    pub positions: &'a [i32],
    /// `[sequences, shared, capacity, size]`
    pub keys: &'a mut [f16],
    /// `[sequences, shared, capacity, size]`
    pub values: &'a mut [f16],
    /// Cosines of each position's angles, `[positions, size / 2]`.
    pub cosines: &'a [f32],
    /// Sines of each position's angles, `[positions, size / 2]`.
    pub sines: &'a [f32],
}

/// Why rows cannot be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttentionError {
    /// The heads are of sizes that the kernels do not take.
    #[error("{0:?}: query heads must be a multiple of shared ones, and a head's size of 16")]
    Heads(Heads),
    /// Tensors do not fit each other.
    #[error("{0} do not fit the heads")]
    Shape(&'static str),
    /// A row is of no sequence of the cache, or beyond its end or that of the table of angles.
    #[error("a row of sequence {sequence} at position {position}, in a cache of {sequences} with room for {room}")]
    Place {
        /// The row's.
        sequence: i32,
        /// The row's.
        position: i32,
        /// Sequences in the cache.
        sequences: usize,
        /// Positions of each, and of the table of angles.
        room: usize,
    },
}

/// Appends rows' keys and values to the cache, and gives what each row sees: `to` `[rows, queries * size]`. `sequences` are as
/// many as the cache has.
///
/// # Errors
/// [`AttentionError`] when the lengths do not fit. Nothing is written then.
///
/// # Panics
/// Where `to` is of another length.
pub fn append_and_attend(
    path: Path,
    heads: Heads,
    sequences: usize,
    mut appended: Appended<'_>,
    to: &mut [f32],
    pool: &dyn Pool,
) -> Result<(), AttentionError> {
    let capacity = appended.check(heads, sequences)?;
    let Heads { queries, shared, size } = heads;
    assert_eq!(to.len(), appended.positions.len() * queries * size, "there is room for what each row sees");
    append(path, heads, capacity, &mut appended);
    let Appended { rows, sequences, positions, keys, values, cosines, sines } = appended;
    let (keys, values, count, group) = (&*keys, &*values, positions.len(), queries / shared);
    #[allow(clippy::cast_precision_loss, reason = "a head is short")]
    let scale = 1.0 / (size as f32).sqrt();
    let results = Parts::new(to, group * size);
    pool.run(count * shared, &|part| {
        // A head's rows one after the other, while its keys and values are in a cache.
        let (head, first) = (part / count, part % count);
        let together = together(sequences, positions, first);
        if together == 0 {
            return;
        }
        let (sequence, tokens) = (whole(sequences[first]), whole(positions[first]) + together);
        let seen = (sequence * shared + head) * capacity * size..;
        let (keys, values) = (&keys[seen.clone()][..tokens * size], &values[seen][..tokens * size]);
        SCRATCH.with_borrow_mut(|scratch| {
            // As much as this head may ever need: it does not grow with the text.
            let [each, scores] = [size, capacity.next_multiple_of(LANES)].map(|each| TOGETHER * group * each);
            scratch.reserve((TOKENS * size + 2 * each + scores).saturating_sub(scratch.len()));
            let [each, scores] = [size, tokens.next_multiple_of(LANES)].map(|each| together * group * each);
            scratch.resize(TOKENS * size + 2 * each + scores, 0.0);
            let (room, rest) = scratch.split_at_mut(TOKENS * size);
            let (queries_of, rest) = rest.split_at_mut(each);
            let (to, scores) = rest.split_at_mut(each);
            for (row, to) in queries_of.chunks_exact_mut(group * size).enumerate() {
                let x = &rows[(first + row) * (queries + 2 * shared) * size..][head * group * size..][..group * size];
                let [cosines, sines] = [cosines, sines].map(|all| of_position(all, positions[first + row], size));
                for (query, to) in x.chunks_exact(size).zip(to.chunks_exact_mut(size)) {
                    rotate(path, query, cosines, sines, scale, to);
                }
            }
            let mut attended = Attended { rows: together, heads: group, size, tokens, queries: queries_of, scores, to };
            // SAFETY: the lengths were checked, and each row sees itself at least; and the path is there, so the processor has
            // its instructions.
            unsafe { (path.kernels().attention.attend)(&mut attended, keys, values, room) }
            for (row, from) in to.chunks_exact(group * size).enumerate() {
                // SAFETY: no other part has these rows of this head.
                unsafe { results.take((first + row) * shared + head) }.copy_from_slice(from);
            }
        });
    });
    Ok(())
}

/// Writes each row's keys and values to its place.
fn append(path: Path, heads: Heads, capacity: usize, appended: &mut Appended<'_>) {
    let Heads { queries, shared, size } = heads;
    let Appended { rows, sequences, positions, keys, values, cosines, sines } = appended;
    for (row, x) in rows.chunks_exact((queries + 2 * shared) * size).enumerate() {
        let (sequence, position) = (whole(sequences[row]), positions[row]);
        let [cosines, sines] = [*cosines, *sines].map(|all| of_position(all, position, size));
        let (key, value) = x[queries * size..].split_at(shared * size);
        for (head, (key, value)) in key.chunks_exact(size).zip(value.chunks_exact(size)).enumerate() {
            let at = ((sequence * shared + head) * capacity + whole(position)) * size;
            SCRATCH.with_borrow_mut(|turned| {
                turned.resize(turned.len().max(size), 0.0);
                rotate(path, key, cosines, sines, 1.0, &mut turned[..size]);
                keep(path, &turned[..size], &mut keys[at..][..size]);
            });
            keep(path, value, &mut values[at..][..size]);
        }
    }
}

/// How many rows from `first` on follow each other in one sequence, if `first` is the first of them: a multiple of [`TOGETHER`]
/// begins anew, so that each row can tell by the one before.
fn together(sequences: &[i32], positions: &[i32], first: usize) -> usize {
    let follows = |row: usize| {
        sequences[row] == sequences[row - 1]
            && positions[row] == positions[row - 1] + 1
            && !whole(positions[row]).is_multiple_of(TOGETHER)
    };
    if first > 0 && follows(first) {
        return 0;
    }
    1 + (first + 1..positions.len()).take_while(|row| follows(*row)).count()
}

/// Angles of a position.
fn of_position(all: &[f32], position: i32, size: usize) -> &[f32] {
    &all[whole(position) * (size / 2)..][..size / 2]
}

/// Turns a head by a position's angles.
fn rotate(path: Path, head: &[f32], cosines: &[f32], sines: &[f32], scale: f32, to: &mut [f32]) {
    let half = cosines.len();
    assert!(half.is_multiple_of(LANES) && sines.len() == half && head.len() == 2 * half && to.len() == 2 * half);
    // SAFETY: the processor has the path's instructions; the lengths fit.
    unsafe { (path.kernels().attention.rotate)(head, cosines, sines, scale, to) }
}

/// Makes a head's numbers those of the cache.
fn keep(path: Path, head: &[f32], to: &mut [f16]) {
    assert!(head.len().is_multiple_of(LANES) && to.len() == head.len());
    // SAFETY: the processor has the path's instructions; the lengths fit.
    unsafe { (path.kernels().attention.keep)(head, to) }
}

thread_local! {
    /// A turned key; or turned queries, and their scores. It stays with the thread, so that a run allocates nothing.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl Appended<'_> {
    /// Room for tokens of each sequence, if all fits.
    fn check(&self, heads: Heads, sequences: usize) -> Result<usize, AttentionError> {
        let Heads { queries, shared, size } = heads;
        let shared_by_all = shared > 0 && queries > 0 && queries.is_multiple_of(shared);
        if !shared_by_all || size == 0 || !size.is_multiple_of(2 * LANES) {
            return Err(AttentionError::Heads(heads));
        }
        let count = self.positions.len();
        let row = shared.checked_mul(2).and_then(|both| both.checked_add(queries)?.checked_mul(size));
        let all = row.and_then(|row| row.checked_mul(count));
        if all != Some(self.rows.len()) || self.sequences.len() != count {
            return Err(AttentionError::Shape("rows"));
        }
        let of_token = sequences.checked_mul(shared).and_then(|heads| heads.checked_mul(size)).unwrap_or_default();
        if of_token == 0 || !self.keys.len().is_multiple_of(of_token) || self.values.len() != self.keys.len() {
            return Err(AttentionError::Shape("keys and values"));
        }
        if !self.cosines.len().is_multiple_of(size / 2) || self.sines.len() != self.cosines.len() {
            return Err(AttentionError::Shape("angles"));
        }
        let capacity = self.keys.len() / of_token;
        let room = capacity.min(self.cosines.len() / (size / 2));
        let is_below = |number: i32, bound| usize::try_from(number).is_ok_and(|number| number < bound);
        for (sequence, position) in self.sequences.iter().copied().zip(self.positions.iter().copied()) {
            if !is_below(sequence, sequences) || !is_below(position, room) {
                return Err(AttentionError::Place { sequence, position, sequences, room });
            }
        }
        Ok(capacity)
    }
}

/// What was found not to be negative.
fn whole(number: i32) -> usize {
    usize::try_from(number).expect("it was checked")
}
