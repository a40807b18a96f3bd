//! What encoders have between their products: bias, GELU, layer norm, and attention within each text of a packed batch. A text's
//! rows depend on that text alone.

mod attention;
mod norm;
mod product;

use crate::TILE;

pub use attention::{PackingError, attend_texts};
pub use norm::{LayerNorm, layer_norm};
pub use product::{Activation, multiply_and_activate};

/// What is written once for each set of instructions.
#[derive(Clone, Copy)]
#[allow(clippy::type_complexity, reason = "each is documented where it is written")]
pub(crate) struct Kernels {
    /// [`product::bias_tile`].
    pub bias: unsafe fn(&[f32; TILE], *mut f32, usize, usize),
    /// [`product::bias_and_gelu_tile`].
    pub bias_and_gelu: unsafe fn(&[f32; TILE], *mut f32, usize, usize),
    /// [`norm::layer_norm_row`].
    pub layer_norm: unsafe fn(&[f32], &[f32], &LayerNorm<'_>, &mut [f32]),
    /// [`attention::attend_head`].
    pub attend: unsafe fn(&attention::Head<'_>, *mut f32, &mut attention::Room),
}

/// Writes out [`Kernels`] for a path: each function compiled for its instructions. What does not add lanes up may take more of
/// them at once.
macro_rules! kernels_of_lanes {
    ($lanes:ty, $wide:ty $(, $features:literal)?) => {{
        $(#[target_feature(enable = $features)])?
        unsafe fn bias(bias: &[f32; crate::TILE], y: *mut f32, rows: usize, stride: usize) {
            // SAFETY: the caller's.
            unsafe { crate::encoder::bias_tile::<$wide>(bias, y, rows, stride) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn bias_and_gelu(bias: &[f32; crate::TILE], y: *mut f32, rows: usize, stride: usize) {
            // SAFETY: the caller's.
            unsafe { crate::encoder::bias_and_gelu_tile::<$wide>(bias, y, rows, stride) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn layer_norm(x: &[f32], addend: &[f32], norm: &crate::encoder::LayerNorm<'_>, to: &mut [f32]) {
            // SAFETY: the caller's.
            unsafe { crate::encoder::layer_norm_row::<$lanes>(x, addend, norm, to) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn attend(head: &crate::encoder::Head<'_>, to: *mut f32, room: &mut crate::encoder::Room) {
            // SAFETY: the caller's.
            unsafe { crate::encoder::attend_head::<$lanes, $wide>(head, to, room) }
        }
        crate::encoder::Kernels { bias, bias_and_gelu, layer_norm, attend }
    }};
}
pub(crate) use kernels_of_lanes;
pub(crate) use {
    attention::{Head, Room, attend_head},
    norm::layer_norm_row,
    product::{bias_and_gelu_tile, bias_tile},
};
