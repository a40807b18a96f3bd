//! The kernels at a model's sizes, by one thread. `cargo bench -p hotpath-kernels`, about three minutes; `-- rows` or another
//! part of a name for some of it.
//!
//! * `product`: each takes other weights, of more bytes than the caches hold, as a model's layers do. One row is bound by memory:
//!   bytes of weights a second, to be compared with `read`, a plain loop over as many. For more rows, `elem` is a product of two
//!   numbers and its addition: Gelem/s are GMAC/s.
//! * `rows`: add, norm and quantize; `elem` is a number.
//! * `attention`: of one layer of many, whose caches lie in memory: a prompt's chunk, and a token each of eight sequences. `elem`
//!   is a query and a token that it sees.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small numbers"
)]

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::f16;
use hotpath_kernels::{
    Activations, Bits, Caller, Matrix, Normed, Path,
    attention::{Appended, Heads, append_and_attend},
    multiply,
};

/// Bytes that no cache holds.
const MEMORY: usize = 512 << 20;
/// Numbers of as many.
const CACHE: usize = 1 << 26;

fn paths() -> impl Iterator<Item = Path> {
    Path::available().into_iter().filter(|path| path.name() != "scalar")
}

/// Parts of a memory, one after the other.
struct Parts {
    memory: Vec<u8>,
    place: usize,
}

impl Parts {
    fn next(&mut self, size: usize) -> &[u8] {
        self.place = if self.place + 2 * size > self.memory.len() { 0 } else { self.place + size };
        &self.memory[self.place..][..size]
    }
}

fn products(criterion: &mut Criterion) {
    let memory = (0..MEMORY).map(|place| (place * 31 % 251) as u8 & 0x3f).collect();
    let mut parts = Parts { memory, place: 0 };
    for (bits, inputs, outputs) in
        [(Bits::Four, 576, 576), (Bits::Four, 576, 3072), (Bits::Four, 1536, 576), (Bits::Eight, 576, 49152)]
    {
        let size = inputs / 32 * (outputs / 16) * if bits == Bits::Four { 320 } else { 544 };
        let mut group = criterion.benchmark_group(format!("product of {bits:?} bits, {inputs} to {outputs}"));
        group.throughput(Throughput::BytesDecimal(size as u64));
        group.bench_function("read", |bencher| bencher.iter(|| black_box(read(parts.next(size)))));
        for rows in [1, 2, 4, 8, 16, 64] {
            let x: Vec<f32> = (0..rows * inputs).map(|place| (place % 17) as f32 - 8.0).collect();
            let mut y = vec![0.0; rows * outputs];
            if rows > 1 {
                group.throughput(Throughput::Elements((rows * inputs * outputs) as u64));
            }
            for path in paths() {
                let mut quantized = Activations::new();
                quantized.quantize(path, &x, inputs, &Caller);
                group.bench_function(BenchmarkId::new(path.name(), rows), |bencher| {
                    bencher.iter(|| {
                        let weights = Matrix::new(bits, inputs, outputs, parts.next(size)).unwrap();
                        multiply(path, &quantized, &weights, &mut y, &Caller);
                    });
                });
            }
        }
    }
}

/// The sum of all bytes, eight at a time in eight chains.
fn read(bytes: &[u8]) -> u64 {
    let mut sums = [0u64; 8];
    for part in bytes.as_chunks::<64>().0 {
        for (sum, eight) in sums.iter_mut().zip(part.as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*eight));
        }
    }
    sums.iter().sum()
}

fn rows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rows of 576");
    for rows in [1, 64] {
        let x: Vec<f32> = (0..rows * 576).map(|place| (place % 17) as f32 - 8.0).collect();
        let mut sums = vec![0.0; x.len()];
        group.throughput(Throughput::Elements(x.len() as u64));
        for path in paths() {
            let mut quantized = Activations::new();
            group.bench_function(BenchmarkId::new(path.name(), rows), |bencher| {
                bencher.iter(|| {
                    let (addend, sums, weight) = (Some(&x[..]), Some(&mut sums[..]), &x[..576]);
                    quantized.quantize_normed(path, Normed { x: &x, addend, sums, weight, epsilon: 1e-5 }, &Caller);
                });
            });
        }
    }
}

fn attention(criterion: &mut Criterion) {
    let heads = Heads { queries: 9, shared: 3, size: 64 };
    // Memory that was never written to would be one page of zeros.
    let mut cache = [(); 2].map(|()| vec![f16::from_f32_const(0.3); CACHE]);
    let mut group = criterion.benchmark_group("attention");
    let chunks = [0, 400, 1500].map(|at| (format!("chunk of 64 at {at}"), vec![0; 64], (at..at + 64).collect()));
    let tokens = [150, 600, 1500].map(|at| (format!("8 sequences at {at}"), (0..8).collect(), vec![at; 8]));
    let runs: Vec<(String, Vec<i32>, Vec<i32>)> = chunks.into_iter().chain(tokens).collect();
    for (name, sequences, positions) in runs {
        let x: Vec<f32> = (0..positions.len() * 15 * 64).map(|place| (place % 17) as f32 / 9.0 - 1.0).collect();
        let mut to = vec![0.0; positions.len() * 9 * 64];
        let slots = sequences.iter().max().map_or(0, |most| *most as usize + 1);
        let capacity = positions.iter().max().map_or(0, |most| *most as usize + 1).next_multiple_of(32);
        let (layer, angles) = (slots * heads.shared * capacity * heads.size, vec![0.7f32; capacity * heads.size / 2]);
        let seen: i32 = positions.iter().map(|position| 9 * (position + 1)).sum();
        group.throughput(Throughput::Elements(u64::from(seen.unsigned_abs())));
        for path in paths() {
            let mut place = 0;
            group.bench_function(BenchmarkId::new(path.name(), &name), |bencher| {
                bencher.iter(|| {
                    place = (place + 1) % (CACHE / layer);
                    let [keys, values] = cache.each_mut().map(|all| &mut all[place * layer..][..layer]);
                    let (rows, cosines, sines) = (&x[..], &angles[..], &angles[..]);
                    let (sequences, positions) = (&sequences[..], &positions[..]);
                    let appended = Appended { rows, sequences, positions, keys, values, cosines, sines };
                    append_and_attend(path, heads, slots, appended, &mut to, &Caller).unwrap();
                });
            });
        }
    }
}

fn quick() -> Criterion {
    let (warm_up, measurement) = (Duration::from_millis(200), Duration::from_millis(1000));
    Criterion::default().warm_up_time(warm_up).measurement_time(measurement).sample_size(20).without_plots()
}

criterion_group!(name = benches; config = quick(); targets = products, rows, attention);
criterion_main!(benches);
