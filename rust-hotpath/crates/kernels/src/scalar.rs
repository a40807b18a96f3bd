//! The definition of every result, to the last bit.

#![allow(unsafe_code)]

use std::array;

use crate::{
    BLOCK, TILE,
    activations::{self, GROUP, Group, Quantize},
    encoder::kernels_of_lanes,
    lanes::{Plain, of_lanes},
    layout::{Block4, Block8},
    path::Kernels,
};

pub(crate) static KERNELS: Kernels = Kernels {
    name: "scalar",
    quantize,
    product4,
    product8,
    add,
    norm,
    swiglu,
    attention: cached::KERNELS,
    encoder: kernels_of_lanes!(Plain, Plain),
};

of_lanes!(Plain);

struct Scalar;

impl Quantize for Scalar {
    unsafe fn largest_magnitude(x: &[f32; BLOCK]) -> u32 {
        x.iter().map(|x| x.abs().to_bits()).fold(0, u32::max)
    }

    unsafe fn quantize(x: &[f32; BLOCK], inverse: f32) -> ([[i8; 4]; BLOCK / 4], i32) {
        #[allow(clippy::cast_possible_truncation, reason = "from -127 to 127")]
        let q: [[i8; 4]; 8] = array::from_fn(|j| array::from_fn(|i| (x[4 * j + i] * inverse).round_ties_even() as i8));
        (q, q.as_flattened().iter().map(|q| i32::from(*q)).sum())
    }
}

unsafe fn quantize(x: &[[f32; BLOCK]], groups: &mut [Group], row: usize) {
    // SAFETY: it needs no special instructions.
    unsafe { activations::quantize::<Scalar>(x, groups, row) }
}

/// Multiplies some rows, at most [`crate::product::ROWS`], with one tile. `x` is their groups, each as many blocks as `w` has; row
/// `r` of the result begins at `y + r * stride`.
///
/// # Safety
/// There are so many rows in `x`, and room for [`TILE`] results of each of them, that nobody else uses; and of other sets of
/// kernels, the processor has the instructions.
unsafe fn product4(x: &[Group], rows: usize, w: &[Block4], y: *mut f32, stride: usize) {
    let of = |x: &[Group], row, output| {
        let mut result = 0.0f32;
        for (x, w) in x.iter().zip(w) {
            let sum: i32 = (0..BLOCK).map(|input| i32::from(w.code(output, input)) * q(x, row, input)).sum();
            let (scale, offset) = w.scale_and_offset(output);
            result = (scale * x.scale[row]).mul_add(exact(sum), result);
            result = offset.mul_add(x.sum[row], result);
        }
        result
    };
    // SAFETY: the caller's.
    unsafe { fill(x, rows, w.len(), of, y, stride) }
}

/// The same of weights of 8 bits.
///
/// # Safety
/// As of [`product4`].
unsafe fn product8(x: &[Group], rows: usize, w: &[Block8], y: *mut f32, stride: usize) {
    let of = |x: &[Group], row, output| {
        let mut result = 0.0f32;
        for (x, w) in x.iter().zip(w) {
            let sum: i32 = (0..BLOCK).map(|input| i32::from(w.code(output, input)) * q(x, row, input)).sum();
            result = (w.scale(output) * x.scale[row]).mul_add(exact(sum - x.centre[row]), result);
        }
        result
    };
    // SAFETY: the caller's.
    unsafe { fill(x, rows, w.len(), of, y, stride) }
}

/// Puts every result of a tile in its place.
///
/// # Safety
/// As of [`product4`].
unsafe fn fill(
    x: &[Group],
    rows: usize,
    blocks: usize,
    of: impl Fn(&[Group], usize, usize) -> f32,
    y: *mut f32,
    stride: usize,
) {
    for row in 0..rows {
        let x = &x[row / GROUP * blocks..][..blocks];
        for output in 0..TILE {
            // SAFETY: the caller's.
            unsafe { *y.add(row * stride + output) = of(x, row % GROUP, output) };
        }
    }
}

fn q(x: &Group, row: usize, input: usize) -> i32 {
    i32::from(x.q[input / 4][row][input % 4])
}

/// A sum of a block's products is below 2²⁴.
#[allow(clippy::cast_precision_loss)]
fn exact(sum: i32) -> f32 {
    sum as f32
}
