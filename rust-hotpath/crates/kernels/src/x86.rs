//! Vector instructions of x86-64.

#![allow(unsafe_code)]
#![allow(clippy::wildcard_imports, reason = "an instruction each")]
#![allow(clippy::needless_range_loop, reason = "several arrays by one number, in an order that is meant")]

/// Calls a kernel of a tile that is compiled for so many rows, from one to [`crate::product::ROWS`].
macro_rules! by_rows {
    ($rows:expr, $tile:ident($($argument:expr),*)) => {
        match $rows {
            1 => $tile::<1>($($argument),*),
            2 => $tile::<2>($($argument),*),
            3 => $tile::<3>($($argument),*),
            4 => $tile::<4>($($argument),*),
            5 => $tile::<5>($($argument),*),
            6 => $tile::<6>($($argument),*),
            7 => $tile::<7>($($argument),*),
            _ => $tile::<8>($($argument),*),
        }
    };
}

pub(crate) mod avx2;
mod avx2_pairs;
pub(crate) mod avx512;

use crate::activations::Group;

/// Four inputs of a row, as a lane of the integer instructions takes them.
#[inline(always)]
fn four(x: &Group, j: usize, row: usize) -> i32 {
    i32::from_le_bytes(x.q[j][row].map(i8::cast_unsigned))
}
