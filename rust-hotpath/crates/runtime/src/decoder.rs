//! The decoder: one session, and the cache of what it computed of earlier tokens.

mod arena;
mod chunks;
mod slab;

use std::{ops::Range, sync::Arc};

use arena::{Arena, Batch};
pub use chunks::chunk_at;
use hotpath_bundle::{Axis, Bundle, ElementType, Graph, KvCache, Refused, Tensor};
use ort::session::Session;

use crate::{
    Library, RunError, graph,
    library::Runs,
    session::{self, Threads},
};

/// What a decoder's graph takes beside its cache: name and type, in order. `docs/architecture.md` says what each means.
const INPUTS: [(&str, ElementType); 4] = [
    ("input_ids", ElementType::Int64),
    ("seqlens_k", ElementType::Int32),
    ("total_sequence_length", ElementType::Int32),
    ("logit_index", ElementType::Int64),
];
const OUTPUT: &str = "logits";

/// One session that continues token ids. The seam between the generation loop and ONNX Runtime, so that the loop is tested
/// with sessions that fail on demand.
///
/// A row's logits are the same to the last bit whatever runs beside it and whatever the row held before.
pub trait Decode: Send {
    /// The cache's size.
    fn extent(&self) -> Extent;

    /// Appends one token to each of the rows from `first` on, whatever their lengths, and gives the logits after them,
    /// [steps, vocabulary].
    ///
    /// # Errors
    /// [`RunError`] when the run failed. It may be repeated: a row holds what it held, up to its length before.
    fn decode(&mut self, first: usize, steps: &[Step]) -> Result<&[f32], RunError>;

    /// Appends tokens to a row of `length` tokens, and gives the logits after those in `logits`, [logits, vocabulary].
    ///
    /// # Errors
    /// As [`Decode::decode`].
    fn prefill(&mut self, row: usize, length: usize, tokens: &[u32], logits: Range<usize>) -> Result<&[f32], RunError>;

    /// Makes the first tokens of a row those of another row. What it held beyond them is gone.
    fn copy_row(&mut self, from: usize, to: usize, tokens: usize);

    /// Gives a row's memory back.
    fn release_row(&mut self, row: usize);
}

/// One row's part in a decode step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The token to append.
    pub token: u32,
    /// Tokens of the row before it.
    pub length: usize,
}

/// Size of a cache's rows. For each layer there are keys and values, both float32 [rows, heads, capacity, dimensions].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Rows.
    pub rows: usize,
    /// Layers.
    pub layers: usize,
    /// Key and value heads.
    pub heads: usize,
    /// Most tokens of a row.
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
        self.layers * 2 * self.heads * self.dimensions * size_of::<f32>()
    }

    fn head_bytes(&self) -> usize {
        self.capacity * self.dimensions * size_of::<f32>()
    }

    /// Bytes of a row in one slab.
    fn row_bytes(&self) -> usize {
        self.heads * self.head_bytes()
    }

    /// The same with a capacity for which rows do not share pages.
    fn aligned(self) -> Self {
        let mut extent = self;
        while !extent.row_bytes().is_multiple_of(slab::ROW_ALIGNMENT) {
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
    /// A run's ids, kept for their memory.
    token_ids: Vec<i64>,
    /// A run's lengths, kept for their memory.
    lengths: Vec<i32>,
}

impl Decoder {
    /// Loads one graph of a bundle, with a cache of some rows of at most `capacity` tokens each (the model's `max_tokens` at
    /// most). A row takes memory for the tokens that it holds, not for its capacity.
    ///
    /// # Errors
    /// [`Refused`] when the graph needs another ONNX Runtime, cannot be loaded, differs from the manifest, or is no
    /// decoder, and when the operating system has no addresses for the cache.
    pub fn load(
        library: &Library,
        bundle: &Bundle,
        graph: &Graph,
        threads: Threads,
        rows: usize,
        capacity: usize,
    ) -> Result<Self, Refused> {
        let cache = bundle.manifest.generation()?.kv_cache;
        let tokenizer = bundle.manifest.tokenizer()?;
        signature(graph, cache, tokenizer.vocabulary_size)?;
        let session = session::open(library, bundle, graph, threads)?;
        let extent = Extent {
            rows,
            layers: cache.layers as usize,
            heads: cache.kv_heads as usize,
            capacity: capacity.min(tokenizer.max_tokens as usize),
            dimensions: cache.head_dimensions as usize,
            vocabulary: tokenizer.vocabulary_size as usize,
        };
        let (extent, unaligned) = (extent.aligned(), extent.capacity);
        let arena = Arena::reserve(extent).map_err(|error| {
            let problem = format!(
                "no addresses for {rows} rows of {unaligned} tokens: {error}. They are {} MB, of which only what is written \
                 takes memory; a system with vm.overcommit_memory = 2 counts them all",
                (extent.layers * 2 * rows * extent.row_bytes()) >> 20
            );
            Refused::field(&graph.file, "past_key.0", problem)
        })?;
        Ok(Self { session, runs: library.runs.clone(), arena, token_ids: Vec::new(), lengths: Vec::new() })
    }

    fn run(&mut self, first: usize, tokens: usize, logits: Range<usize>) -> Result<&[f32], RunError> {
        // ONNX Runtime's gather from a quantised table reads beyond its end without a word.
        let vocabulary = i64::try_from(self.arena.extent().vocabulary).expect("a vocabulary is far smaller");
        if let Some(id) = self.token_ids.iter().find(|id| **id >= vocabulary) {
            return Err(RunError(format!("token id {id} is not below {vocabulary}")));
        }
        let batch = Batch { token_ids: &self.token_ids, tokens, lengths: &self.lengths, logits };
        Ok(self.arena.run(&mut self.session, &self.runs.keep_memory, first, &batch)?)
    }
}

impl Decode for Decoder {
    fn extent(&self) -> Extent {
        self.arena.extent()
    }

    fn decode(&mut self, first: usize, steps: &[Step]) -> Result<&[f32], RunError> {
        self.token_ids.clear();
        self.token_ids.extend(steps.iter().map(|step| i64::from(step.token)));
        self.lengths.clear();
        self.lengths.extend(steps.iter().map(|step| length(step.length + 1)));
        self.run(first, 1, 0..steps.len())
    }

    fn prefill(&mut self, row: usize, length: usize, tokens: &[u32], logits: Range<usize>) -> Result<&[f32], RunError> {
        self.token_ids.clear();
        self.token_ids.extend(tokens.iter().map(|token| i64::from(*token)));
        self.lengths.clear();
        self.lengths.push(self::length(length + tokens.len()));
        self.run(row, tokens.len(), logits)
    }

    fn copy_row(&mut self, from: usize, to: usize, tokens: usize) {
        self.arena.copy_row(from, to, tokens);
    }

    fn release_row(&mut self, row: usize) {
        self.arena.release_row(row);
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Decoder").field("extent", &self.extent()).finish_non_exhaustive()
    }
}

fn length(tokens: usize) -> i32 {
    i32::try_from(tokens).expect("a row is far shorter")
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
        tensor.element_type == ElementType::Float32
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
