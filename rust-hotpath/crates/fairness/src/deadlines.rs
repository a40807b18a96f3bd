//! What ends by itself, and when.

use std::{collections::BTreeSet, time::Duration};

/// Moments at which something is due, as times since any fixed one. A thing that is due in several ways has one entry for
/// each, also where they fall together.
#[derive(Debug)]
pub struct Deadlines<K>(BTreeSet<(Duration, K)>);

impl<K: Ord + Copy> Default for Deadlines<K> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

impl<K: Ord + Copy> Deadlines<K> {
    /// Takes note of when something is due, if it ever is.
    pub fn insert(&mut self, time: Option<Duration>, key: K) {
        self.0.extend(time.map(|time| (time, key)));
    }

    /// Forgets what was due at some time.
    pub fn remove(&mut self, time: Option<Duration>, key: K) {
        time.map(|time| self.0.remove(&(time, key)));
    }

    /// When something is due next.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.0.first().map(|(time, _)| *time)
    }

    /// What is due and was first to be; it is forgotten.
    pub fn pop(&mut self, now: Duration) -> Option<K> {
        if self.next()? > now { None } else { self.0.pop_first().map(|(_, key)| key) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_falls_together_is_two_things() {
        let at = |seconds| Some(Duration::from_secs(seconds));
        let mut deadlines = Deadlines::default();
        deadlines.insert(at(5), ("a", 1));
        deadlines.insert(at(5), ("a", 2));
        deadlines.insert(at(3), ("b", 1));
        deadlines.insert(None, ("c", 1));
        deadlines.remove(at(5), ("a", 1));
        assert_eq!((deadlines.next(), deadlines.pop(Duration::from_secs(2))), (at(3), None));
        let mut due = || deadlines.pop(Duration::from_secs(5));
        assert_eq!([due(), due(), due()], [Some(("b", 1)), Some(("a", 2)), None]);
    }
}
