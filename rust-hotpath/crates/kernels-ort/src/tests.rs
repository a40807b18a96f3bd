//! The operators in ONNX Runtime, beside the kernels themselves.

#![allow(clippy::unwrap_used, unsafe_code, reason = "a test's panic is its failure; values of memory that is bound")]
#![allow(clippy::cast_precision_loss, reason = "small numbers")]

mod onnx;

use std::{
    env,
    ffi::{CString, c_void},
    fs,
    path::PathBuf,
    ptr,
    sync::{Mutex, OnceLock},
    thread,
};

use half::f16;
use hotpath_kernels::{
    Activations, Bits, Caller, Matrix, Normed, Path, Pool,
    attention::{Appended, Heads, append_and_attend},
    multiply, multiply_gated,
};
use ort::{
    AsPointer, Error, Result,
    environment::Environment,
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput},
    session::Session,
    sys::{ONNXTensorElementDataType as Kind, OrtValue},
    value::{Tensor, TensorElementType},
};

use super::{DOMAIN, VERSION, context::Threads, domain};
use onnx::{BYTE, FLOAT, HALF, INT, LONG, constant, model, node, real, value, whole};

const HEADS: Heads = Heads { queries: 6, shared: 2, size: 32 };
const WIDTH: usize = 192;
const QKV: usize = 320;
const CAPACITY: usize = 12;
const ROWS: usize = 5;

/// ONNX Runtime, loaded once.
fn environment() -> &'static Environment {
    static LOADED: OnceLock<Environment> = OnceLock::new();
    LOADED.get_or_init(|| {
        let library = env::var_os("HOTPATH_ONNXRUNTIME_LIBRARY").map(PathBuf::from).or_else(in_wheel);
        let library = library.expect("no ONNX Runtime in .venv: set HOTPATH_ONNXRUNTIME_LIBRARY to its library");
        ort::init_from(library).unwrap().with_telemetry(false).build().unwrap()
    })
}

fn in_wheel() -> Option<PathBuf> {
    let pythons = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../.venv/lib")).ok()?;
    let folders = pythons.flatten().map(|python| python.path().join("site-packages/onnxruntime/capi"));
    let mut files = folders.flat_map(fs::read_dir).flatten().flatten().map(|file| file.path());
    files.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libonnxruntime.")))
}

fn numbers(count: usize, step: usize) -> Vec<f32> {
    (0..count).map(|i| (i * step % 41) as f32 / 20.0 - 1.0).collect()
}

fn weights(inputs: usize, outputs: usize, block: usize) -> Vec<u8> {
    let blocks = inputs / 32 * (outputs / 16);
    // Scales and offsets are then small and positive.
    (0..blocks * block).map(|i| if i % 2 == 0 { u8::try_from(i * 7 % 251).unwrap() } else { 0x1a }).collect()
}

/// An embedding, a layer's four products, and attention.
struct Decoder {
    table: Vec<u8>,
    qkv: Vec<u8>,
    output: Vec<u8>,
    gate_up: Vec<u8>,
    norm: Vec<f32>,
}

impl Decoder {
    fn new() -> Self {
        Self {
            table: weights(WIDTH, 64, 544),
            qkv: weights(WIDTH, QKV, 320),
            output: weights(WIDTH, WIDTH, 320),
            gate_up: weights(WIDTH, 128, 320),
            norm: numbers(WIDTH, 3),
        }
    }

