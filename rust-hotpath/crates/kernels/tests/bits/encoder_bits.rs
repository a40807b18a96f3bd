//! What encoders have between their products: every path gives the definition's bits, they are right, and a text is alone.

#![allow(clippy::cast_possible_wrap, reason = "small numbers")]

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use hotpath_kernels::{
    Activations, Bits, Caller, Matrix, Path, Pool,
    encoder::{Activation, LayerNorm, PackingError, attend_texts, layer_norm, multiply_and_activate},
    multiply,
};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{TwoThreads, bits, cases};

fn values() -> impl Strategy<Value = f32> {
    prop_oneof![
        16 => -8.0f32..8.0,
        1 => select(vec![0.0, -0.0, 1e-42, 1e-20, 87.5, -88.5, 1e4, -1e4, 3e38, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]),
    ]
}

/// Numbers without an order that a kernel could know.
fn some(count: usize, step: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * step + i / 7) % 97) as f32 / 40.0 - 1.2).collect()
}

fn normed(path: Path, x: &[f32], addend: &[f32], norm: &LayerNorm<'_>) -> Vec<f32> {
    let mut to = vec![f32::NAN; x.len()];
    layer_norm(path, x, addend, norm, &mut to);
    to
}

/// A product's bytes: of 32 inputs, with the same code and scale everywhere.
fn weights(code: u8, scale: [u8; 2], tiles: usize) -> Vec<u8> {
    [[code; 512].to_vec(), scale.repeat(16)].concat().repeat(tiles)
}

fn activated(path: Path, x: &[f32], weights: &[u8], bias: &[f32], activation: Activation, pool: &dyn Pool) -> Vec<f32> {
    let matrix = Matrix::new(Bits::Eight, 32, bias.len(), weights).unwrap();
    let (mut quantized, mut y) = (Activations::new(), vec![f32::NAN; x.len() / 32 * bias.len()]);
    quantized.quantize(path, x, 32, pool);
    multiply_and_activate(path, &quantized, &matrix, (bias, activation), &mut y, pool);
    y
}

fn attended(path: Path, heads: (usize, usize), rows: &[f32], positions: &[i64], pool: &dyn Pool) -> Vec<f32> {
    let mut to = vec![f32::NAN; positions.len() * heads.0 * heads.1];
    attend_texts(path, heads, rows, positions, &mut to, pool).unwrap();
    to
}

/// Positions of texts of these lengths, one after the other.
fn positions(lengths: &[usize]) -> Vec<i64> {
    lengths.iter().flat_map(|length| 0..*length as i64).collect()
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn layer_norms(eights in 1usize..10, missing in 0usize..8, x in vec(values(), 160), addend in vec(values(), 160)) {
        let size = 8 * eights;
        let norm = LayerNorm { weight: &x[..size], bias: &addend[..size], epsilon: 1e-12, channels: size - missing };
        let of = |path| bits(&normed(path, &x[..2 * size], &addend[..2 * size], &norm));
        for path in Path::available() {
            prop_assert_eq!(of(path), of(Path::SCALAR), "{:?}", path);
        }
    }

    #[test]
    fn activations(tiles in 1usize..24, x in vec(values(), 96), bias in vec(values(), 384)) {
        let (weights, bias) = (weights(77, [0x66, 0x2e], tiles), &bias[..16 * tiles]);
        for activation in [Activation::None, Activation::Gelu] {
            let expected = bits(&activated(Path::SCALAR, &x, &weights, bias, activation, &Caller));
            for path in Path::available() {
                prop_assert_eq!(&bits(&activated(path, &x, &weights, bias, activation, &TwoThreads)), &expected, "{:?}", path);
            }
        }
    }

    #[test]
    fn attention(
        heads in 1usize..4, eights in select(vec![1usize, 2, 3, 4, 8]), lengths in vec(1usize..40, 1..4), some in vec(values(), 400),
    ) {
        let (size, tokens) = (8 * eights, lengths.iter().sum::<usize>());
        let rows: Vec<f32> = (0..tokens * 3 * heads * size).map(|i| some[(i * 31 + i / 89) % some.len()]).collect();
        let of = |path| bits(&attended(path, (heads, size), &rows, &positions(&lengths), &Caller));
        for path in Path::available() {
            prop_assert_eq!(of(path), of(Path::SCALAR), "{:?}", path);
        }
    }
}

