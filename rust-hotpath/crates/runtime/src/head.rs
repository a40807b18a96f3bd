//! A head: from an encoder's vectors to scores.

use std::sync::Arc;

use hotpath_bundle::{Axis, Bundle, ElementType, Graph, Refused, Tensor};
use ort::{inputs, session::Session, value::TensorRef};

use crate::{
    Library, RunError, graph,
    library::Runs,
    session::{self, Threads},
};

const INPUT: &str = "embeddings";
const OUTPUT: &str = "scores";

/// A session of a head. It runs on the thread that calls it.
#[derive(Debug)]
pub struct Head {
    session: Session,
    runs: Arc<Runs>,
    dimensions: usize,
    labels: usize,
}

impl Head {
    /// Loads one graph of a bundle.
    ///
    /// # Errors
    /// [`Refused`] when the graph needs another ONNX Runtime, cannot be loaded, differs from the manifest, or is no head of
    /// its labels.
    pub fn load(library: &Library, bundle: &Bundle, graph: &Graph) -> Result<Self, Refused> {
        let labels = bundle.manifest.classification()?.labels.len();
        let dimensions = width(&graph.inputs, INPUT).ok_or_else(|| {
            graph::unknown(graph, "inputs", format!("a head takes {INPUT}: float32 [texts, dimensions]"))
        })?;
        if width(&graph.outputs, OUTPUT) != Some(labels) {
            return Err(graph::unknown(graph, "outputs", format!("a head gives {OUTPUT}: float32 [texts, {labels}]")));
        }
        let session = session::open(library, bundle, graph, Threads::CALLER)?;
        Ok(Self { session, runs: library.runs.clone(), dimensions, labels })
    }

    /// Length of the vectors that it takes.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The scores of some vectors, one for each label, in their order.
    ///
    /// # Errors
    /// [`RunError`] when the run failed, or a score is no number.
    pub fn scores(&mut self, vectors: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, RunError> {
        let flat = vectors.concat(); // [texts, dimensions]
        let embeddings = TensorRef::from_array_view(([vectors.len(), self.dimensions], &*flat))?;
        let outputs = self.session.run_with_options(inputs![INPUT => embeddings], &self.runs.keep_memory)?;
        let (_, scores) = outputs[OUTPUT].try_extract_tensor::<f32>()?; // [texts, labels]
        if scores.iter().any(|score| !score.is_finite()) {
            return Err(RunError("a score is not finite".to_owned()));
        }
        Ok(scores.chunks(self.labels).map(<[f32]>::to_vec).collect())
    }
}

/// The second axis of the only tensor, if that is [any, fixed] floats of this name.
fn width(tensors: &[Tensor], name: &str) -> Option<usize> {
    match tensors {
        [tensor] if tensor.name == name && tensor.element_type == ElementType::Float32 => match tensor.shape[..] {
            [Axis::Symbolic(_), Axis::Fixed(size)] => Some(size as usize),
            _ => None,
        },
        _ => None,
    }
}
