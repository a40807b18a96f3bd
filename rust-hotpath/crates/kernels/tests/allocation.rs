//! What was done once is done again without memory.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test's panic is its failure")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

use half::f16;
use hotpath_kernels::{
    Activations, Bits, Caller, Matrix, Normed, Path,
    attention::{Appended, Heads, append_and_attend},
    encoder::{Activation, LayerNorm, attend_texts, multiply_and_activate},
    multiply, multiply_gated,
};

struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's, but for a number.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The only test of this program: others would be counted too.
#[test]
fn runs_allocate_nothing_but_the_first() {
    const ROWS: usize = 40;
    let heads = Heads { queries: 6, shared: 2, size: 32 };
    let width = (heads.queries + 2 * heads.shared) * heads.size;
    let bytes = vec![0u8; 192 / 32 * (width / 16) * 320];
    let weights = Matrix::new(Bits::Four, 192, width, &bytes).unwrap();
    let (x, angles) = (vec![1.0; ROWS * width], vec![0.5; 400 * heads.size / 2]);
    let (mut keys, mut values) = ([(); 2].map(|()| vec![f16::ZERO; heads.shared * 400 * heads.size])).into();
    let (mut y, mut stream, mut to) = (vec![0.0; ROWS * width], vec![0.0; ROWS * 192], vec![0.0; ROWS * 192]);
    let mut quantized = Activations::new();
    let mut run = |path: Path, first: usize, rows: usize, wanted: bool| {
        let normed = Normed {
            x: &x[..rows * 192],
            addend: Some(&x[..rows * 192]),
            sums: wanted.then_some(&mut stream[..rows * 192]),
            weight: &x[..192],
            epsilon: 1e-5,
        };
        quantized.quantize_normed(path, normed, &Caller);
        multiply(path, &quantized, &weights, &mut y[..rows * width], &Caller);
        let positions: [i32; ROWS] = std::array::from_fn(|row| i32::try_from(first + row).unwrap());
        let appended = Appended {
            rows: &y[..rows * width],
            sequences: &[0; ROWS][..rows],
            positions: &positions[..rows],
            keys: &mut keys,
            values: &mut values,
            cosines: &angles,
            sines: &angles,
        };
        append_and_attend(path, heads, 1, appended, &mut to[..rows * 192], &Caller).unwrap();
        quantized.quantize(path, &to[..rows * 192], 192, &Caller);
        multiply_gated(path, &quantized, &weights, &mut y[..rows * width / 2], &Caller);
        let norm = LayerNorm { weight: &x[..192], bias: &x[..192], epsilon: 1e-5, channels: 190 };
        let sum = (&x[..rows * 192], &x[..rows * 192]);
        quantized.quantize_layer_normed(path, sum, &norm, &mut stream[..rows * 192], &Caller);
        let with = (&x[..width], Activation::Gelu);
        multiply_and_activate(path, &quantized, &weights, with, &mut y[..rows * width], &Caller);
        let places: [i64; ROWS] = std::array::from_fn(|row| i64::try_from(row % 7).unwrap());
        attend_texts(path, (2, 32), &x[..rows * 192], &places[..rows], &mut to[..rows * 64], &Caller).unwrap();
    };
    let paths = Path::available();
    for path in &paths {
        run(*path, 0, ROWS, true);
        run(*path, 0, ROWS, false);
    }
    let before = COUNT.load(Ordering::Relaxed);
    assert!(before > 0, "it counts");
    for path in paths {
        // Further on in the text than the first run, whose scores were fewer.
        run(path, 300, ROWS, true);
        run(path, 340, 1, false);
        run(path, 0, 3, true);
    }
    assert_eq!(COUNT.load(Ordering::Relaxed), before);
}
