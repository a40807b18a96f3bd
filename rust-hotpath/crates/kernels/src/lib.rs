//! Products of float32 rows with weights of 4 and 8 bits: the same bits for any number of rows, on any processor.
//!
//! A weight belongs to a block of [`BLOCK`] inputs of one output, with a float16 scale; see [`layout`]. A row is quantized to 8-bit
//! integers, block by block, before it is multiplied; see [`activations`]. What is left is exact integers and, per block and
//! output, fused multiply-adds in one fixed order:
//!
//! ```text
//! sum    = Σ code[i] * q[i]                          32 products, as integers: they cannot overflow
//! result = fma(scale_w * scale_x, sum, result)       blocks in ascending order
//! result = fma(offset_w, sum_x, result)              4-bit weights alone
//! ```
//!
//! Nothing of it depends on which other rows or outputs are computed along, so a row has the same bits alone and in a batch.
//! [`scalar`] is this definition in plain Rust. Each other [`Path`] is the same integers and the same fused multiply-adds by
//! other instructions, and is tested to give the same bits.
//!
//! | module | job |
//! |---|---|
//! | [`layout`] | weights in memory, as the exporter writes them |
//! | [`activations`] | rows, quantized |
//! | [`product`] | which rows and outputs are multiplied together, and by whom |
//! | [`rows`], [`attention`] | what stands between the products |
//! | [`encoder`] | the same of encoders |
//! | `attend` | rows that see the same keys and values |
//! | `lanes` | eight numbers at once, of which those are made |
//! | [`path`] | which instructions a processor has |
//! | [`scalar`] | the definition |
//! | `x86`, `arm` | the same by vector instructions |
//! | `parts`, `prefetch` | slices that threads share, and memory that is called for early |
//!
//! `cargo bench -p hotpath-kernels` measures all of it, one row beside a plain loop that reads as many bytes.
//!
//! Must not depend on any other crate of the workspace, and knows nothing of ONNX Runtime.

#![allow(
    clippy::inline_always,
    reason = "what is generic over instructions must become part of a function that is compiled for them"
)]
#![allow(clippy::many_single_char_names, reason = "registers")]

pub mod activations;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod arm;
mod attend;
pub mod attention;
pub mod encoder;
mod lanes;
pub mod layout;
mod parts;
pub mod path;
mod prefetch;
pub mod product;
pub mod rows;
pub mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use activations::{Activations, Normed};
pub use layout::{Bits, LayoutError, Matrix};
pub use path::Path;
pub use product::{Caller, Pool, multiply, multiply_gated};

/// Inputs that share a scale.
pub const BLOCK: usize = 32;
/// Outputs that lie together.
pub const TILE: usize = 16;