    fn session(&self, path: Path, threads: usize) -> Result<Session> {
        let product = |bits, outputs| vec![whole("bits", bits), whole("K", WIDTH), whole("N", outputs)];
        let normed =
            |outputs, gated| [product(4, outputs), vec![whole("gated", gated), real("epsilon", 1e-5)]].concat();
        let heads = vec![whole("heads", HEADS.queries), whole("kv_heads", HEADS.shared), whole("head_dim", HEADS.size)];
        let node =
            |kind, inputs: &[&str], outputs: &[&str], attributes| node(DOMAIN, kind, inputs, outputs, attributes);
        let appended = ["qkv", "past_key", "past_value", "sequences", "positions", "cosines", "sines"];
        let nodes = vec![
            node("GatherQ", &["ids", "table"], &["embedded"], product(8, 64)),
            node("NormMatMulQ", &["embedded", "", "norm", "qkv_w"], &["qkv"], normed(QKV, 0)),
            node("CachedAttention", &appended, &["attended", "present_key", "present_value"], heads),
            node("MatMulQ", &["attended", "output_w"], &["output"], product(4, WIDTH)),
            node("NormMatMulQ", &["embedded", "output", "norm", "gate_up"], &["gated", "stream"], normed(128, 1)),
        ];
        let bytes =
            [("table", &self.table), ("qkv_w", &self.qkv), ("output_w", &self.output), ("gate_up", &self.gate_up)];
        let (cosines, sines) = angles();
        let floats = [("norm", &self.norm), ("cosines", &cosines), ("sines", &sines)].map(|(name, values)| {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            constant(name, FLOAT, values.len(), &bytes)
        });
        let bytes = bytes.map(|(name, bytes)| constant(name, BYTE, bytes.len(), bytes));
        let slots = [None, Some(HEADS.shared), None, Some(HEADS.size)];
        let inputs = vec![
            value("ids", LONG, &[None]),
            value("sequences", INT, &[None]),
            value("positions", INT, &[None]),
            value("past_key", HALF, &slots),
            value("past_value", HALF, &slots),
        ];
        let outputs = vec![
            value("gated", FLOAT, &[None, Some(64)]),
            value("stream", FLOAT, &[None, Some(WIDTH)]),
            value("present_key", HALF, &slots),
            value("present_value", HALF, &slots),
        ];
        let model = model(DOMAIN, nodes, bytes.into_iter().chain(floats).collect(), [inputs, outputs]);
        let builder = Session::builder(environment())?.with_intra_threads(threads)?; // before anything else of `ort`
        builder.with_operators(domain(path)?)?.commit_from_memory(&model)
    }

    /// What it gives for tokens of a sequence, by the kernels themselves.
    fn expected(
        &self,
        path: Path,
        ids: &[i64],
        sequences: &[i32],
        positions: &[i32],
        cache: &mut [Vec<f16>; 2],
    ) -> [Vec<f32>; 2] {
        let matrix = |bits, outputs, bytes| Matrix::new(bits, WIDTH, outputs, bytes).unwrap();
        let (rows, weight) = (ids.len(), &self.norm[..]);
        let mut embedded = vec![0.0; rows * WIDTH];
        for (id, to) in ids.iter().zip(embedded.chunks_mut(WIDTH)) {
            matrix(Bits::Eight, 64, &self.table).row(usize::try_from(*id).unwrap(), to);
        }
        let mut quantized = Activations::new();
        let normed = Normed { x: &embedded, addend: None, sums: None, weight, epsilon: 1e-5 };
        quantized.quantize_normed(path, normed, &Caller);
        let mut qkv = vec![0.0; rows * QKV];
        multiply(path, &quantized, &matrix(Bits::Four, QKV, &self.qkv), &mut qkv, &Caller);
        let (mut attended, (cosines, sines)) = (vec![0.0; rows * WIDTH], angles());
        let [keys, values] = cache;
        let slots = keys.len() / (HEADS.shared * CAPACITY * HEADS.size);
        let appended = Appended { rows: &qkv, sequences, positions, keys, values, cosines: &cosines, sines: &sines };
        append_and_attend(path, HEADS, slots, appended, &mut attended, &Caller).unwrap();
        quantized.quantize(path, &attended, WIDTH, &Caller);
        let (mut output, mut stream) = (vec![0.0; rows * WIDTH], vec![0.0; rows * WIDTH]);
        multiply(path, &quantized, &matrix(Bits::Four, WIDTH, &self.output), &mut output, &Caller);
        let normed = Normed { x: &embedded, addend: Some(&output), sums: Some(&mut stream), weight, epsilon: 1e-5 };
        quantized.quantize_normed(path, normed, &Caller);
        let mut gated = vec![0.0; rows * 64];
        multiply_gated(path, &quantized, &matrix(Bits::Four, 128, &self.gate_up), &mut gated, &Caller);
        [gated, stream]
    }
}

