//! Rows, quantized to 8-bit integers block by block.
//!
//! Of a block, `scale` is its largest magnitude ÷ 127 and `q[i]` is `x[i] * (127 / largest)`, rounded to the nearest and ties to
//! even: from −127 to 127. A block whose magnitudes are all below [`SMALLEST`] is zeros, as the inverse would overflow. One that
//! holds an infinity or NaN has no integers, and makes every result of its row NaN.

#![allow(unsafe_code)]

use std::mem;

use crate::{
    BLOCK, Caller, Path, Pool,
    layout::CENTRE,
    parts::Parts,
    rows::{add, norm},
};

/// Rows that lie together.
pub(crate) const GROUP: usize = 4;
/// Largest magnitude of `q`.
pub(crate) const LARGEST: f32 = 127.0;
/// What is smaller counts as nothing.
pub const SMALLEST: f32 = 1e-30;

/// Four rows of one block.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Group {
    /// `[input / 4][row][input % 4]`
    pub q: [[[i8; 4]; GROUP]; BLOCK / 4],
    pub scale: [f32; GROUP],
    /// `scale * Σq`
    pub sum: [f32; GROUP],
    /// `128 * Σq`, which is how much the codes of 8 bits give too much.
    pub centre: [i32; GROUP],
}

const NOTHING: Group =
    Group { q: [[[0; 4]; GROUP]; BLOCK / 4], scale: [0.0; GROUP], sum: [0.0; GROUP], centre: [0; GROUP] };

/// Fewer numbers are quantized by the calling thread: to wake others takes as long.
const SHARED: usize = 16 << 10;

/// Quantized rows `[rows, inputs]`. It keeps its memory, so that quantizing as many rows again allocates nothing.
#[derive(Debug, Default)]
pub struct Activations {
    /// Group after group of rows, and in it block after block.
    groups: Vec<Group>,
    rows: usize,
    inputs: usize,
    /// Rows on their way from the norm to their integers.
    normed: Vec<f32>,
    /// Sums that nobody else keeps.
    unwanted: Vec<f32>,
}

/// Rows that are quantized after they were added up and normalised.
#[derive(Debug)]
pub struct Normed<'a> {
    /// `[rows, inputs]`
    pub x: &'a [f32],
    /// What is added to `x`, if anything, as long as that.
    pub addend: Option<&'a [f32]>,
    /// Where the sum is kept, if it is wanted.
    pub sums: Option<&'a mut [f32]>,
    /// By input.
    pub weight: &'a [f32],
    /// As of [`norm`].
    pub epsilon: f32,
}

impl Activations {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Quantizes rows `x` `[rows, inputs]`.
    ///
    /// # Panics
    /// Where `inputs` are no whole blocks, or `x` no whole rows.
    pub fn quantize(&mut self, path: Path, x: &[f32], inputs: usize, pool: &dyn Pool) {
        self.quantize_each(path, x.len(), inputs, pool, &|row| &x[row * inputs..][..inputs]);
    }

    /// Quantizes what [`norm`] makes of rows, or of their sum with others.
    ///
    /// # Panics
    /// Where the lengths differ, a row is no whole blocks, or there are no whole rows.
    pub fn quantize_normed(&mut self, path: Path, rows: Normed<'_>, pool: &dyn Pool) {
        let Normed { x, addend, sums, weight, epsilon } = rows;
        let inputs = weight.len();
        let fits = addend.is_none_or(|addend| addend.len() == x.len());
        assert!(fits && sums.as_ref().is_none_or(|sums| sums.len() == x.len()), "a sum is as long as what is added");
        let [mut normed, mut unwanted] = [&mut self.normed, &mut self.unwanted].map(mem::take);
        normed.resize(x.len(), 0.0);
        let sums = match sums {
            None if addend.is_some() => {
                unwanted.resize(x.len(), 0.0);
                Some(&mut unwanted[..])
            }
            sums => sums,
        };
        let (parts, sums) = (Parts::new(&mut normed, inputs), sums.map(|sums| Parts::new(sums, inputs)));
        self.quantize_each(path, x.len(), inputs, pool, &|row| {
            let of_row = row * inputs..(row + 1) * inputs;
            let mut x = &x[of_row.clone()];
            // SAFETY: a row is asked for once.
            let (normed, sum) = unsafe { (parts.take(row), sums.as_ref().map(|sums| sums.take(row))) };
            if let Some(sum) = sum {
                match addend {
                    Some(addend) => add(path, x, &addend[of_row], sum),
                    None => sum.copy_from_slice(x),
                }
                x = sum;
            }
            norm(path, x, weight, epsilon, normed);
            normed
        });
        (self.normed, self.unwanted) = (normed, unwanted);
    }

