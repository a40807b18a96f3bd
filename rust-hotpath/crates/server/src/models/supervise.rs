//! Follows what is promoted, and judges whether a model can serve.

use std::{
    future::pending,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, FutureExt};
use hotpath_bundle::{Refused, Revision, Stamp};
use hotpath_contract::inference::v1::{ModelState, Task};
use hotpath_fairness::Class;
use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, error::Elapsed, interval, timeout},
};

use super::{
    backoff::Backoff,
    health::Health,
    load::Loader,
    registry::{Model, Now},
    serving::{Serving, Worker},
    tasks::{LoadError, Unproven},
};
use crate::error::bounded;

/// A folder that does not answer for so long is told of. No other look is taken meanwhile.
const SLOW_LOOK: Duration = Duration::from_secs(10);

/// What is said of a model that serves before its last golden case came out.
const REPLAYING: &str = "golden cases are still being replayed";

/// How often a supervisor looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// At what is promoted, and at the model's pulse.
    pub watch: Duration,
    /// After so long without a successful inference, it makes one of its own.
    pub probe: Duration,
    /// A model is ready for so long after an inference succeeded, and a run may take as long.
    pub ready: Duration,
    /// What died, or was refused while nothing serves, is loaded again after this, and then after twice as long each time.
    pub retry: Duration,
}

/// Looks after one model.
pub struct Supervisor {
    model: Arc<Model>,
    loader: Arc<Loader>,
    health: Health,
    timing: Timing,
    serving: Option<Arc<Serving>>,
    /// Since when it serves.
    since: Instant,
    /// The folder as it was at the last attempt to follow it.
    seen: Option<Stamp>,
    /// Why the promoted revision was refused or died, or nothing.
    refused: String,
    /// Why the last probe failed, or nothing.
    failing: String,
    retry: Backoff,
    /// The revision of which every golden case came out in this process.
    proven: Option<Revision>,
    /// When those that are left are replayed again.
    replay: Backoff,
}

/// What came of following the folder.
enum Followed {
    /// It is as it was, and there is nothing to try again.
    Same,
    /// What is promoted serves.
    Serves(Stamp),
    Refused {
        seen: Stamp,
        revision: String,
        reason: String,
    },
    Loaded {
        seen: Stamp,
        serving: Box<Serving>,
        took: Duration,
        /// Whether every golden case came out.
        proven: bool,
    },
}

/// What came of replaying every golden case of what serves.
struct Replayed {
    serving: Arc<Serving>,
    outcome: Result<usize, Unproven>,
    took: Duration,
}

impl Supervisor {
    /// A supervisor that has not looked yet.
    #[must_use]
    pub fn new(model: Arc<Model>, loader: Arc<Loader>, health: Health, timing: Timing) -> Self {
        Self {
            model,
            loader,
            health,
            timing,
            serving: None,
            since: Instant::now(),
            seen: None,
            refused: String::new(),
            failing: String::new(),
            retry: Backoff::new(timing.retry),
            proven: None,
            replay: Backoff::new(timing.retry),
        }
    }

