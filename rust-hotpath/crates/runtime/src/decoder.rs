//! The decoder: one session, and the cache of what it computed of earlier tokens.

mod arena;
mod slab;

use std::{io, sync::Arc};

use arena::Arena;
use hotpath_bundle::{Axis, Bundle, ElementType, Graph, KvCache, Refused, Tensor};
use ort::session::Session;
use slab::Slab;

use crate::{
    Library, RunError, graph,
    library::Runs,
    session::{self, Threads},
};

/// What a decoder's graph takes beside its cache: name and type, in order. `docs/architecture.md` says what each means.
const INPUTS: [(&str, ElementType); 4] = [
    ("input_ids", ElementType::Int64),
    ("sequences", ElementType::Int32),
    ("positions", ElementType::Int32),
    ("logit_index", ElementType::Int64),
];
const OUTPUT: &str = "logits";

/// One session that continues token ids. The seam between the generation loop and ONNX Runtime, so that the loop is tested
/// with sessions that fail on demand.
///
/// A sequence's tokens are in one slot of the cache, in their order. What a run gives of a row is the same to the last bit
/// whatever else is in the run, however the tokens before it were cut into runs, and whatever the slot held before.
pub trait Decode: Send {
    /// The cache's size.
    fn extent(&self) -> Extent;

    /// Puts some tokens of any sequences into their slots, and gives the logits after the rows that `logits` names,
    /// [logits, vocabulary]. What is before a row in its slot must be there, or among the rows before it; what was there from
    /// its position on is gone.
    ///
    /// # Errors
    /// [`RunError`] when the run failed. It may be repeated: a slot holds what it held before the positions of the rows.
    fn run(&mut self, rows: &[Row], logits: &[usize]) -> Result<&[f32], RunError>;

    /// Makes the first tokens of a slot those of another one. What it held beyond them is gone.
    fn copy(&mut self, from: usize, to: usize, tokens: usize);

    /// Gives a slot's memory back.
    fn release(&mut self, slot: usize);
}

/// One token of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The token.
    pub token: u32,
    /// The slot of its sequence.
    pub slot: usize,
    /// Tokens of the sequence before it.
    pub position: usize,
}

/// Size of a cache. For each layer there are keys and values, both float16 [slots, heads, capacity, dimensions].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Slots, of which each holds one sequence.
    pub slots: usize,
    /// Layers.
    pub layers: usize,
    /// Key and value heads.
    pub heads: usize,
    /// Most tokens of a slot.
    pub capacity: usize,
    /// Numbers in each head's key or value of a token.
    pub dimensions: usize,
    /// Logits after a token.
    pub vocabulary: usize,
}

impl Extent {
    /// Bytes that each token takes in all layers.
    #[must_use]
    pub fn token_bytes(&self) -> usize {
        self.layers * 2 * self.heads * self.dimensions * slab::NUMBER
    }

    fn head_bytes(&self) -> usize {
        self.capacity * self.dimensions * slab::NUMBER
    }

    /// Bytes of a slot in one slab.
    fn slot_bytes(&self) -> usize {
        self.heads * self.head_bytes()
    }

    /// The same with a capacity for which slots do not share pages.
    fn aligned(self) -> Self {
        let mut extent = self;
        while !extent.slot_bytes().is_multiple_of(slab::SLOT_ALIGNMENT) {
            extent.capacity += 1;
        }
        extent
    }
}

/// A session of a decoder and its cache. Runs begin on the thread that calls them.
pub struct Decoder {
    session: Session,
    runs: Arc<Runs>,
    arena: Arena,
}