#[test]
fn a_text_is_the_same_alone_and_in_company() {
    let (heads, size) = (3, 16);
    let lengths = [5, 1, 40, 64, 2, 129];
    let rows = some(lengths.iter().sum::<usize>() * 3 * heads * size, 31);
    for path in Path::available() {
        let together = attended(path, (heads, size), &rows, &positions(&lengths), &TwoThreads);
        let (mut rows, mut together) = (&rows[..], &together[..]);
        for length in lengths {
            let (own, other_rows) = rows.split_at(length * 3 * heads * size);
            let (expected, others) = together.split_at(length * heads * size);
            let alone = attended(path, (heads, size), own, &positions(&[length]), &Caller);
            assert_eq!(bits(&alone), bits(expected), "{path:?} {length}");
            (rows, together) = (other_rows, others);
        }
    }
}

#[test]
fn attention_is_a_softmax_over_the_text() {
    let (heads, size, tokens) = (2, 8, 21);
    let (width, rows) = (heads * size, some(tokens * 3 * heads * size, 11));
    let found = attended(Path::SCALAR, (heads, size), &rows, &positions(&[tokens]), &Caller);
    let part = |token: usize, part: usize, head: usize| &rows[token * 3 * width + part * width + head * size..][..size];
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    for (token, found) in found.chunks(width).enumerate() {
        for (head, found) in found.chunks(size).enumerate() {
            let weights: Vec<f64> =
                (0..tokens).map(|key| dot(part(token, 0, head), part(key, 1, head)).exp()).collect();
            let total: f64 = weights.iter().sum();
            for (i, found) in found.iter().enumerate() {
                let sum = |key: usize| weights[key] / total * f64::from(part(key, 2, head)[i]);
                let wanted: f64 = (0..tokens).map(sum).sum();
                assert!((f64::from(*found) - wanted).abs() < 2e-6, "{token} {head} {i}: {found} {wanted}");
            }
        }
    }
}

#[test]
fn rows_that_are_no_packed_batch_are_refused() {
    let rows = some(4 * 3 * 16, 5);
    let of = |heads, rows: &[f32], positions: &[i64]| {
        let mut to = vec![0.0; positions.len() * 16];
        let refused = attend_texts(Path::best(), heads, rows, positions, &mut to, &Caller).unwrap_err();
        assert!(to.iter().all(|value| *value == 0.0));
        refused
    };
    for positions in [[1, 2, 3, 4], [-1, 0, 1, 2], [0, 2, 3, 4], [0, 1, 1, 2], [0, 1, i64::MAX, 0], [0, -1, 0, 0]] {
        assert!(matches!(of((2, 8), &rows, &positions), PackingError::Position { .. }), "{positions:?}");
    }
    assert_eq!(of((2, 8), &rows, &[0, 1, 2, 2]), PackingError::Position { row: 3, position: 2 });
    for (heads, count) in [((2, 8), 4 * 48 - 1), ((4, 4), 4 * 48), ((0, 8), 4 * 48), ((16, 1), 4 * 48)] {
        assert!(matches!(of(heads, &rows[..count], &[0, 1, 2, 3]), PackingError::Shape { .. }), "{heads:?}");
    }
    // Sizes whose product is none, or is zero where it overflows.
    for heads in [(usize::MAX / 7, 8), (1 << (usize::BITS - 3), 8), (usize::MAX / 24 + 1, 8)] {
        let refused = attend_texts(Path::best(), heads, &[], &[0], &mut [], &Caller).unwrap_err();
        assert!(matches!(refused, PackingError::Shape { .. }), "{heads:?}");
    }
}