fn angles() -> (Vec<f32>, Vec<f32>) {
    (0..CAPACITY * HEADS.size / 2).map(|i| ((i as f32 * 0.37).cos(), (i as f32 * 0.37).sin())).unzip()
}

fn empty_cache() -> [Vec<f16>; 2] {
    [(); 2].map(|()| vec![f16::ZERO; CACHE.iter().product()])
}

/// A value over memory of the test's.
struct Bound(*mut OrtValue);

impl Bound {
    fn new<T>(kind: Kind, data: *mut T, shape: &[usize]) -> Self {
        let shape: Vec<i64> = shape.iter().map(|axis| i64::try_from(*axis).unwrap()).collect();
        let bytes = size_of::<T>() * usize::try_from(shape.iter().product::<i64>()).unwrap();
        let place = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default).unwrap();
        let mut value = ptr::null_mut();
        // SAFETY: so many bytes are there; the test keeps them.
        let status = unsafe {
            let data: *mut c_void = data.cast();
            let (axes, count) = (shape.as_ptr(), shape.len());
            (ort::api().CreateTensorWithDataAsOrtValue)(place.ptr(), data, bytes, axes, count, kind, &raw mut value)
        };
        // SAFETY: as above.
        unsafe { Error::result_from_status(status) }.unwrap();
        Self(value)
    }

    fn floats(data: *mut f32, shape: &[usize]) -> Self {
        Self::new(Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, data, shape)
    }

    fn cache(data: *mut f16) -> Self {
        Self::new(Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, data, &CACHE)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // SAFETY: nobody else has it.
        unsafe { (ort::api().ReleaseValue)(self.0) }
    }
}

struct Shared(*mut ort::sys::OrtSession);
// SAFETY: ONNX Runtime lets threads run one session at once.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

const CACHE: [usize; 4] = [2, HEADS.shared, CAPACITY, HEADS.size];

impl Shared {
    /// Runs with past and present of the cache at the given places.
    fn run(
        &self,
        ids: &mut [i64],
        sequences: &mut [i32],
        positions: *mut i32,
        past: [*mut f16; 2],
        present: [*mut f16; 2],
    ) -> Result<[Vec<f32>; 2]> {
        let rows = ids.len();
        let (int, long) = (Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64);
        let inputs = [
            Bound::new(long, ids.as_mut_ptr(), &[rows]),
            Bound::new(int, sequences.as_mut_ptr(), &[rows]),
            Bound::new(int, positions, &[rows]),
            Bound::cache(past[0]),
            Bound::cache(past[1]),
        ];
        let mut found = [vec![f32::NAN; rows * 64], vec![f32::NAN; rows * WIDTH]];
        let [gated, stream] = &mut found;
        let outputs = [
            Bound::floats(gated.as_mut_ptr(), &[rows, 64]),
            Bound::floats(stream.as_mut_ptr(), &[rows, WIDTH]),
            Bound::cache(present[0]),
            Bound::cache(present[1]),
        ];
        let names: [&[&str]; 2] = [
            &["ids", "sequences", "positions", "past_key", "past_value"],
            &["gated", "stream", "present_key", "present_value"],
        ];
        self.run_bound(names, &inputs, &outputs)?;
        Ok(found)
    }

