//! Vector instructions of x86-64.

#![allow(unsafe_code)]
#![allow(clippy::wildcard_imports, reason = "an instruction each")]
#![allow(clippy::needless_range_loop, reason = "several arrays by one number, in an order that is meant")]

pub(crate) mod avx2;
mod avx2_pairs;
pub(crate) mod avx512;

use crate::activations::Group;

/// Four inputs of a row, as a lane of the integer instructions takes them.
#[inline(always)]
fn four(x: &Group, j: usize, row: usize) -> i32 {
    i32::from_le_bytes(x.q[j][row].map(i8::cast_unsigned))
}
