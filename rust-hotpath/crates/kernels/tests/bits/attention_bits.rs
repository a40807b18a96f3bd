//! Attention, over a cache of float16.

use std::ops::Range;

use half::f16;
use hotpath_kernels::{
    Bits, Path, Pool,
    attention::{Appended, AttentionError, Heads, append_and_attend},
    rows::{norm, swiglu},
};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    TwoThreads, bits, cases, is_emulated,
    product_bits::{Weights, product},
    row_bits::{near, values},
};

const CAPACITY: usize = 60;

/// Sequences of one cache.
#[derive(Clone)]
struct Cache {
    heads: Heads,
    keys: Vec<f16>,
    values: Vec<f16>,
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Cache {
    fn new(heads: Heads, sequences: usize) -> Self {
        let size = sequences * heads.shared * CAPACITY * heads.size;
        // Of a half of an angle's tangent, as libraries differ in the last bits of its sine.
        let tangents = (0..CAPACITY * heads.size / 2).map(|i| (i * 29 % 53) as f32 / 26.0 - 1.0);
        let (cosines, sines) = tangents.map(|t| ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t))).unzip();
        Self { heads, keys: vec![f16::ZERO; size], values: vec![f16::ZERO; size], cosines, sines }
    }

    /// Appends rows of sequences at positions.
    fn append(&mut self, path: Path, rows: &[f32], places: &[(i32, i32)]) -> Result<Vec<f32>, AttentionError> {
        self.append_by(path, rows, places, &hotpath_kernels::Caller)
    }

    fn append_by(
        &mut self,
        path: Path,
        rows: &[f32],
        places: &[(i32, i32)],
        pool: &dyn Pool,
    ) -> Result<Vec<f32>, AttentionError> {
        let Self { heads, keys, values, cosines, sines } = self;
        let mut to = vec![f32::NAN; places.len() * heads.queries * heads.size];
        let (sequences, positions): (Vec<i32>, Vec<i32>) = places.iter().copied().unzip();
        let count = keys.len() / (heads.shared * CAPACITY * heads.size);
        let appended = Appended { rows, sequences: &sequences, positions: &positions, keys, values, cosines, sines };
        append_and_attend(path, *heads, count, appended, &mut to, pool)?;
        Ok(to)
    }

    fn bits(&self) -> [Vec<u16>; 2] {
        let bits = |number: &f16| if number.is_nan() { u16::MAX } else { number.to_bits() };
        [&self.keys, &self.values].map(|numbers| numbers.iter().map(bits).collect())
    }
}

fn width(heads: Heads) -> usize {
    (heads.queries + 2 * heads.shared) * heads.size
}

/// Positions of a sequence.
fn of(sequence: i32, positions: Range<i32>) -> Vec<(i32, i32)> {
    positions.map(|position| (sequence, position)).collect()
}

fn every_path_appends_the_scalars(heads: Heads, first: i32, count: i32, some: &[f32]) {
    let take = |numbers: usize, step: usize| -> Vec<f32> {
        (0..numbers).map(|i| some[(i * step + i / 89) % some.len()]).collect()
    };
    let rows = usize::try_from(count).unwrap();
    let (before, rows) = (take(usize::try_from(first).unwrap() * width(heads), 7), take(rows * width(heads), 31));
    let by = |path| {
        let mut cache = Cache::new(heads, 2);
        cache.append(path, &before, &of(1, 0..first)).unwrap();
        let found = cache.append(path, &rows, &of(1, first..first + count)).unwrap();
        (bits(&found), cache.bits())
    };
    let expected = by(Path::SCALAR);
    for path in Path::available() {
        assert_eq!(by(path), expected, "{path:?}");
    }
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn every_path_appends_the_scalars_bits(
        shared in 1usize..3, group in 1usize..5, sixteens in select(vec![1usize, 2, 4, 5, 9]),
        first in 0i32..50, count in 1i32..10, some in vec(values(), 400),
    ) {
        let heads = Heads { queries: shared * group, shared, size: 16 * sixteens };
        every_path_appends_the_scalars(heads, first, count, &some);
    }
}

const HEADS: Heads = Heads { queries: 6, shared: 2, size: 16 };

/// A text of so many rows that depends on a number.
fn text(heads: Heads, number: usize, rows: usize) -> Vec<f32> {
    (0..rows * width(heads)).map(|i| ((i * 31 + number * 17) % 97) as f32 / 40.0 - 1.2).collect()
}