    /// Runs with values of the inputs and outputs of these names.
    fn run_bound(&self, names: [&[&str]; 2], inputs: &[Bound], outputs: &[Bound]) -> Result<()> {
        let names = names.map(|of| of.iter().map(|name| CString::new(*name).unwrap()).collect::<Vec<_>>());
        let [input_names, output_names] =
            names.each_ref().map(|of| of.iter().map(|name| name.as_ptr()).collect::<Vec<_>>());
        let inputs: Vec<_> = inputs.iter().map(|value| value.0.cast_const()).collect();
        let mut outputs: Vec<_> = outputs.iter().map(|value| value.0).collect();
        // SAFETY: arguments are as the API wants them.
        unsafe {
            Error::result_from_status((ort::api().Run)(
                self.0,
                ptr::null(),
                input_names.as_ptr(),
                inputs.as_ptr(),
                inputs.len(),
                output_names.as_ptr(),
                outputs.len(),
                outputs.as_mut_ptr(),
            ))
        }
    }
}

fn shared(session: &Session) -> Shared {
    Shared(session.ptr().cast_mut())
}

fn places() -> ([i64; ROWS], [i32; ROWS], [i32; ROWS]) {
    ([3, 63, 0, 17, 5], [1, 1, 0, 1, 1], [0, 1, 0, 2, 3])
}

#[test]
fn operators_give_the_kernels_bits_and_append_in_place_or_to_a_copy() {
    let decoder = Decoder::new();
    for path in Path::available() {
        let (mut ids, mut sequences, mut positions) = places();
        let mut expected_cache = empty_cache();
        let expected = decoder.expected(path, &ids, &sequences, &positions, &mut expected_cache);
        assert!(expected.iter().flatten().all(|number| number.is_finite() && *number != 0.0));
        for threads in [1, 2] {
            let session = decoder.session(path, threads).unwrap();
            let [mut keys, mut values] = empty_cache();
            let cache = [keys.as_mut_ptr(), values.as_mut_ptr()];
            let found = shared(&session).run(&mut ids, &mut sequences, positions.as_mut_ptr(), cache, cache).unwrap();
            assert_eq!((&found, [&keys, &values]), (&expected, expected_cache.each_ref()), "{path:?} {threads}");

            let ([mut past_keys, mut past_values], [mut keys, mut values]) = (empty_cache(), empty_cache());
            let past = [past_keys.as_mut_ptr(), past_values.as_mut_ptr()];
            let present = [keys.as_mut_ptr(), values.as_mut_ptr()];
            let found = shared(&session).run(&mut ids, &mut sequences, positions.as_mut_ptr(), past, present).unwrap();
            assert_eq!((&found, [&keys, &values]), (&expected, expected_cache.each_ref()), "{path:?} {threads}");
            assert_eq!([past_keys, past_values], empty_cache());
        }
    }
}

#[test]
fn memory_that_is_anothers_or_at_an_odd_place_is_refused() {
    let session = Decoder::new().session(Path::best(), 1).unwrap();
    let session = shared(&session);
    let (mut ids, mut sequences, mut positions) = places();
    let size = CACHE.iter().product::<usize>();
    let mut memory = vec![f16::ZERO; 4 * size];
    let start = memory.as_mut_ptr();
    let at = |number: usize| start.wrapping_add(number);
    let good = [at(0), at(size)];
    let mut run =
        |past, present, positions: *mut i32| session.run(&mut ids, &mut sequences, positions, past, present).map(drop);
    run(good, good, positions.as_mut_ptr()).unwrap();
    for present in [[at(size), at(0)], [at(0), at(0)], [at(0), at(size + 1)], [at(2 * size), at(2 * size + 8)]] {
        run(good, present, positions.as_mut_ptr()).unwrap_err();
    }
    // Positions in a cache, and those that are no whole addresses.
    run(good, good, at(size - 8).cast()).unwrap_err();
    let mut odd = [0u8; 4 * ROWS + 4];
    let place = odd.as_mut_ptr().wrapping_add(1 + odd.as_ptr().align_offset(4));
    run(good, good, place.cast()).unwrap_err();
}

