//! Eight float32 numbers at once, so that what stands between the products is written once for all instructions.
//!
//! Each operation is one rounding of IEEE 754 by lane, and [`Lanes::total`] adds the lanes in one order: the same code gives the
//! same bits by any of them.

#![allow(unsafe_code)]

use std::array;

use half::f16;

/// How many there are.
pub(crate) const LANES: usize = 8;
/// Numbers of the widest register.
const WIDEST: usize = 16;

/// Numbers of one register, of which each is computed by itself: so how many there are changes no bit.
///
/// # Safety
/// Of every function: the processor has the instructions; and of those that take a pointer, so many numbers are there.
pub trait Vector: Copy {
    /// How many there are.
    const COUNT: usize;

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// `self * factor + addend`, rounded once.
    unsafe fn fma(self, factor: Self, addend: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `self` where it is less, else `other`: also where one is NaN.
    unsafe fn min(self, other: Self) -> Self;
    /// `self` where it is more, else `other`: also where one is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// To the nearest whole number, ties to even. Below 2²³ in magnitude.
    unsafe fn round(self) -> Self;
    /// Times two to the power of whole numbers, where neither is beyond float32's normal range.
    unsafe fn scale_by_power(self, exponents: Self) -> Self;
}

/// Eight numbers, and what is the same only of as many.
///
/// # Safety
/// As of [`Vector`].
pub trait Lanes: Vector {
    unsafe fn load_half(from: *const f16) -> Self;
    /// To the nearest, ties to even.
    unsafe fn store_half(self, to: *mut f16);
    /// Neighbours of a distance of four are added first, then of two, then of one.
    unsafe fn total(self) -> f32;
    /// [`Lanes::total`] of each.
    unsafe fn totals(of: [Self; LANES]) -> Self;
}

/// The definition.
#[derive(Clone, Copy)]
pub(crate) struct Plain([f32; LANES]);

impl Plain {
    fn zip(self, other: Self, of: impl Fn(f32, f32) -> f32) -> Self {
        Self(array::from_fn(|lane| of(self.0[lane], other.0[lane])))
    }
}

impl Vector for Plain {
    const COUNT: usize = LANES;

    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { from.cast::<[f32; LANES]>().read() })
    }
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[f32; LANES]>().write(self.0) }
    }
    unsafe fn fma(self, factor: Self, addend: Self) -> Self {
        Self(array::from_fn(|lane| self.0[lane].mul_add(factor.0[lane], addend.0[lane])))
    }
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    unsafe fn round(self) -> Self {
        Self(self.0.map(f32::round_ties_even))
    }
    unsafe fn scale_by_power(self, exponents: Self) -> Self {
        #[allow(clippy::cast_possible_truncation, reason = "a small whole number")]
        let shift = |exponent: f32| ((exponent as i32) << 23).cast_unsigned();
        self.zip(exponents, |value, exponent| f32::from_bits(value.to_bits().wrapping_add(shift(exponent))))
    }
}

impl Lanes for Plain {
    unsafe fn load_half(from: *const f16) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { from.cast::<[f16; LANES]>().read() }.map(f16::to_f32))
    }
    unsafe fn store_half(self, to: *mut f16) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[f16; LANES]>().write(self.0.map(f16::from_f32)) }
    }
    unsafe fn total(self) -> f32 {
        let [a, b, c, d, e, f, g, h] = self.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
    unsafe fn totals(of: [Self; LANES]) -> Self {
        // SAFETY: it needs no special instructions.
        Self(of.map(|lanes| unsafe { lanes.total() }))
    }
}

/// e to the power of `x`, within 2 units in the last place, of -87 to 88; beyond, that of the bound. NaN stays NaN.
///
/// By Cephes' polynomial of degree 7 on what `x` is more than the nearest multiple of ln 2.
///
/// # Safety
/// As of [`Vector`].
#[inline(always)]
pub(crate) unsafe fn exp<L: Vector>(x: L) -> L {
    // SAFETY: the caller's.
    unsafe {
        // In this order, NaN is the result of both.
        let x = L::splat(-87.0).max(L::splat(88.0).min(x));
        let n = x.mul(L::splat(std::f32::consts::LOG2_E)).round();
        // ln 2 in two parts, of which the first has so few digits that its multiples are exact.
        let r = n.fma(L::splat(-0.693_359_4), x);
        let r = n.fma(L::splat(2.121_944_4e-4), r);
        let mut p = L::splat(1.987_569_2e-4);
        for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = p.fma(r, L::splat(coefficient));
        }
        p.fma(r.mul(r), r).add(L::splat(1.0)).scale_by_power(n)
    }
}

/// Makes a softmax of the first `count` scores, but for the division by their sum, which it gives. Behind them are zeros.
///
/// # Safety
/// As of [`Vector`]; the scores are whole vectors, of [`LANES`] numbers or a multiple.
#[inline(always)]
pub(crate) unsafe fn exponentials<L: Lanes, W: Vector>(scores: &mut [f32], count: usize) -> f32 {
    scores[count..].fill(f32::NEG_INFINITY);
    let numbers = scores.len();
    // SAFETY: the caller's.
    unsafe {
        let mut most = W::splat(f32::NEG_INFINITY);
        for i in (0..numbers).step_by(W::COUNT) {
            most = W::load(scores.as_ptr().add(i)).max(most);
        }
        // NaN makes every weight NaN, whichever is the largest.
        let mut lanes = [f32::NEG_INFINITY; WIDEST];
        most.store(lanes.as_mut_ptr());
        let most = lanes.into_iter().fold(f32::NEG_INFINITY, |most, lane| if lane > most { lane } else { most });
        for i in (0..numbers).step_by(W::COUNT) {
            exp(W::load(scores.as_ptr().add(i)).sub(W::splat(most))).store(scores.as_mut_ptr().add(i));
        }
        scores[count..].fill(0.0);
        let mut sum = L::splat(0.0);
        for i in (0..numbers).step_by(LANES) {
            sum = sum.add(L::load(scores.as_ptr().add(i)));
        }
        sum.total()
    }
}

/// Writes out what is made of [`Lanes`] for a path: each function compiled for its instructions.
macro_rules! of_lanes {
    ($lanes:ty $(, $features:literal)?) => {
        $(#[target_feature(enable = $features)])?
        unsafe fn add(x: &[f32], addend: &[f32], to: &mut [f32]) {
            // SAFETY: the caller's.
            unsafe { crate::rows::add_row::<$lanes>(x, addend, to) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn norm(x: &[f32], weight: &[f32], epsilon: f32, to: &mut [f32]) {
            // SAFETY: the caller's.
            unsafe { crate::rows::norm_row::<$lanes>(x, weight, epsilon, to) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn swiglu(gate: &[f32], up: &[f32], to: &mut [f32]) {
            // SAFETY: the caller's.
            unsafe { crate::rows::swiglu_row::<$lanes>(gate, up, to) }
        }
        mod cached {
            use super::*;
            crate::attend::of_cache!($lanes, $lanes $(, $features)?);
        }
    };
}
pub(crate) use of_lanes;