fn a_text_is_the_same(path: Path, heads: Heads) {
    let (width, row) = (width(heads), heads.queries * heads.size);
    let own = text(heads, 1, 50);
    let mut whole = Cache::new(heads, 1);
    let expected = whole.append(path, &own, &of(0, 0..50)).unwrap();
    for size in [1, 2, 7, 29] {
        let (mut cache, mut found) = (Cache::new(heads, 1), Vec::new());
        for (rows, places) in own.chunks(size * width).zip(of(0, 0..50).chunks(size)) {
            found.extend(cache.append_by(path, rows, places, &TwoThreads).unwrap());
        }
        assert_eq!(bits(&found), bits(&expected), "{path:?} {size}");
        assert_eq!(cache.bits(), whole.bits(), "{path:?} {size}");
    }
    // Token after token, in the third of three sequences, before and behind parts of another text of another length.
    let (mut cache, other) = (Cache::new(heads, 3), text(heads, 2, 50));
    for step in 0..50 {
        let own = &own[step * width..][..width];
        let (before, behind) = other[..(step % 4) * width].split_at((step % 2) * width);
        let step = i32::try_from(step).unwrap();
        let mut places = of(0, 0..step % 4);
        let at = usize::try_from(step % 2).unwrap().min(places.len());
        places.insert(at, (2, step));
        let rows = if at == 0 { [own, before, behind].concat() } else { [before, own, behind].concat() };
        let found = cache.append(path, &rows, &places).unwrap();
        let expected = &expected[usize::try_from(step).unwrap() * row..][..row];
        assert_eq!(bits(&found[at * row..][..row]), bits(expected), "{path:?} {step}");
    }
}

#[test]
fn a_text_has_the_same_bits_in_chunks_of_any_size_and_in_company() {
    let paths = Path::available();
    // The slowest says what the others are compared with elsewhere.
    for path in paths.into_iter().skip(usize::from(is_emulated())) {
        for heads in [HEADS, Heads { queries: 4, shared: 4, size: 48 }] {
            a_text_is_the_same(path, heads);
        }
    }
}

/// To the nearest float16, ties to even, and what is beyond its largest number is that one.
#[test]
fn a_cache_keeps_the_bits_of_the_nearest_number() {
    const MOST: f32 = 65504.0;
    let (least, half) = (2f32.powi(-24), 2f32.powi(-11));
    let kept = [
        (0.0, 0.0),
        (-0.0, -0.0),
        (1.0 + half, 1.0),
        (1.0 + 3.0 * half, 1.0 + 4.0 * half),
        (-1.0 - 1.01 * half, -1.0 - 2.0 * half),
        (least / 2.0, 0.0),
        (least * 0.51, least),
        (MOST, MOST),
        (65519.0, MOST),
        (65520.0, MOST), // half-way to what would be the next one
        (-65520.0, -MOST),
        (1e30, MOST),
        (f32::INFINITY, MOST),
        (f32::NEG_INFINITY, -MOST),
        (f32::NAN, f32::NAN),
        (-1e-30, -0.0),
    ];
    let heads = Heads { queries: 1, shared: 1, size: 32 };
    let (numbers, expected): (Vec<f32>, Vec<f32>) = kept.into_iter().chain(kept).unzip();
    let rows = [[0.0; 32].as_slice(), &numbers, &numbers].concat();
    for path in Path::available() {
        let mut cache = Cache::new(heads, 1);
        cache.cosines.fill(1.0);
        cache.sines.fill(0.0);
        cache.append(path, &rows, &of(0, 0..1)).unwrap();
        let found: Vec<f32> = cache.values[..32].iter().map(|number| number.to_f32()).collect();
        assert_eq!(bits(&found), bits(&expected), "{path:?}");
        // Turned by nothing, keys are the same but for the sign of zero; an infinite one is no number.
        for (key, (number, expected)) in cache.keys.iter().zip(kept) {
            let key = key.to_f32();
            assert!(key == expected || !number.is_finite() && key.is_nan(), "{path:?} {number}: {key}");
        }
    }
}

