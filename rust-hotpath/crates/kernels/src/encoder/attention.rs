//! Attention within the texts of a packed batch: each row sees all rows of its own text, before and behind it, and no others.

#![allow(unsafe_code)]

use std::{cell::RefCell, ops::Range};

use crate::{
    Path, Pool,
    lanes::{LANES, Lanes, Vector, exponentials},
    product::Results,
};

/// Rows whose queries are computed together.
const ROWS: usize = 4;
/// Vectors of tokens, or of numbers of a head, that are computed together.
const VECTORS: usize = 2;

/// Why rows are no packed batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PackingError {
    /// The kernels take no such heads, or the rows have others.
    #[error(
        "{rows} numbers in {tokens} rows are not queries, keys and values of {heads} heads of {size}, a multiple of 8"
    )]
    Shape {
        /// Numbers of all rows.
        rows: usize,
        /// Positions.
        tokens: usize,
        /// As they were given.
        heads: usize,
        /// As it was given.
        size: usize,
    },
    /// A row neither begins a text, at position 0, nor follows the one before it.
    #[error("row {row} is at position {position}, which neither begins a text nor goes on with one")]
    Position {
        /// Its number.
        row: usize,
        /// As it was given.
        position: i64,
    },
}

/// What each row sees of its text, `to` `[rows, heads * size]`. `rows` are queries, keys and values `[rows, 3 * heads * size]`,
/// the queries scaled. `positions` `[rows]` are those within the texts: where they begin with 0 again, so does a text.
///
/// # Errors
/// [`PackingError`] when the lengths do not fit, or the positions. Nothing is written then.
///
/// # Panics
/// Where `to` is of another length.
pub fn attend_texts(
    path: Path,
    (heads, size): (usize, usize),
    rows: &[f32],
    positions: &[i64],
    to: &mut [f32],
    pool: &dyn Pool,
) -> Result<(), PackingError> {
    let tokens = positions.len();
    let all = heads.checked_mul(size).and_then(|width| width.checked_mul(3)?.checked_mul(tokens));
    if size == 0 || heads == 0 || !size.is_multiple_of(LANES) || all != Some(rows.len()) {
        return Err(PackingError::Shape { rows: rows.len(), tokens, heads, size });
    }
    let width = heads * size;
    assert_eq!(to.len(), tokens * width, "there is room for what each row sees");
    TEXTS.with_borrow_mut(|texts| {
        find_texts(positions, texts)?;
        let results = Results::new(to, width);
        let texts = &*texts;
        pool.run(texts.len() * heads, &|part| {
            let (text, head) = (texts[part / heads].clone(), part % heads);
            let of_text = &rows[text.start * 3 * width..text.end * 3 * width];
            let of_head = Head { rows: of_text, number: head, heads, size };
            // SAFETY: the lengths fit; no other part has this head of this text; and the path is there, so the processor has its
            // instructions.
            ROOM.with_borrow_mut(|room| unsafe {
                let to = results.at(text.start, head * size);
                (path.kernels().encoder.attend)(&of_head, to, room);
            });
        });
        Ok(())
    })
}

fn find_texts(positions: &[i64], texts: &mut Vec<Range<usize>>) -> Result<(), PackingError> {
    texts.clear();
    let mut next = -1; // no row goes on with a text before there is one
    for (row, position) in positions.iter().copied().enumerate() {
        match texts.last_mut() {
            _ if position == 0 => texts.push(row..row + 1),
            Some(text) if position == next => text.end = row + 1,
            _ => return Err(PackingError::Position { row, position }),
        }
        next = position + 1;
    }
    Ok(())
}

thread_local! {
    /// It stays with the thread, so that a run allocates nothing.
    static ROOM: RefCell<Room> = RefCell::default();
    /// Rows of each text.
    static TEXTS: RefCell<Vec<Range<usize>>> = RefCell::default();
}

/// What one head of one text is computed in.
#[derive(Default)]
pub(crate) struct Room {
    /// `[size, tokens]`, so that a lane is a token.
    keys: Vec<f32>,
    /// `[tokens, size]`
    values: Vec<f32>,
    /// `[ROWS, tokens]`
    scores: Vec<f32>,
}

/// One head of one text.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    /// Queries, keys and values of all heads `[tokens, 3 * heads * size]`.
    rows: &'a [f32],
    number: usize,
    heads: usize,
    size: usize,
}

