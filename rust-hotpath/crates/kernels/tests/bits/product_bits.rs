//! Products.

use half::f16;
use hotpath_kernels::{
    Activations, BLOCK, Bits, Caller, Matrix, Normed, Path, Pool, TILE, multiply, multiply_gated,
    product::ROWS,
    rows::{add, norm, swiglu},
};
use proptest::{prelude::*, sample::select};

use crate::{Random, TwoThreads, bits, cases, is_emulated};

/// Bytes of a block of a tile.
fn block_bytes(bits: Bits) -> (usize, usize) {
    match bits {
        Bits::Four => (256, 64),
        Bits::Eight => (512, 32),
    }
}

/// Bytes that a matrix may borrow: scales are read where they lie.
#[repr(align(64))]
#[derive(Debug, Clone, Copy)]
struct Line([u8; 64]);

#[derive(Debug, Clone)]
pub struct Weights {
    bits: Bits,
    inputs: usize,
    outputs: usize,
    lines: Vec<Line>,
}

impl Weights {
    /// Of random codes, or of one code, and random scales.
    pub fn new(bits: Bits, inputs: usize, outputs: usize, code: Option<u8>, seed: u64) -> Self {
        let mut random = Random(seed | 1);
        let (codes, rest) = block_bytes(bits);
        let mut bytes = vec![0u8; inputs / BLOCK * (outputs / TILE) * (codes + rest)];
        for block in bytes.chunks_exact_mut(codes + rest) {
            let (codes, scales) = block.split_at_mut(codes);
            codes.fill_with(|| code.unwrap_or_else(|| random.byte()));
            for scale in scales.chunks_exact_mut(2) {
                // Subnormal ones too.
                scale.copy_from_slice(
                    &f16::from_f32(random.float() * 2f32.powi(-i32::from(random.byte() % 24))).to_le_bytes(),
                );
            }
        }
        let lines = bytes.chunks(64).map(|part| {
            let mut line = Line([0; 64]);
            line.0[..part.len()].copy_from_slice(part);
            line
        });
        Self { bits, inputs, outputs, lines: lines.collect() }
    }

    fn matrix(&self) -> Matrix<'_> {
        let (codes, rest) = block_bytes(self.bits);
        let size = self.inputs / BLOCK * (self.outputs / TILE) * (codes + rest);
        Matrix::new(self.bits, self.inputs, self.outputs, &flat(&self.lines)[..size]).unwrap()
    }
}

fn flat(lines: &[Line]) -> &[u8] {
    // SAFETY: lines are bytes alone, one after the other.
    #[allow(unsafe_code)]
    unsafe {
        std::slice::from_raw_parts(lines.as_ptr().cast(), 64 * lines.len())
    }
}

pub fn product(path: Path, x: &[f32], weights: &Weights, pool: &dyn Pool) -> Vec<u32> {
    let (mut quantized, matrix) = (Activations::new(), weights.matrix());
    quantized.quantize(path, x, weights.inputs, pool);
    let mut y = vec![f32::NAN; quantized.rows() * weights.outputs];
    multiply(path, &quantized, &matrix, &mut y, pool);
    bits(&y)
}

/// Values of every kind that a row may have.
fn values() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => -8.0f32..8.0,
        1 => Just(0.0),
        1 => select(vec![-0.0, 1e-42, -1e-38, 1e-30, 0.99e-30, 3.0, -3.0, 1e6, -3e38, f32::MAX, f32::MIN_POSITIVE]),
    ]
}

fn forms() -> impl Strategy<Value = Bits> {
    select(vec![Bits::Four, Bits::Eight])
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn every_path_gives_the_scalars_bits(
        form in forms(), blocks in 1usize..8, tiles in 1usize..12, rows in 1usize..=19, seed: u64,
        code in prop_oneof![4 => Just(None), 1 => any::<u8>().prop_map(Some)],
        some in prop::collection::vec(values(), 256),
    ) {
        let weights = Weights::new(form, BLOCK * blocks, TILE * tiles, code, seed);
        let x: Vec<f32> = (0..rows * weights.inputs).map(|place| some[(place * 31 + place / 97) % some.len()]).collect();
        let expected = product(Path::SCALAR, &x, &weights, &Caller);
        for path in Path::available() {
            prop_assert_eq!(&product(path, &x, &weights, &Caller), &expected, "{:?}", path);
        }
    }
}