impl Decoder {
    /// Loads one graph of a bundle, with a cache of some slots of at most `capacity` tokens each (the model's `max_tokens` at
    /// most). A slot takes memory for the tokens that it holds, not for its capacity.
    ///
    /// # Errors
    /// [`Refused`] when the graph needs another ONNX Runtime or other operators, cannot be loaded, differs from the manifest, or
    /// is no decoder, and when the operating system has no addresses for the cache.
    pub fn load(
        library: &Library,
        bundle: &Bundle,
        graph: &Graph,
        threads: Threads,
        slots: usize,
        capacity: usize,
    ) -> Result<Self, Refused> {
        let cache = bundle.manifest.generation()?.kv_cache;
        let tokenizer = bundle.manifest.tokenizer()?;
        signature(graph, cache, tokenizer.vocabulary_size)?;
        let session = session::open(library, bundle, graph, threads)?;
        let extent = Extent {
            slots,
            layers: cache.layers as usize,
            heads: cache.kv_heads as usize,
            capacity: capacity.min(tokenizer.max_tokens as usize),
            dimensions: cache.head_dimensions as usize,
            vocabulary: tokenizer.vocabulary_size as usize,
        };
        let (extent, unaligned) = (extent.aligned(), extent.capacity);
        let slabs = (0..extent.layers * 2).map(|_| Slab::reserve(extent)).collect::<io::Result<_>>();
        let slabs = slabs.map_err(|error| {
            let problem = format!(
                "no addresses for {slots} slots of {unaligned} tokens: {error}. They are {} MB, of which only what is written \
                 takes memory; a system with vm.overcommit_memory = 2 counts them all",
                (extent.layers * 2 * slots * extent.slot_bytes()) >> 20
            );
            Refused::field(&graph.file, "past_key.0", problem)
        })?;
        let arena = Arena::bind(&session, slabs, extent).map_err(|error| Refused::file(&graph.file, error))?;
        Ok(Self { session, runs: library.runs.clone(), arena })
    }
}

impl Decode for Decoder {
    fn extent(&self) -> Extent {
        self.arena.extent()
    }

    fn run(&mut self, rows: &[Row], logits: &[usize]) -> Result<&[f32], RunError> {
        let vocabulary = self.arena.extent().vocabulary;
        if let Some(row) = rows.iter().find(|row| row.token as usize >= vocabulary) {
            return Err(RunError(format!("token id {} is not below {vocabulary}", row.token)));
        }
        Ok(self.arena.run(&mut self.session, &self.runs.keep_memory, rows, logits)?)
    }

    fn copy(&mut self, from: usize, to: usize, tokens: usize) {
        self.arena.copy(from, to, tokens);
    }

    fn release(&mut self, slot: usize) {
        self.arena.release(slot);
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Decoder").field("extent", &self.extent()).finish_non_exhaustive()
    }
}

/// Name of a cache tensor, as in "past_key.0".
fn cache_name(time: &str, side: &str, layer: u32) -> String {
    format!("{time}_{side}.{layer}")
}

/// Checks that a manifest describes the graph that [`Decoder`] knows how to run.
fn signature(graph: &Graph, cache: KvCache, vocabulary: u32) -> Result<(), Refused> {
    let refuse = |field: &str, problem: String| Err(graph::unknown(graph, field, problem));
    let names =
        |time| (0..cache.layers).flat_map(move |layer| ["key", "value"].map(|side| cache_name(time, side, layer)));
    let is_cache = |tensor: &Tensor| {
        let (heads, dimensions) = (Axis::Fixed(cache.kv_heads), Axis::Fixed(cache.head_dimensions));
        tensor.element_type == ElementType::Float16
            && matches!(&tensor.shape[..], [Axis::Symbolic(_), first, Axis::Symbolic(_), last] if *first == heads && *last == dimensions)
    };
    let are_caches = |tensors: &[Tensor], time| {
        tensors.iter().map(|tensor| tensor.name.clone()).eq(names(time)) && tensors.iter().all(is_cache)
    };
    let (plain, past) = graph.inputs.split_at(INPUTS.len().min(graph.inputs.len()));
    let plain_inputs = plain.iter().map(|tensor| (tensor.name.as_str(), tensor.element_type));
    if !plain_inputs.eq(INPUTS) || !are_caches(past, "past") {
        return refuse("inputs", format!("a decoder takes {INPUTS:?} and its cache of {cache:?}"));
    }
    let known = graph.outputs.split_first().is_some_and(|(logits, present)| {
        logits.name == OUTPUT
            && logits.element_type == ElementType::Float32
            && matches!(logits.shape[..], [Axis::Symbolic(_), Axis::Fixed(size)] if size == vocabulary)
            && are_caches(present, "present")
    });
    if !known {
        return refuse("outputs", format!("a decoder gives {OUTPUT}: float32 [rows, {vocabulary}], and its cache"));
    }
    Ok(())
}
