//! The cache of all layers, and the bindings through which ONNX Runtime reads and writes it in place.
//!
//! Past and present of a layer are bound to the same rows, so a step appends to what is there and copies nothing.

use std::{collections::HashMap, io, ops::Range};

use ort::{
    memory::Allocator,
    session::{IoBinding, RunOptions, Session},
    value::{Tensor, TensorRefMut},
};

use super::{Extent, cache_name, slab::Slab};

/// Slabs with the bindings into them.
pub(super) struct Arena {
    /// By first row and number of rows. Made when first needed and kept, because a step is not much longer than making
    /// one. Declared before the slabs that they point into, and so dropped before them.
    bindings: HashMap<(usize, usize), Binding>,
    /// Keys and values of each layer, in the graph's order.
    slabs: Vec<Slab>,
    /// Of the last run, [logits, vocabulary], and maybe more. One memory for all bindings: of its own, each would have a
    /// table as large as a step of its rows.
    logits: Vec<f32>,
    extent: Extent,
    /// The most tokens that each row has held since it was released.
    touched: Vec<usize>,
}

/// What a run takes beside the cache.
pub(super) struct Batch<'a> {
    /// [rows, tokens].
    pub token_ids: &'a [i64],
    /// Tokens of each row.
    pub tokens: usize,
    /// Each row's length after the run.
    pub lengths: &'a [i32],
    /// Which of the flattened positions to give logits of.
    pub logits: Range<usize>,
}

/// A run's tensors for some rows. They stay bound, and are written in place as long as their shapes fit.
struct Binding {
    io: IoBinding,
    input_ids: Tensor<i64>,             // [rows, tokens]
    seqlens_k: Tensor<i32>,             // [rows]
    total_sequence_length: Tensor<i32>, // []
    logit_index: Tensor<i64>,           // [logit_rows]
}

impl Arena {
    pub(super) fn reserve(extent: Extent) -> io::Result<Self> {
        let slabs = (0..extent.layers * 2).map(|_| Slab::reserve(extent)).collect::<io::Result<_>>()?;
        Ok(Self { bindings: HashMap::new(), slabs, logits: Vec::new(), extent, touched: vec![0; extent.rows] })
    }

    pub(super) fn extent(&self) -> Extent {
        self.extent
    }

    /// Runs the rows from `first` on and gives the logits, [logits, vocabulary].
    pub(super) fn run(
        &mut self,
        session: &mut Session,
        options: &RunOptions,
        first: usize,
        batch: &Batch,
    ) -> ort::Result<&[f32]> {
        let rows = batch.lengths.len();
        for (touched, length) in self.touched[first..first + rows].iter_mut().zip(batch.lengths) {
            let length = usize::try_from(*length).expect("lengths are above 0");
            assert!(batch.tokens <= length && length <= self.extent.capacity, "a row runs over");
            *touched = length.max(*touched);
        }
        if !self.bindings.contains_key(&(first, rows)) {
            let binding = Binding::new(session, &mut self.slabs, first, rows)?;
            self.bindings.insert((first, rows), binding);
        }
        let binding = self.bindings.get_mut(&(first, rows)).expect("it is there now");
        binding.fill(batch)?;
        let (logit_rows, vocabulary) = (batch.logits.len(), self.extent.vocabulary);
        let count = logit_rows * vocabulary;
        self.logits.resize(self.logits.len().max(count), 0.0);
        // Bound anew for each run: what another binding still points to may have moved, and is written by no run.
        let logits = TensorRefMut::from_array_view_mut(([logit_rows, vocabulary], &mut self.logits[..count]))?;
        binding.io.bind_output("logits", logits)?;
        session.run_binding_with_options(&binding.io, options)?;
        Ok(&self.logits[..count])
    }

    pub(super) fn copy_row(&mut self, from: usize, to: usize, tokens: usize) {
        if self.touched[to] > tokens {
            self.release_row(to);
        }
        self.touched[to] = tokens;
        self.slabs.iter_mut().for_each(|slab| slab.copy_row(from, to, tokens));
    }

    pub(super) fn release_row(&mut self, row: usize) {
        if self.touched[row] > 0 {
            self.touched[row] = 0;
            self.slabs.iter_mut().for_each(|slab| slab.release_row(row));
        }
    }
}

impl Binding {
    #[allow(unsafe_code)]
    fn new(session: &Session, slabs: &mut [Slab], first: usize, rows: usize) -> ort::Result<Self> {
        let mut io = session.create_binding()?;
        for (index, slab) in slabs.iter_mut().enumerate() {
            let layer = u32::try_from(index / 2).expect("layers are counted in 32 bits");
            let side = if index % 2 == 0 { "key" } else { "value" };
            // SAFETY: the view lives in this binding, which lives in the arena and is dropped before its slabs. ONNX Runtime
            // runs with it only in `Arena::run`, whose `&mut self` excludes every other run and every method of a slab.
            // Nobody reads it: its names are those of the cache.
            let mut rows = unsafe { slab.view(first, rows) }?;
            io.bind_input(cache_name("past", side, layer), &rows)?;
            io.bind_output(cache_name("present", side, layer), &mut rows)?;
        }
        let memory = Allocator::default();
        let mut binding = Self {
            io,
            input_ids: Tensor::new(&memory, [rows, 1])?,
            seqlens_k: Tensor::new(&memory, [rows])?,
            total_sequence_length: Tensor::new(&memory, [0_usize; 0])?,
            logit_index: Tensor::new(&memory, [rows])?,
        };
        binding.io.bind_input("input_ids", &binding.input_ids)?;
        binding.io.bind_input("seqlens_k", &binding.seqlens_k)?;
        binding.io.bind_input("total_sequence_length", &binding.total_sequence_length)?;
        binding.io.bind_input("logit_index", &binding.logit_index)?;
        Ok(binding)
    }

    fn fill(&mut self, batch: &Batch) -> ort::Result<()> {
        let memory = Allocator::default();
        let (rows, logit_rows) = (batch.lengths.len(), batch.logits.len());
        if self.input_ids.extract_tensor().1.len() != batch.token_ids.len() {
            self.input_ids = Tensor::new(&memory, [rows, batch.tokens])?;
            self.io.bind_input("input_ids", &self.input_ids)?;
        }
        if self.logit_index.extract_tensor().1.len() != logit_rows {
            self.logit_index = Tensor::new(&memory, [logit_rows])?;
            self.io.bind_input("logit_index", &self.logit_index)?;
        }
        self.input_ids.extract_tensor_mut().1.copy_from_slice(batch.token_ids);
        for (seqlen, length) in self.seqlens_k.extract_tensor_mut().1.iter_mut().zip(batch.lengths) {
            *seqlen = length - 1;
        }
        let longest = batch.lengths.iter().copied().max().unwrap_or(0);
        self.total_sequence_length.extract_tensor_mut().1.fill(longest);
        for (index, position) in self.logit_index.extract_tensor_mut().1.iter_mut().zip(batch.logits.clone()) {
            *index = i64::try_from(position).expect("a batch is far smaller");
        }
        Ok(())
    }
}
