//! How sessions are made, and what they run on.

use std::sync::Arc;

use hotpath_bundle::{Bundle, Graph, Refused};
use hotpath_cores::Cores;
use hotpath_runtime::{Decode, Decoder, Encode, Encoder, Extent, Head, Library, Row, RunError, Threads};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use super::source::BundleGraph;

/// Makes sessions of a bundle's graph. The seam by which tests put in sessions that fail.
pub trait Sessions: Send + Sync {
    /// One that turns ids into vectors.
    ///
    /// # Errors
    /// [`Refused`] when the graph cannot be run.
    fn encoder(&self, bundle: &Bundle, graph: &Graph) -> Result<Box<dyn Encode>, Refused>;

    /// One that continues ids, with a cache of `slots` slots of at most `capacity` tokens each.
    ///
    /// # Errors
    /// [`Refused`] when the graph cannot be run.
    fn decoder(
        &self,
        bundle: &Bundle,
        graph: &Graph,
        threads: Threads,
        slots: usize,
        capacity: usize,
    ) -> Result<Box<dyn Decode>, Refused>;

    /// One that turns vectors into scores.
    ///
    /// # Errors
    /// [`Refused`] when the graph cannot be run.
    fn head(&self, bundle: &Bundle, graph: &Graph) -> Result<Head, Refused>;

    /// Ends every run of the sessions that it made, and of those that it will make: each fails.
    fn terminate(&self);
}

/// Those of ONNX Runtime.
impl Sessions for Library {
    fn encoder(&self, bundle: &Bundle, graph: &Graph) -> Result<Box<dyn Encode>, Refused> {
        Ok(Box::new(Encoder::load(self, bundle, graph)?))
    }

    fn decoder(
        &self,
        bundle: &Bundle,
        graph: &Graph,
        threads: Threads,
        slots: usize,
        capacity: usize,
    ) -> Result<Box<dyn Decode>, Refused> {
        Ok(Box::new(Decoder::load(self, bundle, graph, threads, slots, capacity)?))
    }

    fn head(&self, bundle: &Bundle, graph: &Graph) -> Result<Head, Refused> {
        Head::load(self, bundle, graph)
    }

    fn terminate(&self) {
        if let Err(error) = Library::terminate(self) {
            tracing::warn!(%error, "runs cannot be ended");
        }
    }
}

/// What all models run on.
pub struct Compute {
    /// Makes the sessions.
    pub sessions: Arc<dyn Sessions>,
    /// What their runs take. Golden cases are replayed without: to make a session takes the processors for seconds, and
    /// nobody can say how many.
    pub cores: Arc<Cores>,
    /// Knows every session that is alive, and every one that is being made.
    pub alive: TaskTracker,
}

/// A session that the process waits for before it ends: ONNX Runtime must not be torn down under one.
#[derive(Debug)]
pub(super) struct Tracked<S> {
    pub session: S,
    _alive: TaskTrackerToken,
}

impl Compute {
    pub(super) fn encoder(&self, source: &BundleGraph) -> Result<Box<dyn Encode>, Refused> {
        Ok(Box::new(self.track(self.sessions.encoder(&source.bundle, &source.graph)?)))
    }

    pub(super) fn decoder(
        &self,
        source: &BundleGraph,
        threads: Threads,
        slots: usize,
        capacity: usize,
    ) -> Result<Box<dyn Decode>, Refused> {
        let session = self.sessions.decoder(&source.bundle, &source.graph, threads, slots, capacity)?;
        Ok(Box::new(self.track(session)))
    }

    pub(super) fn head(&self, source: &BundleGraph) -> Result<Tracked<Head>, Refused> {
        Ok(self.track(self.sessions.head(&source.bundle, &source.graph)?))
    }

    fn track<S>(&self, session: S) -> Tracked<S> {
        Tracked { session, _alive: self.alive.token() }
    }
}

impl Encode for Tracked<Box<dyn Encode>> {
    fn encode(&mut self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError> {
        self.session.encode(texts)
    }
}

impl Decode for Tracked<Box<dyn Decode>> {
    fn extent(&self) -> Extent {
        self.session.extent()
    }

    fn run(&mut self, rows: &[Row], logits: &[usize]) -> Result<&[f32], RunError> {
        self.session.run(rows, logits)
    }

    fn copy(&mut self, from: usize, to: usize, tokens: usize) {
        self.session.copy(from, to, tokens);
    }

    fn release(&mut self, slot: usize) {
        self.session.release(slot);
    }
}