#[test]
fn a_layer_norm_is_one_over_its_channels() {
    for channels in [40, 38, 33] {
        let of = |step| {
            let mut values = some(40, step);
            values[channels..].fill(0.0);
            values
        };
        let (x, addend, weight, bias) = (of(31), of(7), of(13), of(3));
        let norm = LayerNorm { weight: &weight, bias: &bias, epsilon: 1e-3, channels };
        let found = normed(Path::SCALAR, &x, &addend, &norm);
        let sums: Vec<f64> = x.iter().zip(&addend).map(|(x, addend)| f64::from(*x) + f64::from(*addend)).collect();
        let mean = sums.iter().sum::<f64>() / channels as f64;
        let variance = sums[..channels].iter().map(|sum| (sum - mean).powi(2)).sum::<f64>() / channels as f64;
        for i in 0..channels {
            let wanted = (sums[i] - mean) / (variance + 1e-3).sqrt() * f64::from(weight[i]) + f64::from(bias[i]);
            assert!((f64::from(found[i]) - wanted).abs() < 2e-6, "{i}: {} {wanted}", found[i]);
        }
        assert!(found[channels..].iter().all(|value| *value == 0.0), "what fills up stays zeros");
    }
}

/// Φ by the series of the error function, which is exact enough where its terms are small.
fn normal(x: f64) -> f64 {
    if x.abs() > 5.7 {
        return f64::from(u8::from(x > 0.0));
    }
    let z = x * FRAC_1_SQRT_2;
    let (mut term, mut sum) = (z, z);
    for n in 1..200 {
        term *= -z * z / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    0.5 + sum / PI.sqrt()
}

#[test]
fn gelu_is_right() {
    let weights = weights(128, [0, 0], 1000); // products are zeros, and so what is activated is the bias
    let bias: Vec<f32> = (0..16_000).map(|i| (i - 8000) as f32 / 800.0).collect();
    let found = activated(Path::SCALAR, &[0.0; 32], &weights, &bias, Activation::Gelu, &Caller);
    for (x, found) in bias.iter().zip(found) {
        let wanted = f64::from(*x) * normal(f64::from(*x));
        assert!((f64::from(found) - wanted).abs() < 2e-7 * f64::from(x.abs()).max(1.0), "{x}: {found} {wanted}");
    }
}

#[test]
fn what_is_activated_is_the_product_and_its_bias() {
    let (weights, bias, x) = (weights(77, [0x66, 0x2e], 20), some(320, 17), some(5 * 32, 3));
    let (mut quantized, mut y) = (Activations::new(), vec![0.0; 5 * 320]);
    quantized.quantize(Path::SCALAR, &x, 32, &Caller);
    multiply(Path::SCALAR, &quantized, &Matrix::new(Bits::Eight, 32, 320, &weights).unwrap(), &mut y, &Caller);
    for (y, bias) in y.iter_mut().zip(bias.iter().cycle()) {
        *y += bias;
    }
    assert_eq!(bits(&activated(Path::best(), &x, &weights, &bias, Activation::None, &Caller)), bits(&y));
}

#[test]
fn a_layer_norm_that_is_rounded_is_one_that_was() {
    let (x, addend) = (some(9 * 64, 31), some(9 * 64, 7));
    let (weight, bias) = (some(64, 13), some(64, 3));
    let norm = LayerNorm { weight: &weight, bias: &bias, epsilon: 1e-5, channels: 64 };
    let weights = weights(77, [0x66, 0x2e], 4);
    let matrix = Matrix::new(Bits::Eight, 64, 32, &weights).unwrap();
    let product = |quantized: &Activations| {
        let mut y = vec![0.0; 9 * 32];
        multiply(Path::SCALAR, quantized, &matrix, &mut y, &Caller);
        bits(&y)
    };
    let (mut apart, mut at_once, mut kept) = (Activations::new(), Activations::new(), vec![0.0; x.len()]);
    let expected = normed(Path::SCALAR, &x, &addend, &norm);
    apart.quantize(Path::SCALAR, &expected, 64, &Caller);
    at_once.quantize_layer_normed(Path::best(), (&x, &addend), &norm, &mut kept, &TwoThreads);
    assert_eq!((bits(&kept), product(&at_once)), (bits(&expected), product(&apart)));
}