#[test]
fn what_a_run_may_not_say_is_refused() {
    let session = Decoder::new().session(Path::best(), 2).unwrap();
    let session = shared(&session);
    let [mut keys, mut values] = empty_cache();
    let cache = [keys.as_mut_ptr(), values.as_mut_ptr()];
    let run = |id, sequence, position: i32| {
        let mut positions = [position];
        session.run(&mut [id], &mut [sequence], positions.as_mut_ptr(), cache, cache).map_err(|error| error.to_string())
    };
    run(63, 1, 11).unwrap();
    for (id, sequence, position) in [(64, 0, 0), (-1, 0, 0), (0, 2, 0), (0, -1, 0), (0, 0, 12), (0, 0, -1)] {
        let why = run(id, sequence, position).unwrap_err();
        assert!(why.contains("is not among 64 rows") || why.contains("a row of sequence"), "{why}");
    }
}

#[test]
fn threads_run_one_session_at_once() {
    let decoder = Decoder::new();
    let session = decoder.session(Path::best(), 2).unwrap();
    let session = &shared(&session);
    thread::scope(|scope| {
        for thread in 0..4 {
            let decoder = &decoder;
            scope.spawn(move || {
                for run in 0..50 {
                    // Of other lengths in each, so that what is kept between runs is of another.
                    let rows = 1 + (run + 3 * thread) % ROWS;
                    let (ids, sequences, positions) = places();
                    let (ids, sequences, positions) = (&ids[..rows], &sequences[..rows], &positions[..rows]);
                    let mut cache = empty_cache();
                    let expected = decoder.expected(Path::best(), ids, sequences, positions, &mut cache);
                    let [mut keys, mut values] = empty_cache();
                    let at = [keys.as_mut_ptr(), values.as_mut_ptr()];
                    let (mut sequences, mut positions) = (sequences.to_vec(), positions.to_vec());
                    let found = session.run(&mut ids.to_vec(), &mut sequences, positions.as_mut_ptr(), at, at).unwrap();
                    assert_eq!((found, [keys, values]), (expected, cache), "{thread} {run}");
                }
            });
        }
    });
}

/// Panics where it is told to.
struct Failing(&'static str);

impl Operator for Failing {
    type Kernel<'a> = Failing;

    fn name(&self) -> &'static str {
        "Failing"
    }

    fn versions(&self) -> std::ops::RangeInclusive<u32> {
        VERSION..=VERSION
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::required(TensorElementType::Float32)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel(&self, _: &KernelContext<'_>) -> Result<Self> {
        super::context::fenced(|| {
            assert_ne!(self.0, "creation", "as told");
            Ok(Self(self.0))
        })
    }
}

impl Kernel for Failing {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        super::context::fenced(|| {
            let done = Mutex::new(0);
            Threads(context).run(64, &|part| {
                assert!(self.0 != "a part" || part != 40, "as told");
                *done.lock().unwrap() += 1;
            });
            assert_eq!(*done.lock().unwrap(), 64, "each part once");
            Err(Error::new("all went well"))
        })
    }
}

#[test]
fn a_panic_is_an_error_of_the_run() {
    let run = |place| -> Result<()> {
        let ends = ["x", "y"].map(|name| vec![value(name, FLOAT, &[Some(1)])]);
        let model = model("test", vec![node("test", "Failing", &["x"], &["y"], vec![])], vec![], ends);
        let environment = environment(); // before anything else of `ort`
        let operators = OperatorDomain::new("test")?.add(Failing(place))?;
        let mut builder = Session::builder(environment)?.with_intra_threads(2)?.with_operators(operators)?;
        builder.commit_from_memory(&model)?.run(ort::inputs![Tensor::from_array(([1], vec![1.0f32]))?]).map(drop)
    };
    for (place, error) in [("creation", "panicked"), ("a part", "panicked"), ("nowhere", "all went well")] {
        let found = run(place).unwrap_err().to_string();
        assert!(found.contains(error), "{place}: {found}");
    }
}
