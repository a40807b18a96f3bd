//! The workspace's own operators: by which instructions they run, and which graphs have them.

use std::fmt;

use hotpath_bundle::{Graph, OperatorSet, Refused};
use hotpath_kernels::Path;
use hotpath_kernels_ort::{DOMAIN, VERSION, domain};
use ort::operator::OperatorDomain;

use crate::graph::unknown;

/// The instructions by which the operators run. What they give is the same to the last bit by any.
#[derive(Clone, Copy)]
pub struct Kernels(Path);

impl Kernels {
    /// The fastest that this processor has.
    #[must_use]
    pub fn best() -> Self {
        Self(Path::best())
    }

    /// Those of a name, as in "scalar" or "avx2".
    ///
    /// # Errors
    /// In words that say what this processor has, where it lacks them.
    pub fn named(name: &str) -> Result<Self, String> {
        Path::named(name).map(Self).map_err(|error| error.to_string())
    }

    /// Their name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// The operators that a graph is made of beside ONNX Runtime's, if there are any.
    ///
    /// # Errors
    /// [`Refused`] names a set that is not there, or not in this version.
    pub(crate) fn operators(self, graph: &Graph) -> Result<Option<OperatorDomain>, Refused> {
        let is_known = |set: &&OperatorSet| (set.domain.as_str(), set.version) == (DOMAIN, VERSION);
        if let Some(OperatorSet { domain, version }) = graph.operator_sets.iter().find(|set| !is_known(set)) {
            let problem =
                format!("has \"{domain}\" version {version}; this program has \"{DOMAIN}\" version {VERSION}");
            return Err(unknown(graph, "operator_sets", problem));
        }
        if graph.operator_sets.is_empty() {
            return Ok(None);
        }
        domain(self.0).map(Some).map_err(|error| Refused::file(&graph.file, error))
    }
}

impl PartialEq for Kernels {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl fmt::Debug for Kernels {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}