    /// Looks until it is dropped. What takes long does so beside its ticks, so that the model is judged meanwhile: reading and
    /// loading, which may hang with the folder's file system, a probe, and the golden cases that are left.
    pub async fn run(mut self) {
        let mut ticks = interval(self.timing.watch);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut following, mut probing, mut proving) = (None, None, None);
        loop {
            tokio::select! {
                followed = ready(&mut following) => self.take(followed),
                failing = ready(&mut probing) => self.failing = failing,
                replayed = ready(&mut proving) => self.settle(replayed),
                _ = ticks.tick() => {
                    self.bury();
                    following = following.or_else(|| Some(self.follow()));
                    probing = probing.or_else(|| self.probe());
                    proving = proving.or_else(|| self.prove());
                }
            }
            self.judge(following.is_some()).await;
        }
    }

    /// Lets go of what died, so that it is loaded again.
    fn bury(&mut self) {
        let Some(serving) = &self.serving else { return };
        let Some(cause) = serving.task().dead() else { return self.retry.went_well_since(self.since, Instant::now()) };
        let (model, revision) = (self.model.name(), serving.revision().to_string());
        let wait = self.retry.failed(Instant::now());
        let retry_ms = millis(wait);
        tracing::error!(model, revision, cause, retry_ms, "model died, and will be loaded again");
        self.refused = format!("revision {revision} died, and will be loaded again: {cause}");
        self.serving = None;
    }

    /// Loads the promoted revision beside the one that serves. A refused one is read again when a file of it changes, and now
    /// and then while nothing serves: not every fault is one of its files.
    fn follow(&self) -> BoxFuture<'static, Followed> {
        let (model, loader, seen) = (self.model.clone(), self.loader.clone(), self.seen.clone());
        // Who waits for a first revision waits for a few golden cases. One that takes over, or was in doubt, is proven first.
        let (patient, proven) = (self.serving.is_some() || !self.refused.is_empty(), self.proven.clone());
        let serves = self.serving.as_ref().map(|serving| serving.revision().clone());
        // A head may be refused for its encoder's fault.
        let is_head = self.model.now().task == Task::Classification && !self.refused.is_empty();
        let again = (serves.is_none() || is_head) && self.retry.is_due(Instant::now());
        let following = async move {
            let (stamp, promoted) = look(&model, &loader).await;
            if seen.as_ref() == Some(&stamp) && !again {
                return Followed::Same;
            }
            let revision = match promoted {
                Ok((revision, _)) if serves.as_ref() == Some(&revision) => return Followed::Serves(stamp),
                Ok((revision, task)) => {
                    if let Some(task) = task {
                        model.set(Now { task, ..model.now() }); // known before the long work of loading, also if that fails
                    }
                    revision
                }
                Err(refused) => {
                    return Followed::Refused { seen: stamp, revision: String::new(), reason: refused.to_string() };
                }
            };
            let began = Instant::now();
            // Whatever panics in a check of ours is one more reason to refuse.
            let known = proven.as_ref() == Some(&revision);
            let loading = AssertUnwindSafe(load(&model, &loader, &revision, patient && !known)).catch_unwind();
            match loading.await.unwrap_or_else(|_| Err("a check panicked".into())) {
                Ok((serving, proven)) => {
                    let (serving, took) = (Box::new(serving), began.elapsed());
                    Followed::Loaded { seen: stamp, serving, took, proven: proven || known }
                }
                Err(error) => {
                    Followed::Refused { seen: stamp, revision: revision.to_string(), reason: error.to_string() }
                }
            }
        };
        following.boxed()
    }

    /// Lets what was loaded take over. What was refused changes nothing.
    fn take(&mut self, followed: Followed) {
        match followed {
            Followed::Same => (),
            Followed::Serves(seen) => {
                self.seen = Some(seen);
                self.refused.clear();
            }
            Followed::Refused { seen, revision, reason } => {
                self.seen = Some(seen);
                self.retry.failed(Instant::now());
                self.refuse(&revision, &reason);
            }
            Followed::Loaded { seen, serving, took, proven } => {
                let (model, source, revision) = (self.model.name(), &serving.source, serving.revision());
                let (precision, because) = (source.precision(), source.reason.clone());
                let (revision, took_ms) = (revision.as_str(), millis(took));
                tracing::info!(
                    model,
                    revision,
                    precision,
                    because,
                    took_ms,
                    every_golden_case = proven,
                    "model loaded and verified"
                );
                self.proven = proven.then(|| serving.revision().clone());
                self.replay = Backoff::new(self.timing.retry);
                (self.seen, self.since) = (Some(seen), Instant::now());
                if let Some(old) = self.serving.replace(Arc::new(*serving)) {
                    old.task().retire();
                }
                self.refused.clear();
            }
        }
    }

    /// Replays every golden case of what serves, where not all came out before: as batch work, which yields to callers'.
    fn prove(&self) -> Option<BoxFuture<'static, Replayed>> {
        let serving = self.serving.clone().filter(|serving| !self.is_proven(serving))?;
        if !self.replay.is_due(Instant::now()) {
            return None;
        }
        let began = Instant::now();
        let proving = async move {
            let proving = AssertUnwindSafe(serving.task().prove(&serving.source, Class::Batch)).catch_unwind();
            let outcome = proving.await.unwrap_or_else(|_| Err(Unproven::NotRun("it panicked".to_owned())));
            Replayed { serving, outcome, took: began.elapsed() }
        };
        Some(proving.boxed())
    }

    fn is_proven(&self, serving: &Serving) -> bool {
        self.proven.as_ref() == Some(serving.revision())
    }

    /// Stops serving what gave other results than its golden ones. It is proven before it serves again.
    fn settle(&mut self, replayed: Replayed) {
        let Replayed { serving, outcome, took } = replayed;
        if !self.serving.as_ref().is_some_and(|now| Arc::ptr_eq(now, &serving)) {
            return; // another took over, or it died
        }
        let (model, revision) = (self.model.name(), serving.revision());
        match outcome {
            Ok(cases) => {
                tracing::info!(model, cases, took_ms = millis(took), "every golden case came out");
                self.proven = Some(revision.clone());
            }
            Err(Unproven::Refused(refused)) => {
                serving.task().retire();
                self.serving = None;
                self.retry.failed(Instant::now());
                self.refuse(revision.as_str(), &refused.to_string());
            }
            Err(not_run @ Unproven::NotRun(_)) => {
                let retry_ms = millis(self.replay.failed(Instant::now()));
                tracing::warn!(model, reason = %not_run, retry_ms, "golden cases will be replayed again");
            }
        }
    }

    fn refuse(&mut self, revision: &str, reason: &str) {
        let model = self.model.name();
        let reason = &bounded(reason.to_owned()); // some quote what they found
        let refused =
            if revision.is_empty() { reason.to_owned() } else { format!("revision {revision} refused: {reason}") };
        if refused != self.refused {
            tracing::warn!(model, revision, reason, "revision refused");
            self.refused = refused;
        }
    }

    /// An inference of its own, where no other succeeded lately. Gives why it failed, or nothing.
    fn probe(&self) -> Option<BoxFuture<'static, String>> {
        let serving = self.serving.clone().filter(|serving| serving.pulse.age() >= self.timing.probe)?;
        let limit = self.timing.probe;
        let probe =
            AssertUnwindSafe(async move { timeout(limit, serving.task().probe(&serving.source)).await }).catch_unwind();
        let failing = move |outcome: Result<Result<Result<(), Refused>, Elapsed>, _>| match outcome {
            Ok(Ok(Ok(()))) => String::new(),
            Ok(Ok(Err(refused))) => refused.to_string(),
            Ok(Err(_)) => format!("a probe was not done in {limit:?}"),
            Err(_) => "a probe panicked".to_owned(),
        };
        Some(probe.map(failing).boxed())
    }

    /// Says where the model stands.
    async fn judge(&mut self, following: bool) {
        let Now { state: before, task, message: said, .. } = self.model.now();
        let alive = self.serving.as_ref().map(|serving| serving.pulse.is_alive(self.timing.ready));
        let replaying = self.serving.as_ref().is_some_and(|serving| !self.is_proven(serving));
        let (state, message) = match alive {
            Some(true) if self.refused.is_empty() && replaying => (ModelState::Ready, REPLAYING.to_owned()),
            Some(true) => (ModelState::Ready, self.refused.clone()),
            Some(false) => (ModelState::Failed, format!("no inference succeeded lately: {}", self.failing)),
            None if before == ModelState::Loading && following => (before, said), // what it says of loading stands
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

/// Waits for what is under way, if anything is. Nothing is lost when the waiting ends early.
async fn ready<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    let Some(under_way) = future else { return pending().await };
    let outcome = under_way.await;
    *future = None;
    outcome
}

/// Looks at a model's folder: what it is like, and what is promoted in it to do which task. One look holds one thread, for
/// however long the file system takes.
async fn look(model: &Arc<Model>, loader: &Arc<Loader>) -> (Stamp, Result<(Revision, Option<Task>), Refused>) {
    let (name, of_thread) = (model.name().to_owned(), loader.clone());
    let mut looking = spawn_blocking(move || {
        let stamp = of_thread.stamp(&name);
        let promoted = of_thread.promoted(&name).map(|revision| {
            let task = of_thread.task(&name, &revision).ok();
            (revision, task)
        });
        (stamp, promoted)
    });
    let looked = loop {
        if let Ok(looked) = timeout(SLOW_LOOK, &mut looking).await {
            break looked;
        }
        tracing::warn!(model = model.name(), "the model's folder does not answer");
    };
    looked.unwrap_or_else(|error| {
        let problem = format!("the look at it failed: {error}");
        (Stamp::default(), Err(Refused::file("current", problem)))
    })
}

/// Loads a revision, and checks it through what will schedule its work: by every golden case, if it is to be proven. Gives
/// whether every one came out.
async fn load(
    model: &Model,
    loader: &Arc<Loader>,
    revision: &Revision,
    prove: bool,
) -> Result<(Serving, bool), LoadError> {
    let serving = loader.load(model.name(), revision.clone()).await?;
    if let Worker::Classification(classifier) = &serving.worker
        && let Some(settled) = classifier.encoder_loading()
    {
        let message = format!("waits for its encoder \"{}\"", classifier.task.encoder);
        model.set(Now { message, ..model.now() });
        settled.await;
    }
    let mut proven = serving.task().check(&serving.source).await?;
    if prove && !proven {
        serving.task().prove(&serving.source, Class::Interactive).await?;
        proven = true;
    }
    Ok((serving, proven))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
