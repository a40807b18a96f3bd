//! Who has a permit, and who is next. Pure: nothing here waits or knows a clock.

use std::{ops::Range, time::Duration};

use super::{Load, Settings};
use crate::{Admission, ByClass, Class, DrainRate, PerClass, Queued, Turn};

/// Who waits for a permit, and what all that is here costs. Who waits is told by a `W` that it has one.
#[derive(Debug)]
pub(super) struct Queue<W> {
    permits: usize,
    /// Permits that nobody has. While there is one, nobody waits.
    free: usize,
    least_cost: usize,
    waiting: ByClass<Waiter<W>>,
    /// Of what waits or has a permit.
    admissions: PerClass<Admission>,
    drain: DrainRate,
}

#[derive(Debug)]
struct Waiter<W> {
    counts_as: usize,
    tells: W,
}

impl<W> Queued for Waiter<W> {
    fn cost(&self) -> usize {
        self.counts_as
    }
}

impl<W> Queue<W> {
    pub(super) fn new(settings: &Settings) -> Self {
        let least_cost = settings.least_cost.max(1);
        Self {
            permits: settings.permits,
            free: settings.permits,
            least_cost,
            waiting: ByClass::queues(least_cost), // longer turns would serve batches, and there are none here
            admissions: PerClass::new(|_| Admission::new(settings.bounds)),
            drain: DrainRate::default(),
        }
    }

    /// Lets somebody in, who is here until [`Queue::leave`]: with a permit, or waiting under the numbers that are given back.
    ///
    /// # Errors
    /// When there is too much here: when enough will be gone.
    pub(super) fn enter(&mut self, turn: &Turn, cost: usize, tells: W) -> Result<Range<u64>, Duration> {
        let admission = self.admissions.of_mut(turn.class);
        let excess = admission.excess(&turn.key, cost);
        if excess > 0 {
            return Err(self.drain.time_for(excess, self.permits));
        }
        admission.take(&turn.key, cost);
        if self.free > 0 {
            self.free -= 1;
            return Ok(0..0);
        }
        let waiter = Waiter { counts_as: cost.max(self.least_cost), tells };
        Ok(self.waiting.of_mut(turn.class).push(&turn.key, [waiter]))
    }

    /// Somebody goes away. If it has a permit, whether or not it was told, that is passed on: to whom, is given back.
    pub(super) fn leave(&mut self, turn: &Turn, cost: usize, numbers: Range<u64>) -> Option<W> {
        self.admissions.of_mut(turn.class).give_back(&turn.key, cost);
        if !self.waiting.of_mut(turn.class).remove(&turn.key, numbers).is_empty() {
            return None;
        }
        let next = self.waiting.next_mut().take(1).pop(); // nobody counts as less, so that is one
        self.free += usize::from(next.is_none());
        next.map(|waiter| waiter.tells)
    }

    /// Takes note of how long work took.
    pub(super) fn took(&mut self, cost: usize, took: Duration) {
        self.drain.note(cost, took);
    }

    /// When all that waits will be gone, going by the measured rate.
    pub(super) fn time_to_drain(&self) -> Duration {
        self.drain.time_for(self.load().waiting, self.permits)
    }

    pub(super) fn load(&self) -> Load {
        let waiting = Class::ALL.map(|class| self.waiting.of(class).cost()).iter().sum();
        let held = Class::ALL.map(|class| self.admissions.of(class).held()).iter().sum();
        Load { free: self.free, waiting, held }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::Index};

    use super::*;
    use crate::Bounds;

    const SMALL: usize = 64 * 1024;
    const LEAST: usize = 4096;
    const BOUNDS: Bounds = Bounds { shared: 1 << 20, reserve: usize::MAX, small: SMALL };
    const SETTINGS: Settings = Settings { permits: 2, bounds: BOUNDS, least_cost: LEAST, max_wait: Duration::MAX };
    const OTHERS: usize = 5;

    fn turn(class: Class, key: usize) -> Turn {
        Turn { class, key: format!("key-{key}").into() }
    }

    #[test]
    fn a_key_alone_fills_most_of_it_and_is_told_when_to_come_back() {
        let mut queue = Queue::new(&SETTINGS);
        let a = turn(Class::Interactive, 0);
        while queue.enter(&a, 100_000, ()).is_ok() {}
        assert_eq!(queue.load().held, 800_000);
        queue.took(100_000, Duration::from_millis(100));
        // It must give back 61 140 to have four times what it leaves, at 2 × 1 000 000 a second; which is less than the least.
        assert_eq!(queue.enter(&a, 100_000, ()), Err(Duration::from_millis(100)));
        assert!(queue.enter(&turn(Class::Interactive, 1), 100_000, ()).is_ok());
        assert!(queue.enter(&turn(Class::Batch, 0), 800_000, ()).is_ok(), "another class");
        queue.leave(&a, 100_000, 0..0);
        assert_eq!(queue.load().held, 800_000 - 100_000 + 100_000 + 800_000);
    }

