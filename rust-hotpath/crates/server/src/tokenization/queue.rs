//! Which text is tokenized next, and how many may wait. Pure: nothing here waits or knows a thread.

use std::{ops::Range, time::Duration};

use hotpath_fairness::{Admission, Bounds, ByClass, DrainRate, PerClass, Queued};

use super::{AT_ONCE_BYTES, Settings};
use crate::requests::Turn;

/// Whatever others have here, a key that has nothing may bring so many bytes.
pub const SMALL_BYTES: usize = 64 * 1024;

/// Who waits for a thread, and the bytes of all that is here. A waiter is told by a `W` that it has one.
#[derive(Debug)]
pub struct Queue<W> {
    threads: usize,
    /// Threads that nobody has. While there is one, nobody waits.
    free: usize,
    waiting: ByClass<Waiter<W>>,
    /// Of bytes that wait or are worked on.
    admissions: PerClass<Admission>,
    drain: DrainRate,
}

#[derive(Debug)]
struct Waiter<W> {
    bytes: usize,
    tells: W,
}

/// What becomes of who comes.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// It has a thread.
    Runs,
    /// It waits, under these numbers.
    Waits(Range<u64>),
}

/// There are too many bytes here.
#[derive(Debug, PartialEq, Eq)]
pub struct Full {
    /// When enough will be done, going by the measured rate.
    pub retry_after: Duration,
}

impl<W> Queued for Waiter<W> {
    /// Its bytes, which take time in proportion. Few bytes of a schema may take as long as many.
    fn tokens(&self) -> usize {
        self.bytes.max(AT_ONCE_BYTES)
    }
}

impl<W> Queue<W> {
    pub fn new(settings: &Settings) -> Self {
        let bounds = Bounds { shared: settings.max_bytes, reserve: usize::MAX, small: SMALL_BYTES };
        Self {
            threads: settings.threads,
            free: settings.threads,
            // The least that a waiter counts as: longer turns would serve batches, and there are none here.
            waiting: ByClass::queues(AT_ONCE_BYTES),
            admissions: PerClass::new(|_| Admission::new(bounds)),
            drain: DrainRate::default(),
        }
    }

    /// Lets some bytes in, which are here until they are given to [`Queue::done`].
    pub fn enter(&mut self, turn: &Turn, bytes: usize, tells: W) -> Result<Entry, Full> {
        let admission = self.admissions.of_mut(turn.class);
        let excess = admission.excess(&turn.key, bytes);
        if excess > 0 {
            return Err(Full { retry_after: self.drain.time_for(excess, self.threads) });
        }
        admission.take(&turn.key, bytes);
        if self.free > 0 {
            self.free -= 1;
            return Ok(Entry::Runs);
        }
        Ok(Entry::Waits(self.waiting.of_mut(turn.class).push(&turn.key, [Waiter { bytes, tells }])))
    }

    /// Who waited goes away; nothing happens if it was told already.
    pub fn leave(&mut self, turn: &Turn, numbers: Range<u64>) {
        self.waiting.of_mut(turn.class).remove(&turn.key, numbers);
    }

    /// Bytes are gone, worked on or not.
    pub fn done(&mut self, turn: &Turn, bytes: usize) {
        self.admissions.of_mut(turn.class).give_back(&turn.key, bytes);
    }

    /// Takes note of how long work took.
    pub fn took(&mut self, bytes: usize, took: Duration) {
        self.drain.note(bytes, took);
    }

    /// When all that waits will be done, going by the measured rate.
    pub fn time_to_drain(&self) -> Duration {
        self.drain.time_for(self.waiting_bytes(), self.threads)
    }

    /// Whom to tell that a thread is free that somebody had.
    pub fn next(&mut self) -> Option<W> {
        let next = self.waiting.next_mut().take(1).pop(); // a batch of 1 byte is one waiter
        self.free += usize::from(next.is_none());
        next.map(|waiter| waiter.tells)
    }

    fn waiting_bytes(&self) -> usize {
        hotpath_fairness::Class::ALL.iter().map(|class| self.waiting.of(*class).tokens()).sum()
    }
}

