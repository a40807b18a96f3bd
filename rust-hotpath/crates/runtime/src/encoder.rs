//! The packed encoder: one session, its buffers, and the way from ids to vectors.

use std::{fmt, sync::Arc};

use hotpath_bundle::{Axis, Bundle, ElementType, Graph, Pooling, Refused, Tensor};
use ort::{inputs, session::Session, value::TensorRef};

use crate::{
    Encode, Library, RunError, graph,
    library::Runs,
    pack::Packed,
    pooling,
    session::{self, Threads},
};

/// A batch of more tokens than this is larger than those that serving makes (the golden cases in one
/// batch are), and gives its session's working memory back after its run: giving it back after every run would cost some
/// percent of time. What operators keep themselves has a bound of its own, in `hotpath_kernels_ort`.
const KEPT_TOKENS: usize = 2048;

const OUTPUT: &str = "hidden_states";

/// What a packed encoder's graph takes: name and type, in order. `docs/architecture.md` says what each means.
const INPUTS: [(&str, ElementType); 2] = [("input_ids", ElementType::Int64), ("position_ids", ElementType::Int64)];

/// A session of a packed encoder. It runs on the thread that calls it, and on no other.
pub struct Encoder {
    session: Session,
    runs: Arc<Runs>,
    packed: Packed,
    dimensions: usize,
    normalize: bool,
}

impl Encoder {
    /// Loads one graph of a bundle.
    ///
    /// # Errors
    /// [`Refused`] when the graph needs another ONNX Runtime, cannot be loaded, differs from the manifest, or is no
    /// packed encoder.
    pub fn load(library: &Library, bundle: &Bundle, graph: &Graph) -> Result<Self, Refused> {
        let task = bundle.manifest.embedding()?;
        let dimensions = task.dimensions[0];
        signature(graph, dimensions)?;
        pooling_is_known(task.pooling)?;
        // Several sessions of one thread beat a wide one on small models.
        let session = session::open(library, bundle, graph, Threads::CALLER)?;
        Ok(Self {
            session,
            runs: library.runs.clone(),
            packed: Packed::default(),
            dimensions: dimensions as usize,
            normalize: task.normalize,
        })
    }

    /// Runs the graph on the packed texts and pools what comes out.
    fn run(&mut self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError> {
        let packed = &self.packed;
        let (tokens, batch) = (packed.input_ids.len(), texts.len());
        let small = tokens <= KEPT_TOKENS;
        let options = if small { &self.runs.keep_memory } else { &self.runs.give_memory_back };
        let inputs = inputs![
            "input_ids" => TensorRef::from_array_view(([tokens], &*packed.input_ids))?,
            "position_ids" => TensorRef::from_array_view(([tokens], &*packed.position_ids))?,
        ];
        let outputs = self.session.run_with_options(inputs, options)?;
        let (shape, mut rest) = outputs[OUTPUT].try_extract_tensor::<f32>()?; // [tokens, dimensions]
        if rest.len() != tokens * self.dimensions {
            return Err(RunError(format!("{OUTPUT} is {shape} for {tokens} tokens")));
        }
        let mut vectors = Vec::with_capacity(batch);
        for text in texts {
            let (hidden_states, after) = rest.split_at(text.len() * self.dimensions);
            rest = after;
            let mut vector = pooling::mean(hidden_states, self.dimensions);
            if self.normalize {
                pooling::normalize(&mut vector);
            }
            vectors.push(vector);
        }
        Ok(vectors)
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Encoder").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Encode for Encoder {
    fn encode(&mut self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError> {
        self.packed.fill(texts);
        let vectors = self.run(texts)?;
        match vectors.iter().position(|vector| !vector.iter().all(|x| x.is_finite())) {
            None => Ok(vectors),
            Some(row) => Err(RunError(format!("the vector of row {row} of {} is not finite", texts.len()))),
        }
    }
}

/// Checks that a manifest describes the graph that [`Encoder`] knows how to run.
fn signature(graph: &Graph, dimensions: u32) -> Result<(), Refused> {
    let refuse = |field: &str, problem: String| Err(graph::unknown(graph, field, problem));
    let signature = |tensors: &[Tensor]| -> Vec<(String, ElementType)> {
        tensors.iter().map(|tensor| (tensor.name.clone(), tensor.element_type)).collect()
    };
    let inputs = INPUTS.map(|(name, element_type)| (name.to_owned(), element_type));
    if signature(&graph.inputs) != inputs {
        return refuse("inputs", format!("a packed encoder takes {INPUTS:?}"));
    }
    let output = graph.outputs.first();
    let known = output.is_some_and(|output| {
        output.name == OUTPUT
            && output.element_type == ElementType::Float32
            && matches!(output.shape[..], [Axis::Symbolic(_), Axis::Fixed(size)] if size == dimensions)
    });
    if graph.outputs.len() != 1 || !known {
        return refuse("outputs", format!("a packed encoder gives {OUTPUT}: float32 [tokens, {dimensions}]"));
    }
    Ok(())
}

fn pooling_is_known(pooling: Pooling) -> Result<(), Refused> {
    match pooling {
        Pooling::Mean => Ok(()),
        Pooling::Unspecified => Err(Refused::manifest("embedding.pooling", "is unspecified")),
    }
}
