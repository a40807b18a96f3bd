//! Residual and layer norm.

#![allow(unsafe_code)]

use crate::{
    Activations, Path, Pool,
    lanes::{LANES, Lanes},
    parts::Parts,
};

/// What a layer norm has learned.
#[derive(Debug, Clone, Copy)]
pub struct LayerNorm<'a> {
    /// `[size]`
    pub weight: &'a [f32],
    /// `[size]`
    pub bias: &'a [f32],
    /// It is added to the variance.
    pub epsilon: f32,
    /// How many numbers of a row are the model's. Behind them are zeros that fill its last block up, and their weight and bias
    /// are zeros too.
    pub channels: usize,
}

impl LayerNorm<'_> {
    fn check(&self, x: &[f32], addend: &[f32], to: &[f32]) {
        let size = self.weight.len();
        assert!(size > 0 && size.is_multiple_of(LANES) && self.bias.len() == size, "{size} is no multiple of {LANES}");
        assert!((1..=size).contains(&self.channels), "{} channels in rows of {size}", self.channels);
        assert!(x.len().is_multiple_of(size) && addend.len() == x.len() && to.len() == x.len());
    }
}

impl Activations {
    /// Quantizes what [`layer_norm`] makes of the sum of rows, and keeps it in `to`.
    ///
    /// # Panics
    /// As that, and where a row is no whole blocks.
    pub fn quantize_layer_normed(
        &mut self,
        path: Path,
        (x, addend): (&[f32], &[f32]),
        norm: &LayerNorm<'_>,
        to: &mut [f32],
        pool: &dyn Pool,
    ) {
        norm.check(x, addend, to);
        let (size, numbers) = (norm.weight.len(), to.len());
        let parts = Parts::new(to, size);
        self.quantize_each(path, numbers, size, pool, &|row| {
            let of_row = row * size..(row + 1) * size;
            // SAFETY: a row is asked for once; the processor has the path's instructions, and all are as long.
            unsafe {
                let to = parts.take(row);
                (path.kernels().encoder.layer_norm)(&x[of_row.clone()], &addend[of_row], norm, to);
                to
            }
        });
    }
}

/// `to = (sum - mean) / sqrt(variance + epsilon) * weight + bias` of `sum = x + addend`, for each row.
///
/// # Panics
/// Where the lengths do not fit, or a row's is no multiple of eight.
pub fn layer_norm(path: Path, x: &[f32], addend: &[f32], norm: &LayerNorm<'_>, to: &mut [f32]) {
    let size = norm.weight.len();
    norm.check(x, addend, to);
    let rows = x.chunks_exact(size).zip(addend.chunks_exact(size));
    for ((x, addend), to) in rows.zip(to.chunks_exact_mut(size)) {
        // SAFETY: the processor has the path's instructions, and all are as long.
        unsafe { (path.kernels().encoder.layer_norm)(x, addend, norm, to) }
    }
}

/// One row of [`layer_norm`].
///
/// # Safety
/// As of [`Lanes`]; all are of one length, which is a multiple of [`LANES`] and not below the channels.
#[inline(always)]
pub(crate) unsafe fn layer_norm_row<L: Lanes>(x: &[f32], addend: &[f32], norm: &LayerNorm<'_>, to: &mut [f32]) {
    let whole = norm.channels - norm.channels % LANES;
    let mut filled = [0.0f32; LANES]; // ones where the last channels are
    filled[..norm.channels - whole].fill(1.0);
    #[allow(clippy::cast_precision_loss, reason = "a row is shorter than 2^24")]
    let channels = norm.channels as f32;
    // SAFETY: the caller's.
    unsafe {
        let mut sums = L::splat(0.0);
        for i in (0..x.len()).step_by(LANES) {
            let sum = L::load(x.as_ptr().add(i)).add(L::load(addend.as_ptr().add(i)));
            sum.store(to.as_mut_ptr().add(i));
            sums = sums.add(sum);
        }
        let mean = L::splat(sums.total() / channels);
        let mut squares = L::splat(0.0);
        for i in (0..whole).step_by(LANES) {
            let centred = L::load(to.as_ptr().add(i)).sub(mean);
            squares = centred.fma(centred, squares);
        }
        if whole < norm.channels {
            let centred = L::load(to.as_ptr().add(whole)).sub(mean).mul(L::load(filled.as_ptr()));
            squares = centred.fma(centred, squares);
        }
        let scale = L::splat(1.0 / (squares.total() / channels + norm.epsilon).sqrt());
        for i in (0..x.len()).step_by(LANES) {
            let scaled = L::load(to.as_ptr().add(i)).sub(mean).mul(scale);
            let (weight, bias) = (L::load(norm.weight.as_ptr().add(i)), L::load(norm.bias.as_ptr().add(i)));
            scaled.fma(weight, bias).store(to.as_mut_ptr().add(i));
        }
    }
}