#[cfg(test)]
impl<W> Queue<W> {
    pub fn free(&self) -> usize {
        self.free
    }

    /// Bytes that wait, and bytes that are here.
    pub fn bytes(&self) -> (usize, usize) {
        let held = hotpath_fairness::Class::ALL.iter().map(|class| self.admissions.of(*class).held()).sum();
        (self.waiting_bytes(), held)
    }
}

#[cfg(test)]
mod tests {
    use hotpath_fairness::Class;
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: Settings = Settings { threads: 2, max_bytes: 1 << 20, max_wait: Duration::MAX };
    const OTHERS: usize = 5;

    fn turn(class: Class, key: usize) -> Turn {
        Turn { class, key: format!("key-{key}").into() }
    }

    #[test]
    fn a_key_alone_fills_most_of_it_and_is_told_when_to_come_back() {
        let mut queue = Queue::new(&SETTINGS);
        let a = turn(Class::Interactive, 0);
        while queue.enter(&a, 100_000, ()).is_ok() {}
        assert_eq!(queue.bytes().1, 800_000);
        queue.took(100_000, Duration::from_millis(100));
        let full = queue.enter(&a, 100_000, ()).unwrap_err();
        // It must give back 61 140 bytes to have four times what it leaves, at 2 × 1 MB a second; which is less than the least.
        assert_eq!(full.retry_after, Duration::from_millis(100));
        assert!(queue.enter(&turn(Class::Interactive, 1), 100_000, ()).is_ok());
        assert!(queue.enter(&turn(Class::Batch, 0), 800_000, ()).is_ok(), "another class");
        queue.done(&a, 100_000);
        assert_eq!(queue.bytes().1, 800_000 - 100_000 + 100_000 + 800_000);
    }

    type Ask = (Class, usize, usize);

    fn asks() -> impl Strategy<Value = Ask> {
        let class = prop_oneof![Just(Class::Interactive), Just(Class::Batch)];
        let bytes = prop_oneof![AT_ONCE_BYTES..SMALL_BYTES, SMALL_BYTES..SETTINGS.max_bytes];
        (class, 0..OTHERS, bytes)
    }

    proptest! {
        /// Whatever others of its class or a lower one bring, a key that has nothing may bring something small, and has a
        /// thread after one waiter of each other key for each of its turns at most.
        #[test]
        fn something_small_of_a_key_that_has_nothing_is_served(
            before in prop::collection::vec((asks(), any::<bool>()), 0..100),
            meanwhile in prop::collection::vec(asks(), 1..20),
            class in prop_oneof![Just(Class::Interactive), Just(Class::Batch)],
            bytes in 1..=SMALL_BYTES,
        ) {
            let mut queue = Queue::new(&SETTINGS);
            let enter = |queue: &mut Queue<Option<(Turn, usize)>>, (of, key, bytes): Ask| {
                let turn = turn(if class == Class::Batch { Class::Batch } else { of }, key);
                let _ = queue.enter(&turn, bytes, Some((turn.clone(), bytes)));
            };
            let work = |queue: &mut Queue<Option<(Turn, usize)>>| {
                if queue.free() == SETTINGS.threads {
                    return true;
                }
                let told = queue.next();
                if let Some(Some((turn, bytes))) = &told {
                    queue.done(turn, *bytes); // it is as if it were done at once
                }
                matches!(told, Some(None))
            };
            for (ask, works) in before {
                enter(&mut queue, ask);
                if works {
                    work(&mut queue);
                }
            }
            let newcomer = queue.enter(&turn(class, OTHERS), bytes, None);
            prop_assert!(newcomer.is_ok(), "{newcomer:?}");
            let mut others = meanwhile.into_iter().cycle();
            let most = bytes.div_ceil(AT_ONCE_BYTES) * OTHERS + 1;
            let waited = (0..=most).find(|_| {
                enter(&mut queue, others.next().unwrap());
                newcomer == Ok(Entry::Runs) || work(&mut queue)
            });
            prop_assert!(waited.is_some(), "it waits for more than {most} others");
        }
    }
}
