//! Products with a bias, and GELU of them.

#![allow(unsafe_code)]

use crate::{
    Activations, Matrix, Path, Pool, TILE,
    lanes::Vector,
    product::{Results, each_panel, multiply_tile},
};

/// What is made of a product and its bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Their sum.
    None,
    /// `x * Φ(x)` of their sum, where Φ is the normal distribution's.
    Gelu,
}

/// [`crate::multiply`], and then adds `bias` `[outputs]` and applies `activation`.
///
/// # Panics
/// Where the lengths do not fit.
pub fn multiply_and_activate(
    path: Path,
    x: &Activations,
    w: &Matrix<'_>,
    (bias, activation): (&[f32], Activation),
    y: &mut [f32],
    pool: &dyn Pool,
) {
    assert_eq!(bias.len(), w.outputs(), "there is a bias for each output");
    assert_eq!(Some(y.len()), x.rows().checked_mul(w.outputs()), "there is room for each result");
    let finish = match activation {
        Activation::None => path.kernels().encoder.bias,
        Activation::Gelu => path.kernels().encoder.bias_and_gelu,
    };
    let (results, biases) = (Results::new(y, w.outputs()), bias.as_chunks::<TILE>().0);
    each_panel(x, w, w.outputs() / TILE, pool, &|x, row, tile| {
        // SAFETY: each tile is somebody's once, and there is room for it in each row; and the path is there, so the processor
        // has its instructions.
        unsafe {
            let y = results.at(row, tile * TILE);
            multiply_tile(path, x, w, tile, y, results.stride);
            finish(&biases[tile], y, x.count, results.stride);
        }
    });
}

/// `y = y + bias`, of some rows' results of a tile, the rows of which begin `stride` numbers apart.
///
/// # Safety
/// As of [`Vector`]; the results are there, and nobody else uses them.
#[inline(always)]
pub(crate) unsafe fn bias_tile<L: Vector>(bias: &[f32; TILE], y: *mut f32, rows: usize, stride: usize) {
    for row in 0..rows {
        for i in (0..TILE).step_by(L::COUNT) {
            // SAFETY: the caller's.
            unsafe {
                let y = y.add(row * stride + i);
                L::load(y).add(L::load(bias.as_ptr().add(i))).store(y);
            }
        }
    }
}

/// `y = gelu(y + bias)`.
///
/// # Safety
/// As of [`bias_tile`].
#[inline(always)]
pub(crate) unsafe fn bias_and_gelu_tile<L: Vector>(bias: &[f32; TILE], y: *mut f32, rows: usize, stride: usize) {
    for row in 0..rows {
        for i in (0..TILE).step_by(L::COUNT) {
            // SAFETY: the caller's.
            unsafe {
                let y = y.add(row * stride + i);
                gelu(L::load(y).add(L::load(bias.as_ptr().add(i)))).store(y);
            }
        }
    }
}

/// Beyond it, Φ is 0 or 1 to float32.
const END: f32 = 5.5;
/// Of `Φ(x) - 1/2 = x * numerator(x²) / denominator(x²)`, the highest power first: within 2e-8 up to [`END`], where it is 1/2.
const NUMERATOR: [f32; 7] =
    [1.117_574_4e-10, -2.208_231_5e-8, 3.241_058_5e-6, 1.703_738e-4, 4.509_163_6e-3, 3.592_222e-2, 0.398_942_14];
const DENOMINATOR: [f32; 5] = [6.232_645e-5, 1.830_642_7e-3, 2.909_149_6e-2, 2.567_082_3e-1, 1.0];

/// # Safety
/// As of [`Vector`].
#[inline(always)]
unsafe fn gelu<L: Vector>(x: L) -> L {
    // SAFETY: the caller's.
    unsafe {
        // In this order, NaN is the result of both.
        let near = L::splat(-END).max(L::splat(END).min(x));
        let square = near.mul(near);
        let mut numerator = L::splat(NUMERATOR[0]);
        for coefficient in &NUMERATOR[1..] {
            numerator = numerator.fma(square, L::splat(*coefficient));
        }
        let mut denominator = L::splat(DENOMINATOR[0]);
        for coefficient in &DENOMINATOR[1..] {
            denominator = denominator.fma(square, L::splat(*coefficient));
        }
        let share = near.mul(numerator).div(denominator).add(L::splat(0.5));
        x.mul(share)
    }
}
