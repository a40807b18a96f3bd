//! AVX-512 with VNNI: Ice Lake, Zen 4, and what came later. One register is a whole tile's results of a row.
//!
//! Products, attention, and what encoders have between their products: what else there is, AVX2 does as well. `dpbusd` adds four
//! products of unsigned with signed bytes to 32 bits: nothing saturates. The sums of a block are taken in two chains, as each
//! instruction waits five cycles for the one before it in its chain.

use std::arch::x86_64::*;

use super::avx2::{self, Eight};
use crate::{
    BLOCK,
    activations::{GROUP, Group},
    attend::{Registers, of_cache},
    encoder::kernels_of_lanes,
    lanes::{LANES, Vector},
    layout::{Block4, Block8},
    path::Kernels,
    prefetch::prefetch_later,
};

pub(crate) static KERNELS: Kernels = Kernels {
    name: "avx512_vnni",
    product4,
    product8,
    attention: cached::KERNELS,
    encoder: kernels_of_lanes!(Eight, Sixteen, "avx2,fma,avx512f"),
    ..avx2::KERNELS
};

mod cached {
    use super::*;
    of_cache!(Eight, Avx512, "avx2,fma,f16c,avx512f,avx512vl");
}

/// A register of sixteen numbers.
#[derive(Clone, Copy)]
struct Sixteen(__m512);

// SAFETY: of each function, the caller's.
impl Vector for Sixteen {
    const COUNT: usize = 16;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(unsafe { _mm512_set1_ps(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { _mm512_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Self, addend: Self) -> Self {
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(unsafe { _mm512_div_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(unsafe { _mm512_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(unsafe { _mm512_roundscale_ps(self.0, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC) })
    }
    #[inline(always)]
    unsafe fn scale_by_power(self, exponents: Self) -> Self {
        unsafe {
            let shift = _mm512_slli_epi32(_mm512_cvtps_epi32(exponents.0), 23);
            Self(_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(self.0), shift)))
        }
    }
}

struct Avx512;

// SAFETY: of its function, the caller's.
impl Registers for Avx512 {
    type Lanes = Eight;
    type Wide = Sixteen;

    /// The lower half of a register are the first query's lanes, and the upper half the second one's.
    #[inline(always)]
    unsafe fn dot_two(queries: *const f32, keys: &[*const f32; LANES], size: usize) -> [[f32; LANES]; 2] {
        unsafe {
            let twice = |lanes| _mm512_castpd_ps(_mm512_broadcast_f64x4(_mm256_castps_pd(lanes)));
            let mut sums = [_mm512_setzero_ps(); LANES];
            for i in (0..size).step_by(LANES) {
                let second = _mm256_castps_pd(_mm256_loadu_ps(queries.add(size + i)));
                let first = _mm512_castpd256_pd512(_mm256_castps_pd(_mm256_loadu_ps(queries.add(i))));
                let both = _mm512_castpd_ps(_mm512_insertf64x4::<1>(first, second));
                for k in 0..LANES {
                    sums[k] = _mm512_fmadd_ps(twice(_mm256_loadu_ps(keys[k].add(i))), both, sums[k]);
                }
            }
            std::mem::transmute::<__m512, [[f32; LANES]; 2]>(totals(sums))
        }
    }
}

/// [`crate::lanes::Lanes::totals`] of the lower halves, and of the upper ones.
///
/// # Safety
/// The processor has the instructions.
#[inline(always)] // into a function that is compiled for those instructions
unsafe fn totals([a, b, c, d, e, f, g, h]: [__m512; LANES]) -> __m512 {
    // SAFETY: the caller's.
    unsafe {
        let (low, high) = (_mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13), _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15));
        let fours = |x, y| {
            let (x, y) = (_mm512_castps_pd(x), _mm512_castps_pd(y));
            let (low, high) = (_mm512_permutex2var_pd(x, low, y), _mm512_permutex2var_pd(x, high, y));
            _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high))
        };
        let twos =
            |x, y| _mm512_add_ps(_mm512_shuffle_ps::<0b01_00_01_00>(x, y), _mm512_shuffle_ps::<0b11_10_11_10>(x, y));
        let (x, y) = (twos(fours(a, e), fours(b, f)), twos(fours(c, g), fours(d, h)));
        _mm512_add_ps(_mm512_shuffle_ps::<0b10_00_10_00>(x, y), _mm512_shuffle_ps::<0b11_01_11_01>(x, y))
    }
}

pub(crate) fn is_available() -> bool {
    avx2::is_available()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
}

/// [`crate::scalar`]'s.
///
/// # Safety
/// As there; the processor has these instructions.
unsafe fn product4(x: &[Group], rows: usize, w: &[Block4], y: *mut f32, stride: usize) {
    // SAFETY: the caller's.
    unsafe { by_rows!(rows, tile4(x, w, y, stride)) }
}

/// [`crate::scalar`]'s.
///
/// # Safety
/// As of [`product4`].
unsafe fn product8(x: &[Group], rows: usize, w: &[Block8], y: *mut f32, stride: usize) {
    // SAFETY: the caller's.
    unsafe { by_rows!(rows, tile8(x, w, y, stride)) }
}

/// `R` rows with a tile.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn tile4<const R: usize>(x: &[Group], w: &[Block4], y: *mut f32, stride: usize) {
    let nibble = _mm512_set1_epi8(15);
    let (mut results, blocks) = ([_mm512_setzero_ps(); R], w.len());
    for (block, w) in w.iter().enumerate() {
        prefetch_later(w);
        let x = block_of::<R>(x, block, blocks);
        let mut sums = [[_mm512_setzero_si512(); 2]; R];
        for j in 0..BLOCK / 8 {
            // SAFETY: a tile's fours are 64 bytes.
            let codes = unsafe { _mm512_loadu_si512(w.codes[j].as_ptr().cast()) };
            let low = _mm512_and_si512(codes, nibble);
            let high = _mm512_and_si512(_mm512_srli_epi16(codes, 4), nibble);
            for (r, sums) in sums.iter_mut().enumerate() {
                sums[0] = _mm512_dpbusd_epi32(sums[0], low, four(x[r / GROUP], 2 * j, r % GROUP));
                sums[1] = _mm512_dpbusd_epi32(sums[1], high, four(x[r / GROUP], 2 * j + 1, r % GROUP));
            }
        }
        // SAFETY: a tile has sixteen scales, and as many offsets.
        let (scales, offsets) = unsafe { (floats(w.scales.as_ptr().cast()), floats(w.offsets.as_ptr().cast())) };
        for (r, (result, [low, high])) in results.iter_mut().zip(sums).enumerate() {
            let (x, row) = (x[r / GROUP], r % GROUP);
            let sum = _mm512_cvtepi32_ps(_mm512_add_epi32(low, high));
            let scale = _mm512_mul_ps(scales, _mm512_set1_ps(x.scale[row]));
            *result = _mm512_fmadd_ps(scale, sum, *result);
            *result = _mm512_fmadd_ps(offsets, _mm512_set1_ps(x.sum[row]), *result);
        }
    }
    // SAFETY: the caller's.
    unsafe { store(&results, y, stride) }
}