/// What a row sees is the softmax of its products with the keys, in float64, over the values.
#[test]
fn the_definition_is_a_softmax_over_the_keys() {
    let heads = Heads { queries: 3, shared: 1, size: 16 };
    let rows = text(heads, 5, 21);
    let mut cache = Cache::new(heads, 1);
    let found = cache.append(Path::SCALAR, &rows, &of(0, 0..21)).unwrap();
    let turned = |row: usize, of: usize| -> Vec<f64> {
        let head = &rows[row * width(heads) + of * 16..][..16];
        let angle = |i: usize| (f64::from(cache.cosines[row * 8 + i]), f64::from(cache.sines[row * 8 + i]));
        let [low, high] = [0, 1].map(|half| {
            (0..8).map(move |i| {
                let ((cosine, sine), (a, b)) = (angle(i), (f64::from(head[i]), f64::from(head[8 + i])));
                if half == 0 { a * cosine - b * sine } else { b * cosine + a * sine }
            })
        });
        low.chain(high).collect()
    };
    for row in 0..21 {
        for (key, exact) in cache.keys[row * 16..][..16].iter().zip(turned(row, 3)) {
            assert!((key.to_f64() - exact).abs() <= exact.abs() / 2047.0 + 1e-7, "{row}: {key} {exact}");
        }
    }
    for (row, found) in found.chunks(3 * 16).enumerate() {
        for (head, found) in found.chunks(16).enumerate() {
            let query = turned(row, head);
            let key = |token: usize| cache.keys[token * 16..][..16].iter().map(|key| key.to_f64());
            let scores = (0..=row).map(|token| query.iter().zip(key(token)).map(|(q, k)| q * k).sum::<f64>() / 4.0);
            let weights: Vec<f64> = scores.map(f64::exp).collect();
            for (i, found) in found.iter().enumerate() {
                let value = |token: usize| cache.values[token * 16 + i].to_f64();
                let sum: f64 = weights.iter().enumerate().map(|(token, weight)| weight * value(token)).sum();
                let wanted = sum / weights.iter().sum::<f64>();
                assert!(near(*found, wanted, 1.0), "{row} {head} {i}: {found} {wanted}");
            }
        }
    }
}

/// Tests elsewhere compare paths of one processor. This is what another one got.
#[test]
fn bits_are_those_of_any_other_processor() {
    let heads = Heads { queries: 3, shared: 1, size: 64 };
    let rows = text(heads, 7, 33);
    let weights = Weights::new(Bits::Four, 192, 32, None, 37);
    let table = Weights::new(Bits::Eight, 192, 32, None, 41);
    for path in Path::available() {
        let mut seen = Cache::new(heads, 1).append(path, &rows, &of(0, 0..33)).unwrap();
        let mut all = bits(&seen);
        norm(path, &seen.clone(), &rows[..192], 1e-5, &mut seen);
        all.extend(product(path, &seen, &weights, &TwoThreads));
        all.extend(product(path, &seen, &table, &TwoThreads));
        let (gate, up) = seen.split_at(seen.len() / 2);
        let mut gated = vec![0.0; gate.len()];
        swiglu(path, gate, up, &mut gated);
        all.extend(bits(&gated));
        // FNV-1a
        let hash = all
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, bits| (hash ^ u64::from(*bits)).wrapping_mul(0x100_0000_01b3));
        assert_eq!(hash, 0x0e17_cdc3_a613_e24e, "{path:?}");
    }
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_written() {
    let mut cache = Cache::new(HEADS, 1);
    let rows = text(HEADS, 1, 30);
    for (rows, places) in [
        (&rows[..], of(0, 0..29)),
        (&rows, of(0, 31..61)),
        (&rows, of(0, -1..29)),
        (&rows, of(1, 0..30)),
        (&rows, of(-1, 0..30)),
        (&rows, Vec::new()),
        (&rows[1..], of(0, 0..30)),
    ] {
        cache.append(Path::best(), rows, &places).unwrap_err();
    }
    // Whose size wraps around to that of no rows.
    let huge = Heads { queries: 1 << 60, shared: 1 << 59, size: 16 };
    let Cache { keys, values, cosines, sines, .. } = &mut cache.clone();
    let appended = Appended { rows: &[], sequences: &[0], positions: &[0], keys, values, cosines, sines };
    append_and_attend(Path::best(), huge, 1, appended, &mut [], &TwoThreads).unwrap_err();
    cache.sines.pop();
    cache.append(Path::best(), &rows, &of(0, 0..30)).unwrap_err();
    assert!(cache.keys.iter().all(|key| *key == f16::ZERO));
}
