//! What stands between the products.

use hotpath_kernels::{
    Path,
    rows::{add, norm, swiglu},
};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{bits, cases};

pub fn values() -> impl Strategy<Value = f32> {
    prop_oneof![
        16 => -8.0f32..8.0,
        1 => select(vec![0.0, -0.0, 1e-42, 1e-20, 87.5, -88.5, 1e4, -1e4, 3e38, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]),
    ]
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn norms_and_gates(eights in 1usize..10, x in vec(values(), 240), addend in vec(values(), 240)) {
        let size = 8 * eights;
        let of = |path| {
            let (mut stream, mut states, mut gated) = (vec![0.0; 3 * size], vec![0.0; 3 * size], vec![0.0; 3 * size]);
            let (x, addend) = (&x[..3 * size], &addend[..3 * size]);
            add(path, x, addend, &mut stream);
            norm(path, &stream, &x[..size], 1e-5, &mut states);
            swiglu(path, x, addend, &mut gated);
            [bits(&stream), bits(&states), bits(&gated)]
        };
        let expected = of(Path::SCALAR);
        for path in Path::available() {
            prop_assert_eq!(&of(path), &expected, "{:?}", path);
        }
    }
}

/// `wanted` within a few units in the last place of its kind.
pub fn near(found: f32, wanted: f64, scale: f64) -> bool {
    (f64::from(found) - wanted).abs() <= 1e-6 * scale.max(wanted.abs())
}

#[test]
fn the_definition_is_right() {
    let x: Vec<f32> = (0..576).map(|i| (i * 37 % 101) as f32 / 10.0 - 5.0).collect();
    let addend: Vec<f32> = x.iter().rev().copied().collect();
    let (mut stream, mut states, mut gated) = (vec![0.0; 576], vec![0.0; 576], vec![0.0; 576]);
    add(Path::SCALAR, &x, &addend, &mut stream);
    norm(Path::SCALAR, &stream, &x, 1e-5, &mut states);
    swiglu(Path::SCALAR, &x, &addend, &mut gated);
    let sums: Vec<f64> = x.iter().zip(&addend).map(|(x, addend)| f64::from(*x) + f64::from(*addend)).collect();
    let mean = sums.iter().map(|sum| sum * sum).sum::<f64>() / 576.0;
    for i in 0..576 {
        let (x, addend) = (f64::from(x[i]), f64::from(addend[i]));
        assert!(near(stream[i], sums[i], 1.0));
        assert!(near(states[i], sums[i] / (mean + 1e-5).sqrt() * x, 1.0), "{i}");
        assert!(near(gated[i], x / (1.0 + (-x).exp()) * addend, 1.0), "{i}");
    }
}
