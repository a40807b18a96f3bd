//! NEON, which every 64-bit Arm processor has; products by `sdot` where it is there: Graviton 2, Apple's M1, and what came later.
//!
//! `sdot` adds four products of signed bytes to 32 bits. Without it they are multiplied to 16 bits, where each fits, and added
//! in pairs. A register is a quarter of a tile, and one of activations holds four inputs of four rows.

#![allow(unsafe_code)]
#![allow(clippy::wildcard_imports, reason = "an instruction each")]
#![allow(clippy::needless_range_loop, reason = "several arrays by one number, in an order that is meant")]

use std::{
    arch::{aarch64::*, asm, is_aarch64_feature_detected},
    mem,
};

use ::half::f16;

use crate::{
    BLOCK,
    activations::{self, GROUP, Group, Quantize},
    encoder::kernels_of_lanes,
    lanes::{LANES, Lanes, Vector, of_lanes},
    layout::{Block4, Block8},
    path::Kernels,
    prefetch::prefetch_later,
};

/// Outputs in a register.
const QUARTER: usize = 4;

pub(crate) static NEON: Kernels = Kernels {
    name: "neon",
    quantize,
    product4: multiplied::product4,
    product8: multiplied::product8,
    add,
    norm,
    swiglu,
    attention: cached::KERNELS,
    encoder: kernels_of_lanes!(Eight, Eight),
};
pub(crate) static DOTPROD: Kernels =
    Kernels { name: "neon_dotprod", product4: dotted::product4, product8: dotted::product8, ..NEON };

pub(crate) fn has_dotprod() -> bool {
    is_aarch64_feature_detected!("dotprod")
}

of_lanes!(Eight);

/// Two registers of four numbers.
#[derive(Clone, Copy)]
struct Eight(float32x4_t, float32x4_t);

impl Eight {
    #[inline(always)]
    fn zip(self, other: Self, of: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        Self(of(self.0, other.0), of(self.1, other.1))
    }
}

// SAFETY: of each function, the caller's.
impl Vector for Eight {
    const COUNT: usize = LANES;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { Self(vdupq_n_f32(value), vdupq_n_f32(value)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Self(vld1q_f32(from), vld1q_f32(from.add(4))) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe {
            vst1q_f32(to, self.0);
            vst1q_f32(to.add(4), self.1);
        }
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Self, addend: Self) -> Self {
        unsafe { Self(vfmaq_f32(addend.0, self.0, factor.0), vfmaq_f32(addend.1, self.1, factor.1)) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| unsafe { vaddq_f32(a, b) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| unsafe { vsubq_f32(a, b) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| unsafe { vmulq_f32(a, b) })
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| unsafe { vdivq_f32(a, b) })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| unsafe { vbslq_f32(vcltq_f32(a, b), a, b) })
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) })
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        unsafe { Self(vrndnq_f32(self.0), vrndnq_f32(self.1)) }
    }
    #[inline(always)]
    unsafe fn scale_by_power(self, exponents: Self) -> Self {
        self.zip(exponents, |value, exponent| unsafe {
            let shift = vshlq_n_s32::<23>(vcvtnq_s32_f32(exponent));
            vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(value), shift))
        })
    }
}

// SAFETY: of each function, the caller's.
impl Lanes for Eight {
    #[inline(always)]
    unsafe fn load_half(from: *const f16) -> Self {
        unsafe { Self(floats(from), floats(from.add(4))) }
    }
    #[inline(always)]
    unsafe fn store_half(self, to: *mut f16) {
        unsafe {
            vst1_u16(to.cast(), vreinterpret_u16_f16(vcvt_f16_f32(self.0)));
            vst1_u16(to.add(4).cast(), vreinterpret_u16_f16(vcvt_f16_f32(self.1)));
        }
    }
    #[inline(always)]
    unsafe fn total(self) -> f32 {
        unsafe {
            let four = vaddq_f32(self.0, self.1);
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }
    #[inline(always)]
    unsafe fn totals([a, b, c, d, e, f, g, h]: [Self; LANES]) -> Self {
        unsafe {
            // Of two, the lanes of a distance of four, and of two; then neighbours.
            let twos = |x: Self, y: Self| {
                let (x, y) = (vaddq_f32(x.0, x.1), vaddq_f32(y.0, y.1));
                let (x, y) = (vreinterpretq_f64_f32(x), vreinterpretq_f64_f32(y));
                vaddq_f32(vreinterpretq_f32_f64(vzip1q_f64(x, y)), vreinterpretq_f32_f64(vzip2q_f64(x, y)))
            };
            Self(vpaddq_f32(twos(a, b), twos(c, d)), vpaddq_f32(twos(e, f), twos(g, h)))
        }
    }
}

struct Neon;

impl Quantize for Neon {
    #[inline(always)]
    unsafe fn largest_magnitude(x: &[f32; BLOCK]) -> u32 {
        // SAFETY: 32 numbers are eight registers of four.
        unsafe {
            let mut largest = vdupq_n_u32(0);
            for i in 0..BLOCK / 4 {
                let x = vreinterpretq_u32_f32(vabsq_f32(vld1q_f32(x.as_ptr().add(4 * i))));
                largest = vmaxq_u32(largest, x);
            }
            vmaxvq_u32(largest)
        }
    }