/// Of the sizes of a model, from one row to more than are taken at once several times.
#[test]
fn a_row_has_the_same_bits_in_any_company() {
    let most: usize = if is_emulated() { 20 } else { 128 };
    let mut random = Random(88_172_645_463_325_252);
    for bits in [Bits::Four, Bits::Eight] {
        for (inputs, outputs) in [(576, 48), (1536, 16)] {
            let weights = Weights::new(bits, inputs, outputs, None, 7);
            let x: Vec<f32> = (0..most * inputs).map(|_| random.float() * 8.0).collect();
            for path in Path::available().into_iter().filter(|path| path.name() != "scalar") {
                let expected = product(path, &x, &weights, &Caller);
                for rows in 1..=most {
                    for first in [0, most - rows] {
                        let found = product(path, &x[first * inputs..][..rows * inputs], &weights, &Caller);
                        assert_eq!(found, expected[first * outputs..][..rows * outputs], "{path:?} {bits:?} {rows}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_largest_codes_and_activations_do_not_overflow() {
    for (bits, code) in [(Bits::Four, 0xff), (Bits::Eight, 0xff), (Bits::Eight, 0)] {
        let weights = Weights::new(bits, 2 * BLOCK, TILE, Some(code), 3);
        for x in [3.0f32, -3.0] {
            let x = vec![x; (ROWS + 1) * weights.inputs];
            let expected = product(Path::SCALAR, &x, &weights, &Caller);
            for path in Path::available() {
                assert_eq!(product(path, &x, &weights, &Caller), expected, "{path:?}");
            }
        }
    }
}

#[test]
fn what_is_no_number_spoils_its_row_alone() {
    for bits in [Bits::Four, Bits::Eight] {
        let weights = Weights::new(bits, 2 * BLOCK, TILE, None, 5);
        let clean = vec![1.5f32; 6 * weights.inputs];
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN] {
            let mut x = clean.clone();
            x[2 * weights.inputs + 40] = wrong;
            for path in Path::available() {
                let (found, expected) =
                    (product(path, &x, &weights, &Caller), product(path, &clean, &weights, &Caller));
                for row in 0..6 {
                    let of_row = row * TILE..(row + 1) * TILE;
                    if row == 2 {
                        assert_eq!(found[of_row], [u32::MAX; TILE], "{path:?}");
                    } else {
                        assert_eq!(found[of_row.clone()], expected[of_row], "{path:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_gated_product_is_the_gate_of_a_product() {
    let weights = Weights::new(Bits::Four, 64, 16 * 22, None, 19);
    let mut random = Random(23);
    let x: Vec<f32> = (0..9 * 64).map(|_| random.float()).collect();
    for path in Path::available() {
        let mut quantized = Activations::new();
        quantized.quantize(path, &x, 64, &Caller);
        let (mut both, mut found) = (vec![0.0; 9 * 352], vec![f32::NAN; 9 * 176]);
        multiply(path, &quantized, &weights.matrix(), &mut both, &Caller);
        multiply_gated(path, &quantized, &weights.matrix(), &mut found, &TwoThreads);
        for (pair, found) in both.chunks(2 * TILE).zip(found.chunks(TILE)) {
            let mut gated = [0.0; TILE];
            swiglu(path, &pair[..TILE], &pair[TILE..], &mut gated);
            assert_eq!(gated, found, "{path:?}");
        }
    }
}

/// So many rows that threads share the quantizing.
#[test]
fn a_normed_product_is_the_product_of_a_norm() {
    let weights = Weights::new(Bits::Eight, 576, 32, None, 29);
    let mut random = Random(31);
    let [x, addend] = [(); 2].map(|()| (0..30 * 576).map(|_| random.float()).collect::<Vec<f32>>());
    let weight = &addend[..576];
    for path in Path::available() {
        for addend in [None, Some(&addend)] {
            let (mut sums, mut normed) = (x.clone(), vec![0.0; x.len()]);
            if let Some(addend) = addend {
                add(path, &x, addend, &mut sums);
            }
            norm(path, &sums, weight, 1e-5, &mut normed);
            let expected = product(path, &normed, &weights, &Caller);

            for wanted in [true, false] {
                let (mut quantized, mut kept) = (Activations::new(), vec![f32::NAN; x.len()]);
                let (addend, sums_to) = (addend.map(|addend| &addend[..]), wanted.then_some(&mut kept[..]));
                let normed = Normed { x: &x, addend, sums: sums_to, weight, epsilon: 1e-5 };
                quantized.quantize_normed(path, normed, &TwoThreads);
                let mut y = vec![f32::NAN; 30 * 32];
                multiply(path, &quantized, &weights.matrix(), &mut y, &TwoThreads);
                assert_eq!(bits(&y), expected, "{path:?}");
                assert!(!wanted || bits(&kept) == bits(&sums), "{path:?}");
            }
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let weights = Weights::new(Bits::Four, 64, 16 * 40, None, 9);
    let mut random = Random(11);
    let x: Vec<f32> = (0..300 * 64).map(|_| random.float()).collect();
    for path in Path::available() {
        assert_eq!(product(path, &x, &weights, &TwoThreads), product(path, &x, &weights, &Caller), "{path:?}");
    }
}

/// The definition itself, against a sum in float64 of what the weights stand for.
#[test]
fn the_definition_is_a_product() {
    for bits in [Bits::Four, Bits::Eight] {
        let weights = Weights::new(bits, 576, 16, None, 13);
        let mut random = Random(17);
        let x: Vec<f32> = (0..576).map(|_| random.float()).collect();
        let found = product(Path::SCALAR, &x, &weights, &Caller);
        let mut row = vec![0.0; 576];
        for (output, found) in found.into_iter().enumerate() {
            weights.matrix().row(output, &mut row);
            let exact: f64 = row.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
            // Rounding to 8 bits moves an input by 1/254 of its block's largest at most.
            let bound: f64 = row.iter().map(|w| f64::from(w.abs())).sum::<f64>() / 254.0 + 1e-3;
            assert!((f64::from(f32::from_bits(found)) - exact).abs() < bound, "{bits:?} {output}");
        }
    }
}
