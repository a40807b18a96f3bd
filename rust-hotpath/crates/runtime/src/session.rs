//! One graph, loaded: the same checks and settings whatever it computes.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hotpath_bundle::{Bundle, Graph, Refused};
use ort::{
    operator::OperatorDomain,
    session::{Session, builder::GraphOptimizationLevel},
};

use crate::{Library, graph};

/// Whether ONNX Runtime knows the domain of our operators, as it does from the first session on that has them. It looks whether it
/// does, and then takes note of it: of two sessions that both come first, one fails.
static DOMAIN_IS_KNOWN: Mutex<bool> = Mutex::new(false);

/// The threads of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threads {
    /// How many; 1 is the calling thread alone.
    pub count: usize,
    /// For how long at most they burn their core while they wait for each other. Operators take some 10 µs, so a little
    /// spares most of the sleeps; much more is ruinous where somebody else wants the core.
    pub spin: Duration,
}

impl Threads {
    /// The calling thread and no other.
    pub const CALLER: Self = Self { count: 1, spin: Duration::ZERO };
}

/// Loads one graph of a bundle.
pub(crate) fn open(library: &Library, bundle: &Bundle, graph: &Graph, threads: Threads) -> Result<Session, Refused> {
    let wanted = &bundle.manifest.onnxruntime_version;
    if wanted != library.version() {
        return Err(Refused::manifest("onnxruntime_version", format!("is {wanted}, {} is loaded", library.version())));
    }
    let operators = library.kernels.operators(graph)?;
    let session =
        build(library, bundle, graph, threads, operators).map_err(|error| Refused::file(&graph.file, error))?;
    graph::compare(graph, &session)?;
    Ok(session)
}

fn build(
    library: &Library,
    bundle: &Bundle,
    graph: &Graph,
    threads: Threads,
    operators: Option<OperatorDomain>,
) -> ort::Result<Session> {
    let mut builder = Session::builder(&library.environment)?;
    let is_ours = operators.is_some();
    if let Some(operators) = operators {
        builder = builder.with_operators(operators)?;
    }
    let mut builder = builder
        .with_optimization_level(GraphOptimizationLevel::Level3)?
        .with_intra_threads(threads.count)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(!threads.spin.is_zero())?
        .with_config_entry("session.intra_op.spin_duration_us", threads.spin.as_micros().to_string())?
        // Lengths differ with every run, so a pattern never fits and its memory would only grow.
        .with_memory_pattern(false)?;
    let mut load = || builder.commit_from_file(bundle.path(&graph.file));
    if !is_ours {
        return load();
    }
    let mut is_known = DOMAIN_IS_KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if *is_known {
        drop(is_known);
        return load();
    }
    let session = load();
    *is_known = session.is_ok();
    session
}
