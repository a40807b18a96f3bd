//! AVX2 with FMA and F16C: Haswell, Zen, and what came later.
//!
//! `maddubs` multiplies unsigned with signed bytes and adds two products in 16 bits. With codes of at most 15 that is at most
//! 2 * 15 * 127, and the sum over a block's eight fours 30,480: nothing saturates, and one `madd` with ones ends the sum. A code
//! of 8 bits is taken as two of 4 bits, `16 * high + low`.

use std::arch::x86_64::*;

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

pub(crate) static KERNELS: Kernels = Kernels {
    name: "avx2",
    quantize,
    product4,
    product8,
    add,
    norm,
    swiglu,
    attention: cached::KERNELS,
    encoder: kernels_of_lanes!(Eight, Eight, "avx2,fma"),
};

of_lanes!(Eight, "avx2,fma,f16c");

/// A register of eight numbers.
#[derive(Clone, Copy)]
pub(super) struct Eight(__m256);

// SAFETY: of each function, the caller's.
impl Vector for Eight {
    const COUNT: usize = LANES;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(unsafe { _mm256_set1_ps(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { _mm256_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Self, addend: Self) -> Self {
        Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, addend.0) })
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(unsafe { _mm256_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(unsafe { _mm256_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(unsafe { _mm256_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(unsafe { _mm256_div_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(unsafe { _mm256_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(unsafe { _mm256_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(unsafe { _mm256_round_ps(self.0, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC) })
    }
    #[inline(always)]
    unsafe fn scale_by_power(self, exponents: Self) -> Self {
        unsafe {
            let shift = _mm256_slli_epi32(_mm256_cvtps_epi32(exponents.0), 23);
            Self(_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(self.0), shift)))
        }
    }
}

// SAFETY: of each function, the caller's.
impl Lanes for Eight {
    #[inline(always)]
    unsafe fn load_half(from: *const f16) -> Self {
        Self(unsafe { floats(from.cast()) })
    }
    #[inline(always)]
    unsafe fn store_half(self, to: *mut f16) {
        unsafe { _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0)) }
    }
    #[inline(always)]
    unsafe fn total(self) -> f32 {
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps(self.0, 1));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    unsafe fn totals([a, b, c, d, e, f, g, h]: [Self; LANES]) -> Self {
        unsafe {
            // Of two, the lanes of a distance of four; the first's are the lower half.
            let fours = |x: Self, y: Self| {
                _mm256_add_ps(_mm256_permute2f128_ps(x.0, y.0, 0x20), _mm256_permute2f128_ps(x.0, y.0, 0x31))
            };
            let twos =
                |x, y| _mm256_add_ps(_mm256_shuffle_ps(x, y, 0b01_00_01_00), _mm256_shuffle_ps(x, y, 0b11_10_11_10));
            let (x, y) = (twos(fours(a, e), fours(b, f)), twos(fours(c, g), fours(d, h)));
            Self(_mm256_add_ps(_mm256_shuffle_ps(x, y, 0b10_00_10_00), _mm256_shuffle_ps(x, y, 0b11_01_11_01)))
        }
    }
}

pub(crate) fn is_available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

pub(crate) struct Avx2;

impl Quantize for Avx2 {
    #[inline(always)]
    unsafe fn largest_magnitude(x: &[f32; BLOCK]) -> u32 {
        // SAFETY: the caller's, and of 32 numbers each quarter is there.
        unsafe {
            let magnitude = _mm256_set1_epi32(i32::MAX);
            let mut largest = _mm256_setzero_si256();
            for quarter in 0..4 {
                let x = _mm256_loadu_si256(x.as_ptr().add(LANES * quarter).cast());
                largest = _mm256_max_epu32(largest, _mm256_and_si256(x, magnitude));
            }
            let largest = _mm_max_epu32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
            let largest = _mm_max_epu32(largest, _mm_shuffle_epi32(largest, 0b01_00_11_10));
            let largest = _mm_max_epu32(largest, _mm_shuffle_epi32(largest, 0b10_11_00_01));
            _mm_cvtsi128_si32(largest).cast_unsigned()
        }
    }

    #[inline(always)]
    unsafe fn quantize(x: &[f32; BLOCK], inverse: f32) -> ([[i8; 4]; BLOCK / 4], i32) {
        // SAFETY: the caller's; 32 numbers are four vectors of eight; and 32 bytes are 32 bytes.
        unsafe {
            let inverse = _mm256_set1_ps(inverse);
            // The conversion rounds to the nearest, ties to even.
            let quarter = |i| _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x.as_ptr().add(LANES * i)), inverse));
            let (a, b, c, d) = (quarter(0), quarter(1), quarter(2), quarter(3));
            let sums = _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d));
            let sums = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
            let sums = _mm_add_epi32(sums, _mm_shuffle_epi32(sums, 0b01_00_11_10));
            let sum = _mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_shuffle_epi32(sums, 0b10_11_00_01)));
            // Packing goes by halves of a register; the permutation puts the fours in order.
            let bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
            let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
            (std::mem::transmute::<__m256i, [[i8; 4]; 8]>(bytes), sum)
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn quantize(x: &[[f32; BLOCK]], groups: &mut [Group], row: usize) {
    // SAFETY: the caller's.
    unsafe { activations::quantize::<Avx2>(x, groups, row) }
}

/// [`crate::scalar`]'s, by at most four rows at once.
///
/// # Safety
/// As there; the processor has these instructions.
unsafe fn product4(x: &[Group], rows: usize, w: &[Block4], y: *mut f32, stride: usize) {
    for (group, x) in x.chunks_exact(w.len()).enumerate() {
        // SAFETY: the caller's. A group holds four rows, of which the last may lack some.
        unsafe {
            let y = y.add(group * GROUP * stride);
            match rows - group * GROUP {
                1 => tile4::<1, 2>(x, w, 0, y, stride),
                2 => tile4::<2, 2>(x, w, 0, y, stride),
                3 => (0..2).for_each(|half| tile4::<3, 1>(x, w, half, y, stride)),
                _ => (0..2).for_each(|half| tile4::<4, 1>(x, w, half, y, stride)),
            }
        }
    }
}

/// As [`product4`].
///
/// # Safety
/// As of [`product4`].
unsafe fn product8(x: &[Group], rows: usize, w: &[Block8], y: *mut f32, stride: usize) {
    if rows > 2 {
        // SAFETY: the caller's.
        return unsafe { super::avx2_pairs::product8(x, rows, w, y, stride) };
    }
    for (group, x) in x.chunks_exact(w.len()).enumerate() {
        // SAFETY: as above.
        unsafe {
            let y = y.add(group * GROUP * stride);
            match rows - group * GROUP {
                1 => tile8::<1, 2>(x, w, 0, y, stride),
                _ => (0..2).for_each(|half| tile8::<2, 1>(x, w, half, y, stride)),
            }
        }
    }
}

/// `R` rows with `H` halves of a tile, from the `half`-th on.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile4<const R: usize, const H: usize>(x: &[Group], w: &[Block4], half: usize, y: *mut f32, stride: usize) {
    let (nibble, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
    let mut results = [[_mm256_setzero_ps(); H]; R];
    for (x, w) in x.iter().zip(w) {
        prefetch_later(w);
        let mut sums = [[_mm256_setzero_si256(); H]; R]; // of 16 bits
        for j in 0..BLOCK / 8 {
            for h in 0..H {
                // SAFETY: half a tile's fours are 32 bytes.
                let codes = unsafe { _mm256_loadu_si256(w.codes[j].as_ptr().add(4 * LANES * (half + h)).cast()) };
                let low = _mm256_and_si256(codes, nibble);
                let high = _mm256_and_si256(_mm256_srli_epi16(codes, 4), nibble);
                for r in 0..R {
                    sums[r][h] = _mm256_add_epi16(sums[r][h], _mm256_maddubs_epi16(low, four(x, 2 * j, r)));
                }
                for r in 0..R {
                    sums[r][h] = _mm256_add_epi16(sums[r][h], _mm256_maddubs_epi16(high, four(x, 2 * j + 1, r)));
                }
            }
        }
        for h in 0..H {
            // SAFETY: half a tile's scales are eight, and so are its offsets.
            let (scales, offsets) = unsafe {
                (
                    floats(w.scales.as_ptr().add(LANES * (half + h)).cast()),
                    floats(w.offsets.as_ptr().add(LANES * (half + h)).cast()),
                )
            };
            for r in 0..R {
                let sum = _mm256_cvtepi32_ps(_mm256_madd_epi16(sums[r][h], ones));
                let scale = _mm256_mul_ps(scales, _mm256_set1_ps(x.scale[r]));
                results[r][h] = _mm256_fmadd_ps(scale, sum, results[r][h]);
                results[r][h] = _mm256_fmadd_ps(offsets, _mm256_set1_ps(x.sum[r]), results[r][h]);
            }
        }
    }
    // SAFETY: the caller's.
    unsafe { store(&results, half, y, stride) }
}

/// As [`tile4`]: the low halves of all codes of a block, and then the high ones, as registers hold the sums of one of them.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile8<const R: usize, const H: usize>(x: &[Group], w: &[Block8], half: usize, y: *mut f32, stride: usize) {
    let (ones, sixteens) = (_mm256_set1_epi16(1), _mm256_set1_epi16(16));
    let mut results = [[_mm256_setzero_ps(); H]; R];
    for (x, w) in x.iter().zip(w) {
        prefetch_later(w);
        // SAFETY: as of this.
        let (lows, highs) = unsafe { (nibbles::<R, H, 0>(x, w, half, ones), nibbles::<R, H, 4>(x, w, half, sixteens)) };
        for h in 0..H {
            // SAFETY: half a tile's scales are eight.
            let scales = unsafe { floats(w.scales.as_ptr().add(LANES * (half + h)).cast()) };
            for r in 0..R {
                let sum = _mm256_add_epi32(lows[r][h], highs[r][h]);
                let sum = _mm256_sub_epi32(sum, _mm256_set1_epi32(x.centre[r]));
                let scale = _mm256_mul_ps(scales, _mm256_set1_ps(x.scale[r]));
                results[r][h] = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(sum), results[r][h]);
            }
        }
    }
    // SAFETY: the caller's.
    unsafe { store(&results, half, y, stride) }
}

/// A block's sums of the halves of its codes that begin at bit `SHIFT`, times `factor`.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)] // or else the sums would go through memory
unsafe fn nibbles<const R: usize, const H: usize, const SHIFT: i32>(
    x: &Group,
    w: &Block8,
    half: usize,
    factor: __m256i,
) -> [[__m256i; H]; R] {
    // SAFETY: the caller's; half a tile's fours are 32 bytes.
    unsafe {
        let nibble = _mm256_set1_epi8(15);
        let mut sums = [[_mm256_setzero_si256(); H]; R]; // of 16 bits
        for j in 0..BLOCK / 4 {
            for h in 0..H {
                let codes = _mm256_loadu_si256(w.codes[j].as_ptr().add(4 * LANES * (half + h)).cast());
                let codes = _mm256_and_si256(_mm256_srli_epi16::<SHIFT>(codes), nibble);
                for r in 0..R {
                    sums[r][h] = _mm256_add_epi16(sums[r][h], _mm256_maddubs_epi16(codes, four(x, j, r)));
                }
            }
        }
        for r in 0..R {
            for h in 0..H {
                sums[r][h] = _mm256_madd_epi16(sums[r][h], factor);
            }
        }
        sums
    }
}

/// Four inputs of a row, in every lane.
#[target_feature(enable = "avx2")]
fn four(x: &Group, j: usize, row: usize) -> __m256i {
    _mm256_set1_epi32(super::four(x, j, row))
}

/// Eight numbers of 16 bits as float32.
///
/// # Safety
/// They are there.
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn floats(halves: *const u16) -> __m256 {
    // SAFETY: the caller's.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(halves.cast())) }
}

/// # Safety
/// There is room in each row for the results of so many halves.
#[target_feature(enable = "avx2")]
unsafe fn store<const R: usize, const H: usize>(results: &[[__m256; H]; R], half: usize, y: *mut f32, stride: usize) {
    for (r, row) in results.iter().enumerate() {
        for (h, values) in row.iter().enumerate() {
            // SAFETY: the caller's.
            unsafe { _mm256_storeu_ps(y.add(r * stride + LANES * (half + h)), *values) };
        }
    }
}
