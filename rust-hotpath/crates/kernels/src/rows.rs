//! What stands between the products: residual, norm, gate. Each row by itself.

#![allow(unsafe_code)]

use crate::{
    Path,
    lanes::{LANES, Lanes, exp},
};

/// `to = x + addend`.
///
/// # Panics
/// Where the lengths differ, or are no multiple of eight.
pub fn add(path: Path, x: &[f32], addend: &[f32], to: &mut [f32]) {
    assert!(addend.len() == x.len() && to.len() == x.len() && x.len().is_multiple_of(LANES));
    // SAFETY: the processor has the path's instructions, and all three are as long.
    unsafe { (path.kernels().add)(x, addend, to) }
}

/// `to = x / rms(x) * weight`, where `rms` is the root of a row's mean square plus `epsilon`.
///
/// # Panics
/// Where `x` and `to` are no rows as long as `weight`, or that is no multiple of eight.
pub fn norm(path: Path, x: &[f32], weight: &[f32], epsilon: f32, to: &mut [f32]) {
    let size = weight.len();
    assert!(size > 0 && size.is_multiple_of(LANES), "{size} is no multiple of {LANES}");
    assert!(x.len().is_multiple_of(size) && to.len() == x.len());
    for (x, to) in x.chunks_exact(size).zip(to.chunks_exact_mut(size)) {
        // SAFETY: the processor has the path's instructions, and all three are as long.
        unsafe { (path.kernels().norm)(x, weight, epsilon, to) }
    }
}

/// `to = gate / (1 + e^-gate) * up`.
///
/// # Panics
/// Where the lengths differ, or are no multiple of eight.
pub fn swiglu(path: Path, gate: &[f32], up: &[f32], to: &mut [f32]) {
    assert!(gate.len() == up.len() && to.len() == gate.len() && gate.len().is_multiple_of(LANES));
    // SAFETY: the processor has the path's instructions, and all three are as long.
    unsafe { (path.kernels().swiglu)(gate, up, to) }
}

/// [`add`].
///
/// # Safety
/// As of [`Lanes`]; all are of one length, which is a multiple of [`LANES`].
#[inline(always)]
pub(crate) unsafe fn add_row<L: Lanes>(x: &[f32], addend: &[f32], to: &mut [f32]) {
    for i in (0..x.len()).step_by(LANES) {
        // SAFETY: the caller's.
        unsafe { L::load(x.as_ptr().add(i)).add(L::load(addend.as_ptr().add(i))).store(to.as_mut_ptr().add(i)) }
    }
}

/// One row of [`norm`].
///
/// # Safety
/// As of [`add_row`].
#[inline(always)]
pub(crate) unsafe fn norm_row<L: Lanes>(x: &[f32], weight: &[f32], epsilon: f32, to: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe {
        let mut squares = L::splat(0.0);
        for i in (0..x.len()).step_by(LANES) {
            let x = L::load(x.as_ptr().add(i));
            squares = x.fma(x, squares);
        }
        #[allow(clippy::cast_precision_loss, reason = "a row is shorter than 2^24")]
        let scale = L::splat(1.0 / (squares.total() / x.len() as f32 + epsilon).sqrt());
        for i in (0..x.len()).step_by(LANES) {
            let scaled = L::load(x.as_ptr().add(i)).mul(scale);
            scaled.mul(L::load(weight.as_ptr().add(i))).store(to.as_mut_ptr().add(i));
        }
    }
}

/// [`swiglu`].
///
/// # Safety
/// As of [`add_row`].
#[inline(always)]
pub(crate) unsafe fn swiglu_row<L: Lanes>(gate: &[f32], up: &[f32], to: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe {
        for i in (0..gate.len()).step_by(LANES) {
            let gate = L::load(gate.as_ptr().add(i));
            let below = L::splat(1.0).add(exp(L::splat(-0.0).sub(gate)));
            gate.div(below).mul(L::load(up.as_ptr().add(i))).store(to.as_mut_ptr().add(i));
        }
    }
}