    /// Quantizes rows, each of which is asked for once, by whichever thread quantizes it.
    pub(crate) fn quantize_each<'a>(
        &mut self,
        path: Path,
        numbers: usize,
        inputs: usize,
        pool: &dyn Pool,
        x: &(dyn Fn(usize) -> &'a [f32] + Sync),
    ) {
        assert!(inputs > 0 && inputs.is_multiple_of(BLOCK), "{inputs} inputs are no whole blocks of {BLOCK}");
        assert!(numbers.is_multiple_of(inputs), "{numbers} values are no whole rows of {inputs}");
        (self.rows, self.inputs) = (numbers / inputs, inputs);
        let (rows, blocks) = (self.rows, inputs / BLOCK);
        self.groups.resize(rows.div_ceil(GROUP) * blocks, NOTHING);
        let groups = Parts::new(&mut self.groups, blocks);
        let pool = if numbers < SHARED { &Caller } else { pool };
        pool.run(rows.div_ceil(GROUP), &|group| {
            // SAFETY: a pool runs each part once.
            let to = unsafe { groups.take(group) };
            for row in group * GROUP..rows.min((group + 1) * GROUP) {
                path.quantize(x(row).as_chunks().0, to, row % GROUP);
            }
        });
    }

    /// Bytes of memory that it keeps.
    #[must_use]
    pub fn kept(&self) -> usize {
        size_of::<Group>() * self.groups.capacity()
            + size_of::<f32>() * (self.normed.capacity() + self.unwanted.capacity())
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Length of a row.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups
    }
}

/// What instructions find out of a block.
pub(crate) trait Quantize {
    /// The largest magnitude, as bits: as integers, magnitudes are ordered as the numbers are, and NaN is above all.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn largest_magnitude(x: &[f32; BLOCK]) -> u32;

    /// `x * inverse` rounded, four by four, and the sum of it all. No product is beyond [`LARGEST`].
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn quantize(x: &[f32; BLOCK], inverse: f32) -> ([[i8; 4]; BLOCK / 4], i32);
}

/// Quantizes a row's blocks into one row of the groups.
///
/// # Safety
/// The processor has the instructions of `Q`.
#[inline(always)] // into a function that is compiled for those instructions
pub(crate) unsafe fn quantize<Q: Quantize>(x: &[[f32; BLOCK]], groups: &mut [Group], row: usize) {
    for (x, group) in x.iter().zip(groups) {
        // SAFETY: the caller's.
        let largest = f32::from_bits(unsafe { Q::largest_magnitude(x) });
        let (q, sum) = if largest.is_finite() && largest >= SMALLEST {
            // SAFETY: the caller's.
            unsafe { Q::quantize(x, LARGEST / largest) }
        } else {
            ([[0; 4]; BLOCK / 4], 0)
        };
        for (to, q) in group.q.iter_mut().zip(q) {
            to[row] = q;
        }
        group.scale[row] = match largest {
            _ if !largest.is_finite() => f32::NAN,
            _ if largest < SMALLEST => 0.0,
            _ => largest / LARGEST,
        };
        #[allow(clippy::cast_precision_loss, reason = "at most 32 * 127")]
        (group.sum[row] = group.scale[row] * sum as f32);
        group.centre[row] = CENTRE * sum;
    }
}
