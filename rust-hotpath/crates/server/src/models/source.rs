//! What a revision is made of.

use hotpath_bundle::{Bundle, Graph, Precision, Refused};
use hotpath_runtime::Kernels;

/// A bundle, and the graph of it that runs.
#[derive(Debug)]
pub struct BundleGraph {
    /// The bundle.
    pub bundle: Bundle,
    /// One of its graphs.
    pub graph: Graph,
    /// Why that one, and by which instructions its operators run where they are our own: for operators.
    pub reason: String,
}

impl BundleGraph {
    /// The first of the bundle's graphs, which the manifest has the best first.
    ///
    /// # Errors
    /// [`Refused`] when the bundle has none.
    pub fn choose(bundle: Bundle, kernels: Kernels) -> Result<Self, Refused> {
        let graph = bundle.manifest.graphs.first().cloned();
        let graph = graph.ok_or_else(|| Refused::manifest("graphs", "there is none"))?;
        let reason = "it is the first in the manifest, and runs well on any processor".to_owned();
        let kernels = if graph.operator_sets.is_empty() {
            String::new()
        } else {
            format!("; its kernels are {}", kernels.name())
        };
        Ok(Self { bundle, graph, reason: reason + &kernels })
    }

    /// Its place among the bundle's graphs.
    #[must_use]
    pub fn place(&self) -> usize {
        self.bundle.manifest.graphs.iter().position(|graph| *graph == self.graph).unwrap_or(0)
    }

    /// As in "fp32" or "block_quantized".
    #[must_use]
    pub fn precision(&self) -> &'static str {
        match self.graph.precision {
            Precision::Fp32 => "fp32",
            Precision::BlockQuantized => "block_quantized",
            Precision::Unspecified => "", // never chosen
        }
    }
}