/// As [`tile4`].
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn tile8<const R: usize>(x: &[Group], w: &[Block8], y: *mut f32, stride: usize) {
    let (mut results, blocks) = ([_mm512_setzero_ps(); R], w.len());
    for (block, w) in w.iter().enumerate() {
        prefetch_later(w);
        let x = block_of::<R>(x, block, blocks);
        let mut sums = [[_mm512_setzero_si512(); 2]; R];
        for j in 0..BLOCK / 4 {
            // SAFETY: a tile's fours are 64 bytes.
            let codes = unsafe { _mm512_loadu_si512(w.codes[j].as_ptr().cast()) };
            for (r, sums) in sums.iter_mut().enumerate() {
                sums[j % 2] = _mm512_dpbusd_epi32(sums[j % 2], codes, four(x[r / GROUP], j, r % GROUP));
            }
        }
        // SAFETY: a tile has sixteen scales.
        let scales = unsafe { floats(w.scales.as_ptr().cast()) };
        for (r, (result, [even, odd])) in results.iter_mut().zip(sums).enumerate() {
            let (x, row) = (x[r / GROUP], r % GROUP);
            let sum = _mm512_sub_epi32(_mm512_add_epi32(even, odd), _mm512_set1_epi32(x.centre[row]));
            let scale = _mm512_mul_ps(scales, _mm512_set1_ps(x.scale[row]));
            *result = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(sum), *result);
        }
    }
    // SAFETY: the caller's.
    unsafe { store(&results, y, stride) }
}

/// A block of the one or two groups of `R` rows.
#[inline(always)]
fn block_of<const R: usize>(x: &[Group], block: usize, blocks: usize) -> [&Group; 2] {
    [&x[block], if R > GROUP { &x[blocks + block] } else { &x[block] }]
}

/// Four inputs of a row, in every lane.
#[target_feature(enable = "avx512f")]
fn four(x: &Group, j: usize, row: usize) -> __m512i {
    _mm512_set1_epi32(super::four(x, j, row))
}

/// Sixteen numbers of 16 bits as float32.
///
/// # Safety
/// They are there.
#[target_feature(enable = "avx512f")]
unsafe fn floats(halves: *const u16) -> __m512 {
    // SAFETY: the caller's.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(halves.cast())) }
}

/// # Safety
/// There is room for a tile's results in each row.
#[target_feature(enable = "avx512f")]
unsafe fn store<const R: usize>(results: &[__m512; R], y: *mut f32, stride: usize) {
    for (r, result) in results.iter().enumerate() {
        // SAFETY: the caller's.
        unsafe { _mm512_storeu_ps(y.add(r * stride), *result) };
    }
}
