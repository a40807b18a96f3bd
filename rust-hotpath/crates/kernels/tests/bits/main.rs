//! Every path gives the definition's bits, and a row has its bits in any company.
//!
//! All of these tests run on emulated processors too, by the word in their names.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test's panic is its failure")]
#![allow(clippy::cast_precision_loss, reason = "small numbers")]

mod attention_bits;
mod encoder_bits;
mod product_bits;
mod row_bits;

use std::{env, sync::Mutex};

use hotpath_kernels::Pool;
use proptest::prelude::*;

/// As many cases, and an eighth on an emulated processor, which is a hundred times slower.
fn cases(count: u32) -> ProptestConfig {
    ProptestConfig::with_cases(if is_emulated() { count / 8 } else { count })
}

fn is_emulated() -> bool {
    env::var_os("TRIPTYCH_EMULATED").is_some()
}

/// Bits to compare: NaN is one thing, whatever its payload.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| if value.is_nan() { u32::MAX } else { value.to_bits() }).collect()
}

/// xorshift
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }

    /// From -1 to 1.
    fn float(&mut self) -> f32 {
        f32::from(i16::from_le_bytes([self.byte(), self.byte()])) / 32768.0
    }
}

/// Parts in any order, by two threads.
struct TwoThreads;

// SAFETY: each number is taken from the range once, and the scope ends when all are done.
#[allow(unsafe_code)]
unsafe impl Pool for TwoThreads {
    fn run(&self, parts: usize, part: &(dyn Fn(usize) + Sync)) {
        let left = Mutex::new(0..parts);
        let work = || {
            while let Some(number) = { left.lock().unwrap().next_back() } {
                part(number);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(work);
            work();
        });
    }
}
