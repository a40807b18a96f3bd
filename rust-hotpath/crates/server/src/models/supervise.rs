//! Follows what is promoted, and judges whether a model can serve.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hotpath_bundle::{Revision, Stamp};
use hotpath_contract::inference::v1::{ModelState, Task};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{
    Model, Now, golden,
    load::{LoadError, Loader},
    serving::{Serving, Worker},
};
use crate::health::Health;

/// How often a supervisor looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// At what is promoted, and at the model's pulse.
    pub watch: Duration,
    /// After so long without a successful inference, it makes one of its own.
    pub probe: Duration,
    /// A model is ready for so long after an inference succeeded.
    pub ready: Duration,
}

/// Looks after one model.
pub struct Supervisor {
    model: Arc<Model>,
    loader: Arc<Loader>,
    health: Health,
    timing: Timing,
    serving: Option<Arc<Serving>>,
    /// The folder as it was at the last attempt to follow it.
    seen: Option<Stamp>,
    /// Why the promoted revision was refused, or nothing.
    refused: String,
    /// Why the last probe failed, or nothing.
    failing: String,
}

impl Supervisor {
    /// A supervisor that has not looked yet.
    #[must_use]
    pub fn new(model: Arc<Model>, loader: Arc<Loader>, health: Health, timing: Timing) -> Self {
        let (refused, failing) = (String::new(), String::new());
        Self { model, loader, health, timing, serving: None, seen: None, refused, failing }
    }

    /// Looks until it is dropped.
    pub async fn run(mut self) {
        let mut ticks = interval(self.timing.watch);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.follow().await;
            self.probe().await;
            self.judge().await;
        }
    }

    /// Loads the promoted revision beside the one that serves, and lets it take over. A refused one changes nothing; it is
    /// read again when a file of it changes.
    async fn follow(&mut self) {
        let stamp = self.loader.stamp(self.model.name());
        if self.seen.as_ref() == Some(&stamp) {
            return;
        }
        self.seen = Some(stamp);
        let revision = match self.loader.promoted(self.model.name()) {
            Ok(revision) => revision,
            Err(refused) => return self.refuse("", &refused.to_string()),
        };
        if self.serving.as_ref().is_some_and(|serving| serving.bundle.revision == revision) {
            self.refused.clear();
            return;
        }
        let began = Instant::now();
        if let Ok(task) = self.loader.task(self.model.name(), &revision) {
            self.model.set(Now { task, ..self.model.now() }); // known before the long work of loading, and also if that fails
        }
        match self.load(&revision).await {
            Ok(serving) => {
                let (model, precision) = (self.model.name(), serving.precision());
                let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(model, revision = revision.as_str(), precision, took_ms, "model loaded and verified");
                self.serving = Some(Arc::new(serving));
                self.refused.clear();
            }
            Err(error) => {
                self.refuse(revision.as_str(), &error.to_string());
                if self.model.now().task == Task::Classification {
                    self.seen = None; // it may have been its encoder's fault, which its own files do not show
                }
            }
        }
    }

    /// Loads a revision, and checks it through what will schedule its work.
    async fn load(&self, revision: &Revision) -> Result<Serving, LoadError> {
        let serving = self.loader.load(self.model.name(), revision.clone()).await?;
        if let Worker::Classification(classifier) = &serving.worker
            && let Some(encoder) = classifier.awaited()
        {
            let message = format!("waits for its encoder \"{}\"", encoder.name());
            self.model.set(Now { message, ..self.model.now() });
            encoder.settled().await;
        }
        golden::check(&serving).await?;
        Ok(serving)
    }

    fn refuse(&mut self, revision: &str, reason: &str) {
        let model = self.model.name();
        let refused =
            if revision.is_empty() { reason.to_owned() } else { format!("revision {revision} refused: {reason}") };
        if refused != self.refused {
            tracing::warn!(model, revision, reason, "revision refused");
            self.refused = refused;
        }
    }

    /// Makes an inference of its own where no other succeeded lately.
    async fn probe(&mut self) {
        let Some(serving) = self.serving.as_ref().filter(|serving| serving.pulse.age() >= self.timing.probe) else {
            return;
        };
        self.failing = match timeout(self.timing.probe, golden::probe(serving)).await {
            Ok(Ok(())) => String::new(),
            Ok(Err(refused)) => refused.to_string(),
            Err(_) => format!("a probe was not done in {:?}", self.timing.probe),
        };
    }

    /// Says where the model stands.
    async fn judge(&mut self) {
        let Now { state: before, task, .. } = self.model.now();
        let alive = self.serving.as_ref().map(|serving| serving.pulse.age() <= self.timing.ready);
        let (state, message) = match alive {
            Some(true) => (ModelState::Ready, self.refused.clone()),
            Some(false) => (ModelState::Failed, format!("no inference succeeded lately: {}", self.failing)),
            None => (ModelState::Failed, self.refused.clone()),
        };
        let news = state != before;
        if news {
            tracing::info!(model = self.model.name(), state = state.as_str_name(), reason = message, "model state");
        }
        self.model.set(Now { state, task, serving: self.serving.clone(), message });
        if news {
            self.health.tell(&self.model).await;
        }
    }
}
