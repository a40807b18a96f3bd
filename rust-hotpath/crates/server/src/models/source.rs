//! What a revision is made of.

use hotpath_bundle::{Bundle, Graph, Precision, Refused};
use hotpath_runtime::{choose, cpu_has};

/// A bundle, and the graph of it that runs.
#[derive(Debug)]
pub struct BundleGraph {
    /// The bundle.
    pub bundle: Bundle,
    /// One of its graphs.
    pub graph: Graph,
    /// Why that one, for operators.
    pub reason: &'static str,
}

impl BundleGraph {
    /// The graph of a precision; `None` takes what the processor runs best.
    ///
    /// # Errors
    /// [`Refused`] when the bundle has no such graph.
    pub fn choose(bundle: Bundle, precision: Option<Precision>) -> Result<Self, Refused> {
        let choice = choose(&bundle.manifest.graphs, precision, cpu_has)?;
        let (graph, reason) = (choice.graph.clone(), choice.reason);
        Ok(Self { bundle, graph, reason })
    }

    /// As in "int8" or "int8_block".
    #[must_use]
    pub fn precision(&self) -> &'static str {
        match self.graph.precision {
            Precision::Int8 => "int8",
            Precision::Fp32 => "fp32",
            Precision::Int8Block => "int8_block",
            Precision::Int4Block | Precision::Unspecified => "", // never chosen
        }
    }
}
