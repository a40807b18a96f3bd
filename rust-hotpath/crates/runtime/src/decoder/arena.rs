//! The cache of all layers, and the binding through which ONNX Runtime reads and writes it in place.
//!
//! Past and present of a layer are bound to the same memory, so a run appends to what is there and copies nothing.

use ort::{
    memory::Allocator,
    session::{IoBinding, RunOptions, Session},
    value::{Tensor, TensorRefMut},
};

use super::{Extent, Row, cache_name, slab::Slab};

/// Slabs with the binding into them.
pub(super) struct Arena {
    /// Declared before the slabs that it points into, and so dropped before them.
    binding: Binding,
    /// Keys and values of each layer, in the graph's order.
    slabs: Vec<Slab>,
    /// Of the last run, [logit rows, vocabulary], and maybe more.
    logits: Vec<f32>,
    extent: Extent,
    /// The most tokens that each slot has held since it was released.
    touched: Vec<usize>,
}

/// A run's tensors. They stay bound, and are written in place as long as their shapes fit: to decode some sequences step after
/// step allocates nothing.
struct Binding {
    io: IoBinding,
    input_ids: Tensor<i64>,   // [rows]
    sequences: Tensor<i32>,   // [rows]
    positions: Tensor<i32>,   // [rows]
    logit_index: Tensor<i64>, // [logit_rows]
}

impl Arena {
    /// Binds a session to its cache.
    pub(super) fn bind(session: &Session, mut slabs: Vec<Slab>, extent: Extent) -> ort::Result<Self> {
        let binding = Binding::new(session, &mut slabs)?;
        Ok(Self { binding, slabs, logits: Vec::new(), extent, touched: vec![0; extent.slots] })
    }

    pub(super) fn extent(&self) -> Extent {
        self.extent
    }

    /// Runs rows, and gives the logits after some of them, [logits, vocabulary].
    pub(super) fn run(
        &mut self,
        session: &mut Session,
        options: &RunOptions,
        rows: &[Row],
        logits: &[usize],
    ) -> ort::Result<&[f32]> {
        for row in rows {
            assert!(row.slot < self.extent.slots && row.position < self.extent.capacity, "{row:?} is beyond the cache");
            let touched = &mut self.touched[row.slot];
            *touched = (row.position + 1).max(*touched);
        }
        self.binding.fill(rows, logits)?;
        let count = logits.len() * self.extent.vocabulary;
        self.logits.resize(self.logits.len().max(count), 0.0);
        // Bound anew for each run: what it was bound to may have moved.
        let of_run =
            TensorRefMut::from_array_view_mut(([logits.len(), self.extent.vocabulary], &mut self.logits[..count]))?;
        self.binding.io.bind_output("logits", of_run)?;
        session.run_binding_with_options(&self.binding.io, options)?;
        Ok(&self.logits[..count])
    }

    pub(super) fn copy(&mut self, from: usize, to: usize, tokens: usize) {
        if self.touched[to] > tokens {
            self.release(to);
        }
        self.touched[to] = tokens;
        self.slabs.iter_mut().for_each(|slab| slab.copy(from, to, tokens));
    }

    pub(super) fn release(&mut self, slot: usize) {
        if self.touched[slot] > 0 {
            self.touched[slot] = 0;
            self.slabs.iter_mut().for_each(|slab| slab.release(slot));
        }
    }
}

impl Binding {
    #[allow(unsafe_code)]
    fn new(session: &Session, slabs: &mut [Slab]) -> ort::Result<Self> {
        let mut io = session.create_binding()?;
        for (index, slab) in slabs.iter_mut().enumerate() {
            let layer = u32::try_from(index / 2).expect("layers are counted in 32 bits");
            let side = if index % 2 == 0 { "key" } else { "value" };
            // SAFETY: the view lives in this binding, which lives in the arena and is dropped before its slabs. ONNX Runtime
            // runs with it only in `Arena::run`, whose `&mut self` excludes every other run and every method of a slab.
            // Nobody reads it: its names are those of the cache.
            let mut cache = unsafe { slab.view() }?;
            io.bind_input(cache_name("past", side, layer), &cache)?;
            io.bind_output(cache_name("present", side, layer), &mut cache)?;
        }
        let memory = Allocator::default();
        let mut binding = Self {
            io,
            input_ids: Tensor::new(&memory, [1_usize])?,
            sequences: Tensor::new(&memory, [1_usize])?,
            positions: Tensor::new(&memory, [1_usize])?,
            logit_index: Tensor::new(&memory, [1_usize])?,
        };
        binding.bind_rows()?;
        binding.io.bind_input("logit_index", &binding.logit_index)?;
        Ok(binding)
    }

    fn bind_rows(&mut self) -> ort::Result<()> {
        self.io.bind_input("input_ids", &self.input_ids)?;
        self.io.bind_input("sequences", &self.sequences)?;
        self.io.bind_input("positions", &self.positions)
    }

    fn fill(&mut self, rows: &[Row], logits: &[usize]) -> ort::Result<()> {
        let memory = Allocator::default();
        if self.input_ids.extract_tensor().1.len() != rows.len() {
            self.input_ids = Tensor::new(&memory, [rows.len()])?;
            self.sequences = Tensor::new(&memory, [rows.len()])?;
            self.positions = Tensor::new(&memory, [rows.len()])?;
            self.bind_rows()?;
        }
        if self.logit_index.extract_tensor().1.len() != logits.len() {
            self.logit_index = Tensor::new(&memory, [logits.len()])?;
            self.io.bind_input("logit_index", &self.logit_index)?;
        }
        set(self.input_ids.extract_tensor_mut().1, rows.iter().map(|row| i64::from(row.token)));
        set(self.sequences.extract_tensor_mut().1, rows.iter().map(|row| place(row.slot)));
        set(self.positions.extract_tensor_mut().1, rows.iter().map(|row| place(row.position)));
        let index = |row: &usize| i64::try_from(*row).expect("a run is far smaller");
        set(self.logit_index.extract_tensor_mut().1, logits.iter().map(index));
        Ok(())
    }
}

fn set<T>(tensor: &mut [T], values: impl Iterator<Item = T>) {
    tensor.iter_mut().zip(values).for_each(|(element, value)| *element = value);
}

fn place(number: usize) -> i32 {
    i32::try_from(number).expect("a cache is far smaller")
}