    #[test]
    fn a_permit_that_is_given_to_one_who_left_just_then_goes_to_the_next() {
        let mut queue = Queue::new(&Settings { permits: 1, ..SETTINGS });
        let a = turn(Class::Interactive, 0);
        let [first, second, third] = ["first", "second", "third"].map(|name| queue.enter(&a, 1, name).unwrap());
        assert_eq!(queue.leave(&a, 1, first), Some("second"));
        assert_eq!(queue.leave(&a, 1, second), Some("third"), "before it was told");
        assert_eq!(queue.leave(&a, 1, third), None);
        assert_eq!(queue.load(), Load { free: 1, waiting: 0, held: 0 });
    }

    type Ask = (Class, usize, usize);

    fn asks() -> impl Strategy<Value = Ask> {
        let class = prop_oneof![Just(Class::Interactive), Just(Class::Batch)];
        (class, 0..OTHERS, prop_oneof![1..SMALL, SMALL..BOUNDS.shared])
    }

    struct Here {
        number: usize,
        turn: Turn,
        cost: usize,
        numbers: Range<u64>,
        passes: bool,
    }

    proptest! {
        /// Whatever others of its class or a lower one bring, a key that has nothing may bring something small, and has a
        /// permit after one of each other key for each of its turns at most.
        #[test]
        fn something_small_of_a_key_that_has_nothing_is_served(
            before in prop::collection::vec((asks(), any::<bool>()), 0..100),
            meanwhile in prop::collection::vec(asks(), 1..20),
            class in prop_oneof![Just(Class::Interactive), Just(Class::Batch)],
            cost in 1..=SMALL,
        ) {
            let mut queue = Queue::new(&SETTINGS);
            let mut passing = Vec::new();
            let enter = |queue: &mut Queue<_>, passing: &mut Vec<_>, (of, key, cost): Ask| {
                let turn = turn(if class == Class::Batch { Class::Batch } else { of }, key);
                let entry = queue.enter(&turn, cost, Some((turn.clone(), cost)));
                passing.extend(entry.is_ok_and(|numbers| numbers.is_empty()).then_some((turn, cost)));
            };
            let leave = |queue: &mut Queue<_>, passing: &mut Vec<(Turn, usize)>| {
                let Some((turn, cost)) = passing.pop() else { return true };
                let told = queue.leave(&turn, cost, 0..0);
                let is_newcomer = matches!(told, Some(None));
                passing.extend(told.flatten());
                is_newcomer
            };
            for (ask, leaves) in before {
                enter(&mut queue, &mut passing, ask);
                if leaves {
                    leave(&mut queue, &mut passing);
                }
            }
            let newcomer = queue.enter(&turn(class, OTHERS), cost, None);
            prop_assert!(newcomer.is_ok(), "{newcomer:?}");
            let mut others = meanwhile.into_iter().cycle();
            let most = cost.div_ceil(LEAST) * OTHERS + 1;
            let waited = (0..=most).find(|_| {
                enter(&mut queue, &mut passing, others.next().unwrap());
                newcomer == Ok(0..0) || leave(&mut queue, &mut passing)
            });
            prop_assert!(waited.is_some(), "it waits for more than {most} others");
        }

        /// However they come and go, nobody waits while a permit is free, and what is gone leaves nothing.
        #[test]
        fn permits_are_neither_lost_nor_given_twice(
            events in prop::collection::vec((asks(), prop::option::of(any::<Index>())), 0..100),
        ) {
            let mut queue = Queue::new(&SETTINGS);
            let mut here: Vec<Here> = Vec::new();
            for (number, ((class, key, cost), leaves)) in events.into_iter().enumerate() {
                if let Some(which) = leaves.filter(|_| !here.is_empty()) {
                    let Here { turn, cost, numbers, .. } = here.swap_remove(which.index(here.len()));
                    if let Some(told) = queue.leave(&turn, cost, numbers) {
                        let told = here.iter_mut().find(|other| other.number == told && !other.passes);
                        told.expect("who is told waits").passes = true;
                    }
                } else if let Ok(numbers) = queue.enter(&turn(class, key), cost, number) {
                    let (turn, passes) = (turn(class, key), numbers.is_empty());
                    here.push(Here { number, turn, cost, numbers, passes });
                }
                let passing = here.iter().filter(|one| one.passes).count();
                let waiting = here.iter().filter(|one| !one.passes).map(|one| one.cost.max(LEAST)).sum();
                let held = here.iter().map(|one| one.cost).sum();
                prop_assert_eq!(queue.load(), Load { free: SETTINGS.permits - passing, waiting, held });
                prop_assert!(waiting == 0 || passing == SETTINGS.permits);
            }
        }
    }
}