/// What each row of a text sees by one head. That of the text's row `r` begins at `to + r * heads * size`.
///
/// # Safety
/// As of [`Lanes`]; the lengths fit; and nobody else uses the results.
#[inline(always)]
pub(crate) unsafe fn attend_head<L: Lanes, W: Vector>(text: &Head<'_>, to: *mut f32, room: &mut Room) {
    let Head { rows, number: head, heads, size } = *text;
    let width = heads * size;
    let tokens = rows.len() / (3 * width);
    let padded = tokens.next_multiple_of(W::COUNT);
    room.keys.resize(size * padded, 0.0);
    room.values.resize(tokens * size, 0.0);
    room.scores.resize(ROWS * padded, 0.0);
    for (token, (row, value)) in rows.chunks_exact(3 * width).zip(room.values.chunks_exact_mut(size)).enumerate() {
        for (key, column) in row[width + head * size..][..size].iter().zip(room.keys.chunks_exact_mut(padded)) {
            column[token] = *key;
        }
        value.copy_from_slice(&row[2 * width + head * size..][..size]);
    }
    for first in (0..tokens).step_by(ROWS) {
        let queries = &rows[first * 3 * width + head * size..];
        // SAFETY: the caller's.
        unsafe {
            let to = to.add(first * width);
            match tokens - first {
                1 => attend_rows::<L, W, 1>(queries, 3 * width, size, tokens, room, to, width),
                2 => attend_rows::<L, W, 2>(queries, 3 * width, size, tokens, room, to, width),
                3 => attend_rows::<L, W, 3>(queries, 3 * width, size, tokens, room, to, width),
                _ => attend_rows::<L, W, ROWS>(queries, 3 * width, size, tokens, room, to, width),
            }
        }
    }
}

/// `R` rows, the queries of which begin `step` numbers apart, and the results `stride`.
#[inline(always)]
unsafe fn attend_rows<L: Lanes, W: Vector, const R: usize>(
    queries: &[f32],
    step: usize,
    size: usize,
    tokens: usize,
    room: &mut Room,
    to: *mut f32,
    stride: usize,
) {
    let padded = tokens.next_multiple_of(W::COUNT);
    // SAFETY: the caller's.
    unsafe {
        let mut token = 0;
        while token < padded {
            if token + VECTORS * W::COUNT <= padded {
                score::<W, R, VECTORS>(queries, step, size, &room.keys, padded, token, &mut room.scores);
                token += VECTORS * W::COUNT;
            } else {
                score::<W, R, 1>(queries, step, size, &room.keys, padded, token, &mut room.scores);
                token += W::COUNT;
            }
        }
        let mut inverses = [0.0; R];
        for (inverse, scores) in inverses.iter_mut().zip(room.scores.chunks_exact_mut(padded)) {
            *inverse = 1.0 / exponentials::<L, W>(scores, tokens);
        }
        let mut i = 0;
        while i < size {
            let (values, scores) = (&room.values, &room.scores);
            if i + VECTORS * W::COUNT <= size {
                weigh::<W, R, VECTORS>(values, size, i, scores, padded, &inverses, to, stride);
                i += VECTORS * W::COUNT;
            } else if i + W::COUNT <= size {
                weigh::<W, R, 1>(values, size, i, scores, padded, &inverses, to, stride);
                i += W::COUNT;
            } else {
                weigh::<L, R, 1>(values, size, i, scores, padded, &inverses, to, stride);
                i += LANES;
            }
        }
    }
}

/// Products of `R` queries with `N` vectors of keys, number after number of a head.
#[inline(always)]
unsafe fn score<L: Vector, const R: usize, const N: usize>(
    queries: &[f32],
    step: usize,
    size: usize,
    keys: &[f32],
    padded: usize,
    token: usize,
    scores: &mut [f32],
) {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[L::splat(0.0); N]; R];
        for i in 0..size {
            let mut some = [L::splat(0.0); N];
            for (n, some) in some.iter_mut().enumerate() {
                *some = L::load(keys.as_ptr().add(i * padded + token + n * L::COUNT));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let query = L::splat(*queries.get_unchecked(r * step + i));
                for (sum, keys) in sums.iter_mut().zip(some) {
                    *sum = keys.fma(query, *sum);
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (n, sum) in sums.into_iter().enumerate() {
                sum.store(scores.as_mut_ptr().add(r * padded + token + n * L::COUNT));
            }
        }
    }
}

/// The weighted sums of `N` vectors of the values from number `i` on, for `R` rows, token after token.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "one step of `attend_rows`")]
unsafe fn weigh<L: Vector, const R: usize, const N: usize>(
    values: &[f32],
    size: usize,
    i: usize,
    weights: &[f32],
    padded: usize,
    inverses: &[f32; R],
    to: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[L::splat(0.0); N]; R];
        for (token, value) in values.chunks_exact(size).enumerate() {
            let mut some = [L::splat(0.0); N];
            for (n, some) in some.iter_mut().enumerate() {
                *some = L::load(value.as_ptr().add(i + n * L::COUNT));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let weight = L::splat(*weights.get_unchecked(r * padded + token));
                for (sum, values) in sums.iter_mut().zip(some) {
                    *sum = weight.fma(values, *sum);
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (n, sum) in sums.into_iter().enumerate() {
                sum.mul(L::splat(inverses[r])).store(to.add(r * stride + i + n * L::COUNT));
            }
        }
    }
}
