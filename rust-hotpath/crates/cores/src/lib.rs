//! The processors, as one budget for the sessions of all models.
//!
//! A run of a session takes as many cores as it has threads, and gives them back when it ends. So no more threads work than
//! there are processors: a session's threads find each other where they wait for each other, and interactive work of one
//! model does not share its processors with batch work of another. [`planner`] decides; it is pure. [`Cores`] gives it a lock
//! and a clock.
//!
//! What runs on cores is decided once they are there: what was chosen before would hold up what comes meanwhile.
//!
//! Must not depend on sessions or on what they are run for.

#![forbid(unsafe_code)]

pub mod planner;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hotpath_fairness::Class;
use planner::{AskId, Grant, Planner, Time};

/// The cores of this process.
#[derive(Debug)]
pub struct Cores {
    state: Mutex<State>,
    changed: Condvar,
    start: Instant,
}

struct State {
    planner: Planner,
    /// Of which class each ask is now.
    classes: BTreeMap<AskId, Box<dyn Fn() -> Class + Send>>,
}

/// Some cores, until this is dropped.
#[derive(Debug)]
pub struct Permit<'a> {
    of: &'a Cores,
    grant: Grant,
    comes_back: bool,
}

impl Cores {
    /// So many, at least one.
    #[must_use]
    pub fn new(cores: usize) -> Self {
        let state = State { planner: Planner::new(cores), classes: BTreeMap::new() };
        Self { state: Mutex::new(state), changed: Condvar::new(), start: Instant::now() }
    }

    /// Waits for some cores, or for all if there are fewer. `class` says of which class the work is that would run on them; it
    /// is asked again before anybody gets any, and must not use these cores.
    pub fn acquire(&self, cores: usize, class: impl Fn() -> Class + Send + 'static) -> Permit<'_> {
        let mut state = self.lock();
        let id = state.planner.ask(self.now(), class(), cores);
        state.classes.insert(id, Box::new(class));
        loop {
            let now = self.now();
            if let Some(grant) = state.take(now, id) {
                drop(state);
                self.changed.notify_all(); // there may be some left for the next
                return Permit { of: self, grant, comes_back: false };
            }
            let wait = state.planner.wake(now, id).map_or(Duration::MAX, |wake| wake.saturating_sub(now));
            state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Says that interactive work has come: what waits for cores may be of another class now. That of `anonymous` callers, a sign of life, goes
    /// first as any other does, and is no reason to expect more.
    pub fn interactive_arrived(&self, anonymous: bool) {
        let mut state = self.lock();
        if !anonymous {
            state.planner.interactive_arrived(self.now());
        }
        if state.planner.waiting() > 0 {
            self.changed.notify_all();
        }
    }

    /// How many wait for cores.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().planner.waiting()
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The planner's methods do not panic halfway, and one session must not die of another's panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The cores of an ask, if it may have them now. Everybody's class counts as it is now: a thread that was told of a change
    /// may not have run since.
    fn take(&mut self, now: Time, id: AskId) -> Option<Grant> {
        for (id, class) in &self.classes {
            self.planner.classify(*id, class());
        }
        let grant = self.planner.take(now, id)?;
        self.classes.remove(&id);
        Some(grant)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.planner.fmt(f)
    }
}

impl Permit<'_> {
    /// The class for which the cores are.
    #[must_use]
    pub fn class(&self) -> Class {
        self.grant.class
    }

    /// Whether a run of batch work on them is to be brief: interactive work is about.
    #[must_use]
    pub fn is_brief(&self) -> bool {
        self.grant.is_brief
    }

    /// Says that interactive work will ask again at once: batch work leaves it a moment to do so.
    pub fn will_come_back(&mut self) {
        self.comes_back = true;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.of.lock().planner.give_back(self.of.now(), self.grant, self.comes_back);
        self.of.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
            mpsc,
        },
        thread,
    };

    use super::*;

    #[test]
    fn a_panic_gives_its_cores_back() {
        let cores = Cores::new(2);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _permit = cores.acquire(2, || Class::Interactive);
            panic!("a session that panics");
        }));
        assert!(panicked.is_err());
        drop(cores.acquire(9, || Class::Batch));
    }

    /// The one that waits has had no time to look again when the cores come free and another asks.
    #[test]
    fn a_class_counts_from_when_it_changes_and_not_from_when_its_thread_runs() {
        for _ in 0..100 {
            let (cores, (goes, gone)) = (Cores::new(1), mpsc::channel());
            thread::scope(|scope| {
                let held = cores.acquire(1, || Class::Batch);
                let is_urgent = Arc::new(AtomicBool::new(false));
                let (cores, urgent, waits) = (&cores, is_urgent.clone(), goes.clone());
                scope.spawn(move || {
                    let class = move || if urgent.load(Ordering::SeqCst) { Class::Interactive } else { Class::Batch };
                    let _permit = cores.acquire(1, class);
                    waits.send("who waits").unwrap();
                });
                while cores.waiting() == 0 {
                    thread::yield_now();
                }
                is_urgent.store(true, Ordering::SeqCst);
                drop(held);
                let _permit = cores.acquire(1, || Class::Interactive);
                goes.send("who comes").unwrap();
            });
            assert_eq!(gone.try_iter().collect::<Vec<_>>(), ["who waits", "who comes"]);
        }
    }

    #[test]
    fn who_waits_goes_in_order() {
        let (cores, (goes, gone)) = (Cores::new(2), mpsc::channel());
        thread::scope(|scope| {
            let held = cores.acquire(2, || Class::Batch);
            for (place, (class, count)) in
                [(Class::Batch, 1), (Class::Interactive, 2), (Class::Interactive, 1)].into_iter().enumerate()
            {
                let (cores, goes) = (&cores, goes.clone());
                scope.spawn(move || {
                    let _permit = cores.acquire(count, move || class);
                    let _ = goes.send(place);
                });
                while cores.waiting() <= place {
                    thread::yield_now();
                }
            }
            drop(held);
        });
        let order: Vec<usize> = gone.try_iter().collect();
        assert_eq!(order[0], 1, "first come, first served, and before batch work: {order:?}");
        assert_eq!(order.len(), 3);
    }
}