    #[inline(always)]
    unsafe fn quantize(x: &[f32; BLOCK], inverse: f32) -> ([[i8; 4]; BLOCK / 4], i32) {
        // SAFETY: as above; and 32 bytes are 32 bytes.
        unsafe {
            // The conversion rounds to the nearest, ties to even.
            let four = |i: usize| vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x.as_ptr().add(4 * i)), inverse));
            let (mut sums, mut bytes) = (vdupq_n_s32(0), [vdup_n_s8(0); BLOCK / 8]);
            for (i, bytes) in bytes.iter_mut().enumerate() {
                let (a, b) = (four(2 * i), four(2 * i + 1));
                sums = vaddq_s32(sums, vaddq_s32(a, b));
                *bytes = vqmovn_s16(vcombine_s16(vqmovn_s32(a), vqmovn_s32(b)));
            }
            (mem::transmute::<[int8x8_t; 4], [[i8; 4]; 8]>(bytes), vaddvq_s32(sums))
        }
    }
}

unsafe fn quantize(x: &[[f32; BLOCK]], groups: &mut [Group], row: usize) {
    // SAFETY: the caller's.
    unsafe { activations::quantize::<Neon>(x, groups, row) }
}

/// Sums of products of bytes.
trait Dot {
    /// `sum` of each output, and the products of its four codes with four inputs of a row.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn dot<const ROW: i32>(sum: int32x4_t, codes: int8x16_t, x: int8x16_t) -> int32x4_t;
}

struct Dotted;

impl Dot for Dotted {
    // No stable intrinsic yet.
    #[inline(always)]
    unsafe fn dot<const ROW: i32>(mut sum: int32x4_t, codes: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: the caller's. It reads and writes registers alone.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {sum:v}.4s, {codes:v}.16b, {x:v}.4b[{row}]",
                sum = inout(vreg) sum, codes = in(vreg) codes, x = in(vreg) x, row = const ROW,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sum
    }
}

struct Multiplied;

impl Dot for Multiplied {
    #[inline(always)]
    unsafe fn dot<const ROW: i32>(sum: int32x4_t, codes: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: the caller's.
        unsafe {
            let x = vreinterpretq_s8_s32(vdupq_laneq_s32::<ROW>(vreinterpretq_s32_s8(x)));
            let low = vpaddlq_s16(vmull_s8(vget_low_s8(codes), vget_low_s8(x)));
            let high = vpaddlq_s16(vmull_high_s8(codes, x));
            vaddq_s32(sum, vpaddq_s32(low, high))
        }
    }
}

/// The same with a row that the compiler knows once it has unrolled the loop.
#[inline(always)]
unsafe fn dot<D: Dot>(sum: int32x4_t, codes: int8x16_t, x: int8x16_t, row: usize) -> int32x4_t {
    // SAFETY: the caller's.
    unsafe {
        match row {
            0 => D::dot::<0>(sum, codes, x),
            1 => D::dot::<1>(sum, codes, x),
            2 => D::dot::<2>(sum, codes, x),
            _ => D::dot::<3>(sum, codes, x),
        }
    }
}

/// `R` rows with `Q` quarters of a tile, from the `quarter`-th on.
#[inline(always)]
unsafe fn tile4<D: Dot, const R: usize, const Q: usize>(
    x: &[Group],
    w: &[Block4],
    quarter: usize,
    y: *mut f32,
    stride: usize,
) {
    // SAFETY: a block's codes are of four quarters of 16 bytes, as are its scales and offsets; a group's inputs are 16 bytes by
    // fours; the rest is the caller's.
    unsafe {
        let nibble = vdupq_n_u8(15);
        let mut results = [[vdupq_n_f32(0.0); Q]; R];
        for (x, w) in x.iter().zip(w) {
            prefetch_later(w);
            let mut sums = [[vdupq_n_s32(0); Q]; R];
            for j in 0..BLOCK / 8 {
                let (x_low, x_high) = (inputs(x, 2 * j), inputs(x, 2 * j + 1));
                for q in 0..Q {
                    let codes = vld1q_u8(w.codes[j].as_ptr().add(16 * (quarter + q)));
                    let low = vreinterpretq_s8_u8(vandq_u8(codes, nibble));
                    let high = vreinterpretq_s8_u8(vshrq_n_u8::<4>(codes));
                    for r in 0..R {
                        sums[r][q] = dot::<D>(sums[r][q], low, x_low, r);
                        sums[r][q] = dot::<D>(sums[r][q], high, x_high, r);
                    }
                }
            }
            for q in 0..Q {
                let of_quarter = QUARTER * (quarter + q);
                let (scales, offsets) =
                    (floats(w.scales.as_ptr().add(of_quarter)), floats(w.offsets.as_ptr().add(of_quarter)));
                for r in 0..R {
                    let scale = vmulq_n_f32(scales, x.scale[r]);
                    results[r][q] = vfmaq_f32(results[r][q], scale, vcvtq_f32_s32(sums[r][q]));
                    results[r][q] = vfmaq_n_f32(results[r][q], offsets, x.sum[r]);
                }
            }
        }
        store(&results, quarter, y, stride);
    }
}

