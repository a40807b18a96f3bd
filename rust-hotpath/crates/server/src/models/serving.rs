//! One revision of a model, loaded: its tokenizer, its sessions, and when it last worked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hotpath_bundle::{Bundle, Graph, Precision};
use hotpath_scheduler::{Observer, Run, Scheduler};
use hotpath_text::Tokenizer;

/// A loaded revision.
#[derive(Debug)]
pub struct Serving {
    /// What it is made of.
    pub bundle: Bundle,
    /// The graph that its sessions run.
    pub graph: Graph,
    /// Text to ids.
    pub tokenizer: Tokenizer,
    /// Ids to vectors.
    pub scheduler: Scheduler,
    /// When an inference last succeeded.
    pub pulse: Arc<Pulse>,
}

impl Serving {
    /// Length of its full vectors.
    #[must_use]
    pub fn full_dimensions(&self) -> u32 {
        self.bundle.manifest.embedding.dimensions[0]
    }

    /// As in "int8" or "fp32".
    #[must_use]
    pub fn precision(&self) -> &'static str {
        match self.graph.precision {
            Precision::Int8 => "int8",
            Precision::Fp32 => "fp32",
            Precision::Int8Block => "int8_block",
            Precision::Int4Block => "int4_block",
            Precision::Unspecified => "",
        }
    }
}

/// When a run last succeeded, as seen by the workers; passes each run on.
pub struct Pulse {
    start: Instant,
    /// Milliseconds from `start` to the last success.
    last: AtomicU64,
    next: Arc<dyn Observer>,
}

impl Pulse {
    /// A pulse that begins now.
    #[must_use]
    pub fn new(next: Arc<dyn Observer>) -> Self {
        Self { start: Instant::now(), last: AtomicU64::new(0), next }
    }

    /// How long ago a run succeeded, or this began.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

impl Observer for Pulse {
    fn ran(&self, run: &Run) {
        if run.error.is_none() {
            let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.last.fetch_max(now, Ordering::Relaxed);
        }
        self.next.ran(run);
    }
}

impl std::fmt::Debug for Pulse {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Pulse").field("age", &self.age()).finish_non_exhaustive()
    }
}
