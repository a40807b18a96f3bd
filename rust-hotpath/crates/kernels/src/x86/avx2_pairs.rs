//! Products of 8 bits by AVX2, for several rows at once: pairs of 16 bits, which `madd` multiplies and adds to 32 bits.
//!
//! Codes are taken apart into even and odd inputs, once for up to eight rows. Activations are, too, before a tile is multiplied:
//! what that costs, many instructions earn back.

use std::{arch::x86_64::*, mem::MaybeUninit};

use super::avx2::floats;
use crate::{
    BLOCK, TILE,
    activations::{GROUP, Group},
    layout::Block8,
    prefetch::prefetch_later,
};

/// Half a tile is a register.
const HALF: usize = TILE / 2;
/// Blocks whose activations are taken apart at once: with those of eight rows they are 6 KB.
const BLOCKS: usize = 12;

/// Fours of inputs of four rows, each as two pairs: `[input / 4][even, odd][row]`.
type Pairs = [[[i32; GROUP]; 2]; BLOCK / 4];

/// [`crate::scalar`]'s.
///
/// # Safety
/// As there; the processor has AVX2, FMA and F16C.
pub(super) unsafe fn product8(x: &[Group], rows: usize, w: &[Block8], y: *mut f32, stride: usize) {
    // SAFETY: the caller's.
    unsafe { by_rows!(rows, tile(x, w, y, stride)) }
}

/// `R` rows with a tile.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<const R: usize>(x: &[Group], w: &[Block8], y: *mut f32, stride: usize) {
    let mut pairs = [[MaybeUninit::<Pairs>::uninit(); BLOCKS]; 2];
    let blocks = w.len();
    for (part, w) in w.chunks(BLOCKS).enumerate() {
        let first = part * BLOCKS;
        let mut of_part = [&x[first..first + w.len()]; 2];
        if R > GROUP {
            of_part[1] = &x[blocks + first..][..w.len()];
        }
        for (x, pairs) in of_part.iter().zip(&mut pairs).take(R.div_ceil(GROUP)) {
            for (x, pairs) in x.iter().zip(pairs) {
                take_apart(x, pairs);
            }
        }
        for half in 0..2 {
            // SAFETY: the caller's; the pairs of these blocks, and of these rows, were written.
            unsafe { half_tile::<R>(of_part, &pairs, w, half, part == 0, y.add(half * HALF), stride) };
        }
    }
}

/// Even inputs are the lower bytes of 16 bits, and odd ones the upper.
#[target_feature(enable = "avx2")]
fn take_apart(x: &Group, pairs: &mut MaybeUninit<Pairs>) {
    let to: *mut __m128i = pairs.as_mut_ptr().cast();
    for (j, fours) in x.q.iter().enumerate() {
        // SAFETY: a four of each of four rows is a register; and so is each kind of pairs, of which there are two for each j.
        unsafe {
            let fours = _mm_loadu_si128(fours.as_ptr().cast());
            _mm_storeu_si128(to.add(2 * j), _mm_srai_epi16(_mm_slli_epi16(fours, 8), 8));
            _mm_storeu_si128(to.add(2 * j + 1), _mm_srai_epi16(fours, 8));
        }
    }
}

/// `R` rows with half a tile's blocks. What those before gave, unless these are the first, lies in `y`.
///
/// # Safety
/// As of [`product8`]; of each block and row the pairs are there.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn half_tile<const R: usize>(
    x: [&[Group]; 2],
    pairs: &[[MaybeUninit<Pairs>; BLOCKS]; 2],
    w: &[Block8],
    half: usize,
    is_first: bool,
    y: *mut f32,
    stride: usize,
) {
    let lower = _mm256_set1_epi16(0xff);
    let mut results = [_mm256_setzero_ps(); R];
    if !is_first {
        for r in 0..R {
            // SAFETY: the caller's.
            results[r] = unsafe { _mm256_loadu_ps(y.add(r * stride)) };
        }
    }
    for (block, w) in w.iter().enumerate() {
        prefetch_later(w);
        let mut sums = [_mm256_setzero_si256(); R];
        for j in 0..BLOCK / 4 {
            // SAFETY: half a tile's fours are 32 bytes.
            let codes = unsafe { _mm256_loadu_si256(w.codes[j].as_ptr().add(4 * HALF * half).cast()) };
            let (even, odd) = (_mm256_and_si256(codes, lower), _mm256_srli_epi16(codes, 8));
            for r in 0..R {
                // SAFETY: the caller's.
                let [evens, odds] = unsafe { &(*pairs[r / GROUP][block].as_ptr())[j] };
                let (x_even, x_odd) = (_mm256_set1_epi32(evens[r % GROUP]), _mm256_set1_epi32(odds[r % GROUP]));
                sums[r] = _mm256_add_epi32(sums[r], _mm256_madd_epi16(even, x_even));
                sums[r] = _mm256_add_epi32(sums[r], _mm256_madd_epi16(odd, x_odd));
            }
        }
        // SAFETY: half a tile's scales are eight.
        let scales = unsafe { floats(w.scales.as_ptr().add(HALF * half).cast()) };
        for r in 0..R {
            let (x, row) = (&x[r / GROUP][block], r % GROUP);
            let sum = _mm256_sub_epi32(sums[r], _mm256_set1_epi32(x.centre[row]));
            let scale = _mm256_mul_ps(scales, _mm256_set1_ps(x.scale[row]));
            results[r] = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(sum), results[r]);
        }
    }
    for r in 0..R {
        // SAFETY: the caller's.
        unsafe { _mm256_storeu_ps(y.add(r * stride), results[r]) };
    }
}