/// As [`tile4`]. Codes less their centre are signed bytes, so that nothing is to be subtracted behind.
#[inline(always)]
unsafe fn tile8<D: Dot, const R: usize, const Q: usize>(
    x: &[Group],
    w: &[Block8],
    quarter: usize,
    y: *mut f32,
    stride: usize,
) {
    // SAFETY: as above.
    unsafe {
        let centre = vdupq_n_u8(128);
        let mut results = [[vdupq_n_f32(0.0); Q]; R];
        for (x, w) in x.iter().zip(w) {
            prefetch_later(w);
            let mut sums = [[vdupq_n_s32(0); Q]; R];
            for j in 0..BLOCK / 4 {
                let x = inputs(x, j);
                for q in 0..Q {
                    let codes = vld1q_u8(w.codes[j].as_ptr().add(16 * (quarter + q)));
                    let codes = vreinterpretq_s8_u8(veorq_u8(codes, centre));
                    for r in 0..R {
                        sums[r][q] = dot::<D>(sums[r][q], codes, x, r);
                    }
                }
            }
            for q in 0..Q {
                let scales = floats(w.scales.as_ptr().add(QUARTER * (quarter + q)));
                for r in 0..R {
                    let scale = vmulq_n_f32(scales, x.scale[r]);
                    results[r][q] = vfmaq_f32(results[r][q], scale, vcvtq_f32_s32(sums[r][q]));
                }
            }
        }
        store(&results, quarter, y, stride);
    }
}

/// Four inputs of each row.
#[inline(always)]
unsafe fn inputs(x: &Group, j: usize) -> int8x16_t {
    // SAFETY: they are sixteen bytes.
    unsafe { vld1q_s8(x.q[j].as_ptr().cast()) }
}

/// Four numbers of 16 bits as float32.
///
/// # Safety
/// They are there.
#[inline(always)]
unsafe fn floats(halves: *const f16) -> float32x4_t {
    // SAFETY: the caller's.
    unsafe { vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(halves.cast()))) }
}

/// # Safety
/// There is room in each row for the results of so many quarters.
#[inline(always)]
unsafe fn store<const R: usize, const Q: usize>(
    results: &[[float32x4_t; Q]; R],
    quarter: usize,
    y: *mut f32,
    stride: usize,
) {
    for (r, row) in results.iter().enumerate() {
        for (q, values) in row.iter().enumerate() {
            // SAFETY: the caller's.
            unsafe { vst1q_f32(y.add(r * stride + QUARTER * (quarter + q)), *values) };
        }
    }
}

/// Writes out [`crate::scalar`]'s products by some instructions, by at most four rows at once: of one or two rows a whole tile,
/// of more half a tile after the other, as registers hold no more.
///
/// # Safety
/// Of what it writes: as there; the processor has the instructions.
macro_rules! products {
    ($module:ident, $dot:ty $(, $features:literal)?) => {
        mod $module {
            use super::*;

            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn product4(x: &[Group], rows: usize, w: &[Block4], y: *mut f32, stride: usize) {
                products!(tile4, $dot, x, rows, w, y, stride);
            }

            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn product8(x: &[Group], rows: usize, w: &[Block8], y: *mut f32, stride: usize) {
                products!(tile8, $dot, x, rows, w, y, stride);
            }
        }
    };
    ($tile:ident, $dot:ty, $x:ident, $rows:ident, $w:ident, $y:ident, $stride:ident) => {
        for (group, x) in $x.chunks_exact($w.len()).enumerate() {
            // SAFETY: the caller's. A group holds four rows, of which the last may lack some.
            unsafe {
                let y = $y.add(group * GROUP * $stride);
                match $rows - group * GROUP {
                    1 => $tile::<$dot, 1, 4>(x, $w, 0, y, $stride),
                    2 => $tile::<$dot, 2, 4>(x, $w, 0, y, $stride),
                    3 => (0..2).for_each(|half| $tile::<$dot, 3, 2>(x, $w, 2 * half, y, $stride)),
                    _ => (0..2).for_each(|half| $tile::<$dot, 4, 2>(x, $w, 2 * half, y, $stride)),
                }
            }
        }
    };
}
products!(multiplied, Multiplied);
products!(dotted, Dotted, "dotprod");
