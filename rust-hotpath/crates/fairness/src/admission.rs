//! How much of a bounded resource each key may hold.

use std::collections::HashMap;

use crate::Key;

/// A key may hold up to so many times what it leaves free. So one that floods a queue alone fills four fifths of it, and
/// however many do, something is left (dynamic thresholds, Choudhury and Hahne 1998).
const SHARE: usize = 4;

/// How much there is of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// What all keys share.
    pub shared: usize,
    /// What lies beyond that, for keys that hold nothing.
    pub reserve: usize,
    /// Most that such a key may hold once `shared` is full.
    pub small: usize,
}

/// Who holds how much of a bounded resource, and how much more of it each key may take.
///
/// Whatever others hold, a key that holds nothing may take [`Bounds::small`], as long as [`Bounds::reserve`] lasts.
#[derive(Debug)]
pub struct Admission {
    bounds: Bounds,
    held: usize,
    by_key: HashMap<Key, usize>,
}

impl Admission {
    /// Nobody holds anything.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, held: 0, by_key: HashMap::new() }
    }

    /// What all keys hold.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// What a key holds.
    #[must_use]
    pub fn held_by(&self, key: &str) -> usize {
        self.by_key.get(key).copied().unwrap_or(0)
    }

    /// What is left of all of it.
    #[must_use]
    pub fn left(&self) -> usize {
        self.bounds.shared.saturating_add(self.bounds.reserve).saturating_sub(self.held)
    }

    /// Takes a part away from all keys.
    pub fn withhold(&mut self, amount: usize) {
        self.held += amount;
    }

    /// Gives a part back that was taken away from all keys.
    pub fn restore(&mut self, amount: usize) {
        self.held -= amount;
    }

    /// The most that a key may take now.
    #[must_use]
    pub fn room(&self, key: &str) -> usize {
        let held = self.held_by(key);
        let free = self.bounds.shared.saturating_sub(self.held);
        // Each unit that is taken adds one to what the key holds, and takes SHARE from what it may hold.
        let share = free.saturating_mul(SHARE).saturating_sub(held) / (SHARE + 1);
        if held > 0 {
            return share;
        }
        share.max(self.bounds.small.min(self.left()))
    }

    /// What a key must give back before it may take `amount` more; 0 if it may now.
    #[must_use]
    pub fn excess(&self, key: &str, amount: usize) -> usize {
        if amount <= self.room(key) {
            return 0;
        }
        // Each unit that the key gives back takes one from what it holds, and adds SHARE to what it may hold.
        let holds = self.held_by(key).saturating_add(amount);
        let of_all = self.held.saturating_add(amount).saturating_mul(SHARE);
        let beyond = holds.saturating_add(of_all).saturating_sub(self.bounds.shared.saturating_mul(SHARE));
        beyond.div_ceil(SHARE + 1).max(1)
    }

    /// Takes note that a key holds more. It is the caller's to ask before.
    pub fn take(&mut self, key: &Key, amount: usize) {
        if amount > 0 {
            self.held += amount;
            *self.by_key.entry(key.clone()).or_default() += amount;
        }
    }

    /// Takes note that a key holds less.
    pub fn give_back(&mut self, key: &str, amount: usize) {
        if amount == 0 {
            return;
        }
        self.held -= amount;
        if let Some(held) = self.by_key.get_mut(key) {
            *held -= amount;
            if *held == 0 {
                self.by_key.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds { shared: 1000, reserve: 100, small: 20 };

    fn key(number: usize) -> Key {
        format!("key-{number}").into()
    }

    #[test]
    fn one_key_alone_fills_most_of_it() {
        let mut admission = Admission::new(BOUNDS);
        while admission.room("key-0") > 0 {
            admission.take(&key(0), 1);
        }
        assert_eq!(admission.held(), 800);
        assert_eq!(admission.room("key-1"), 160, "four fifths of what is left");
    }

    #[test]
    fn a_key_that_holds_nothing_may_use_the_reserve() {
        let mut admission = Admission::new(BOUNDS);
        admission.take(&key(0), 1000);
        for newcomer in 1..=5 {
            assert_eq!((admission.room(&key(newcomer)), admission.room("key-0")), (20, 0));
            admission.take(&key(newcomer), 20);
            assert_eq!(admission.room(&key(newcomer)), 0, "it holds something now");
        }
        assert_eq!(admission.room("key-6"), 0, "the reserve is bounded");
        admission.give_back("key-3", 20);
        assert_eq!((admission.room("key-3"), admission.room("key-6")), (20, 20));
    }

    #[derive(Debug, Clone)]
    enum Event {
        Take { key: usize, amount: usize },
        GiveBack { key: usize, part: f64 },
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let take = (0..30_usize, prop_oneof![4 => 1..50_usize, 1 => 50..2000_usize])
            .prop_map(|(key, amount)| Event::Take { key, amount });
        let give_back = (0..30_usize, 0.0..=1.0).prop_map(|(key, part)| Event::GiveBack { key, part });
        prop::collection::vec(prop_oneof![3 => take, 1 => give_back], 1..300)
    }

    proptest! {
        /// Whatever others hold, one that holds nothing gets something small, and the bounds hold.
        #[test]
        fn nobody_is_shut_out(events in events()) {
            let bounds = Bounds { reserve: usize::MAX, ..BOUNDS };
            let mut admission = Admission::new(bounds);
            for event in events {
                match event {
                    Event::Take { key: number, amount } => {
                        let amount = amount.min(admission.room(&key(number)));
                        admission.take(&key(number), amount);
                    }
                    Event::GiveBack { key: number, part } => {
                        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
                        let amount = (part * admission.held_by(&key(number)) as f64) as usize;
                        admission.give_back(&key(number), amount);
                    }
                }
                prop_assert!(admission.room("newcomer") >= bounds.small);
                prop_assert_eq!(admission.excess("newcomer", bounds.small), 0);
                prop_assert!(admission.held() <= bounds.shared + 30 * bounds.small);
            }
            for number in 0..30 {
                let held = admission.held_by(&key(number));
                admission.give_back(&key(number), held);
            }
            prop_assert_eq!(admission.held(), 0);
            prop_assert!(admission.by_key.is_empty(), "keys that hold nothing are forgotten");
        }

        /// Once a key has given back its excess, it may take what it asked for.
        #[test]
        fn an_excess_is_what_must_go(held in 1..1000_usize, others in 0..1000_usize, amount in 1..200_usize) {
            let mut admission = Admission::new(BOUNDS);
            admission.take(&key(0), held);
            admission.take(&key(1), others);
            let excess = admission.excess("key-0", amount);
            prop_assert_eq!(excess == 0, amount <= admission.room("key-0"));
            if excess <= held {
                admission.give_back("key-0", excess);
                prop_assert_eq!(admission.excess("key-0", amount), 0);
            }
        }
    }
}
