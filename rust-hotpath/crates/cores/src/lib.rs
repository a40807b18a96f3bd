//! The processors, as one budget for the sessions of all models.
//!
//! A run of a session takes as many cores as it has threads, and gives them back when it ends. So no more threads work than
//! there are processors: a session's threads find each other where they wait for each other, and interactive work of one
//! model does not share its processors with batch work of another. [`planner`] decides; it is pure. [`Cores`] gives it a lock
//! and a clock.
//!
//! Must not depend on sessions or on what they are run for.

#![forbid(unsafe_code)]

pub mod planner;

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hotpath_fairness::Class;
use planner::Planner;

/// The cores of this process.
#[derive(Debug)]
pub struct Cores {
    planner: Mutex<Planner>,
    changed: Condvar,
    start: Instant,
}

/// Some cores, until this is dropped.
#[derive(Debug)]
pub struct Permit<'a> {
    of: &'a Cores,
    cores: usize,
    comes_back: bool,
}

impl Cores {
    /// So many, at least one.
    #[must_use]
    pub fn new(cores: usize) -> Self {
        Self { planner: Mutex::new(Planner::new(cores)), changed: Condvar::new(), start: Instant::now() }
    }

    /// Waits for some cores, or for all if there are fewer, with work of a class. `interactive_waits` says whether that
    /// holds up interactive work: then it counts as such. It is asked again whenever that may have changed, and must not
    /// use these cores.
    pub fn acquire(&self, cores: usize, class: Class, interactive_waits: impl Fn() -> bool) -> Permit<'_> {
        let class = || if class == Class::Batch && interactive_waits() { Class::Interactive } else { class };
        let mut planner = self.lock();
        let id = planner.ask(self.now(), class(), cores);
        loop {
            planner.classify(id, class());
            let now = self.now();
            if let Some(cores) = planner.take(now, id) {
                drop(planner);
                self.changed.notify_all(); // there may be some left for the next
                return Permit { of: self, cores, comes_back: false };
            }
            let wait = planner.wake(now, id).map_or(Duration::MAX, |wake| wake.saturating_sub(now));
            planner = self.changed.wait_timeout(planner, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Says that the class of something that waits may have changed.
    pub fn reconsider(&self) {
        if self.waiting() > 0 {
            self.changed.notify_all();
        }
    }

    /// How many wait for cores.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().waiting()
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Planner> {
        // The planner's methods do not panic halfway, and one session must not die of another's panic.
        self.planner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// Says that interactive work will ask again at once: batch work leaves it a moment to do so.
    pub fn will_come_back(&mut self) {
        self.comes_back = true;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.of.lock().give_back(self.of.now(), self.cores, self.comes_back);
        self.of.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::mpsc,
        thread,
    };

    use super::*;

    #[test]
    fn a_panic_gives_its_cores_back() {
        let cores = Cores::new(2);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _permit = cores.acquire(2, Class::Interactive, || false);
            panic!("a session that panics");
        }));
        assert!(panicked.is_err());
        drop(cores.acquire(9, Class::Batch, || false));
    }

    #[test]
    fn who_waits_goes_in_order() {
        let (cores, (goes, gone)) = (Cores::new(2), mpsc::channel());
        thread::scope(|scope| {
            let held = cores.acquire(2, Class::Batch, || false);
            for (place, (class, count)) in
                [(Class::Batch, 1), (Class::Interactive, 2), (Class::Interactive, 1)].into_iter().enumerate()
            {
                let (cores, goes) = (&cores, goes.clone());
                scope.spawn(move || {
                    let _permit = cores.acquire(count, class, || false);
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
