//! Who may use how many cores now. Pure: time comes in with each call.
//!
//! Who asks first is served first, and nobody overtakes one that waits for more cores than are free. Batch work counts as
//! if it had asked [`PATIENCE`] later: so interactive work goes before it, and does not starve it.

use std::{collections::BTreeMap, time::Duration};

use hotpath_fairness::Class;

/// A moment, as the time since any fixed one.
pub type Time = Duration;

/// Interactive work goes before batch work for so long. A batch takes some ten milliseconds, so it costs interactive work
/// that never ends a tenth at most for each core.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// Batch work leaves cores free for so long after interactive work that will come back: between two steps, tokens are chosen.
pub const BREAK: Duration = Duration::from_millis(2);

/// Names an ask to its planner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AskId(u64);

#[derive(Debug, Clone, Copy)]
struct Ask {
    class: Class,
    cores: usize,
    since: Time,
}

impl Ask {
    /// When it counts as having come.
    fn counts_from(&self) -> Time {
        match self.class {
            Class::Interactive => self.since,
            Class::Batch => self.since + PATIENCE,
        }
    }
}

/// The cores and who waits for some.
#[derive(Debug)]
pub struct Planner {
    cores: usize,
    free: usize,
    asks: BTreeMap<AskId, Ask>,
    last_id: u64,
    /// Until when interactive work is expected back.
    expected: Time,
}

impl Planner {
    /// So many cores, at least one, that are all free.
    #[must_use]
    pub fn new(cores: usize) -> Self {
        let cores = cores.max(1);
        Self { cores, free: cores, asks: BTreeMap::new(), last_id: 0, expected: Duration::ZERO }
    }

    /// How many ask.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.asks.len()
    }

    /// Takes note of an ask. One for more cores than there are is one for all.
    pub fn ask(&mut self, now: Time, class: Class, cores: usize) -> AskId {
        self.last_id += 1;
        let id = AskId(self.last_id);
        self.asks.insert(id, Ask { class, cores: cores.clamp(1, self.cores), since: now });
        id
    }

    /// Says that what waits is, or is not any more, held up by interactive work behind it.
    pub fn classify(&mut self, id: AskId, class: Class) {
        self.asks.entry(id).and_modify(|ask| ask.class = class);
    }

    /// Who asks does not any more.
    pub fn withdraw(&mut self, id: AskId) {
        self.asks.remove(&id);
    }

    /// The cores of an ask, if it may have them now.
    pub fn take(&mut self, now: Time, id: AskId) -> Option<usize> {
        let (first, ask) = self.asks.iter().min_by_key(|(id, ask)| (ask.counts_from(), **id))?;
        let is_free = ask.cores <= self.free && (ask.class == Class::Interactive || self.break_ends(ask) <= now);
        if *first != id || !is_free {
            return None;
        }
        let cores = ask.cores;
        self.asks.remove(&id);
        self.free -= cores;
        Some(cores)
    }

    /// When one that may not go now is to try again, if nothing else happens.
    #[must_use]
    pub fn wake(&self, now: Time, id: AskId) -> Option<Time> {
        let ask = self.asks.get(&id).filter(|ask| ask.class == Class::Batch)?;
        Some(self.break_ends(ask)).filter(|ends| *ends > now)
    }

    fn break_ends(&self, ask: &Ask) -> Time {
        self.expected.min(ask.counts_from())
    }

    /// Takes cores back. Interactive work may say that it will ask again at once.
    pub fn give_back(&mut self, now: Time, cores: usize, comes_back: bool) {
        self.free += cores;
        if comes_back {
            self.expected = now + BREAK;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const NOW: Time = Duration::from_secs(1);

    #[test]
    fn interactive_work_goes_before_batch_work_that_came_first() {
        let mut planner = Planner::new(1);
        let (batch, interactive) = (planner.ask(NOW, Class::Batch, 1), planner.ask(NOW, Class::Interactive, 1));
        assert_eq!(planner.take(NOW, batch), None);
        assert_eq!(planner.take(NOW, interactive), Some(1));
        planner.give_back(NOW, 1, false);
        assert_eq!(planner.take(NOW, batch), Some(1));
    }

    #[test]
    fn batch_work_leaves_a_break_to_interactive_work_that_comes_back() {
        let mut planner = Planner::new(2);
        let interactive = planner.ask(NOW, Class::Interactive, 2);
        assert_eq!(planner.take(NOW, interactive), Some(2));
        let batch = planner.ask(NOW, Class::Batch, 1);
        planner.give_back(NOW, 2, true);
        assert_eq!((planner.take(NOW, batch), planner.wake(NOW, batch)), (None, Some(NOW + BREAK)));
        let back = planner.ask(NOW + BREAK / 2, Class::Interactive, 2);
        assert_eq!(planner.take(NOW + BREAK / 2, back), Some(2));
        planner.give_back(NOW + PATIENCE, 2, true);
        let again = planner.ask(NOW + PATIENCE, Class::Interactive, 2);
        assert_eq!(planner.take(NOW + PATIENCE, again), None, "batch work has been patient");
        assert_eq!(planner.take(NOW + PATIENCE, batch), Some(1));
    }

    #[test]
    fn what_holds_up_interactive_work_becomes_interactive() {
        let mut planner = Planner::new(1);
        let batch = planner.ask(NOW, Class::Batch, 1);
        let later = planner.ask(NOW + PATIENCE / 2, Class::Interactive, 1);
        planner.classify(batch, Class::Interactive);
        assert_eq!(planner.take(NOW + PATIENCE / 2, later), None);
        assert_eq!(planner.take(NOW + PATIENCE / 2, batch), Some(1));
    }

    #[derive(Debug, Clone)]
    enum Event {
        Ask(Class, usize),
        GiveBack(Option<prop::sample::Index>, bool),
        Withdraw(prop::sample::Index),
        Wait(u64),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let class = prop_oneof![Just(Class::Interactive), Just(Class::Batch)];
        let event = prop_oneof![
            6 => (class, 0..9_usize).prop_map(|(class, cores)| Event::Ask(class, cores)),
            5 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, back)| Event::GiveBack(Some(which), back)),
            1 => any::<prop::sample::Index>().prop_map(Event::Withdraw),
            3 => (0..60_u64).prop_map(Event::Wait),
        ];
        prop::collection::vec(event, 1..150)
    }

    proptest! {
        /// Never more cores than there are; equals go in order, and interactive work before batch work that has not waited
        /// for long; and once all is given back, everybody has been served.
        #[test]
        fn any_interleaving_keeps_the_rules(cores in 1..6_usize, events in events()) {
            let (mut planner, mut now) = (Planner::new(cores), Duration::ZERO);
            let mut asks: BTreeMap<AskId, (Class, Time)> = BTreeMap::new();
            let mut running: Vec<usize> = Vec::new();
            let give_back_all = (0..1000).map(|_| Event::GiveBack(None, false));
            for event in events.into_iter().chain([Event::Wait(200)]).chain(give_back_all) {
                match event {
                    Event::Ask(class, cores) => drop(asks.insert(planner.ask(now, class, cores), (class, now))),
                    Event::GiveBack(which, back) if !running.is_empty() => {
                        let cores = running.swap_remove(which.map_or(0, |which| which.index(running.len())));
                        planner.give_back(now, cores, back);
                    }
                    Event::Withdraw(which) if !asks.is_empty() => {
                        let id = *asks.keys().nth(which.index(asks.len())).unwrap();
                        planner.withdraw(id);
                        asks.remove(&id);
                    }
                    Event::Wait(milliseconds) => now += Duration::from_millis(milliseconds),
                    Event::GiveBack(..) | Event::Withdraw(_) => (),
                }
                let ids: BTreeSet<AskId> = asks.keys().copied().collect();
                for id in ids.iter().chain(&ids).copied() {
                    let Some(cores) = planner.take(now, id) else { continue };
                    running.push(cores);
                    let (class, since) = asks.remove(&id).unwrap();
                    for (other, (of, came)) in &asks {
                        let is_equal = *of == class && *other < id && planner.asks[other].since < since;
                        prop_assert!(!is_equal, "{id:?} overtook {other:?}");
                        let is_patient = class == Class::Batch && since + PATIENCE > *came;
                        prop_assert!(!(is_patient && *of == Class::Interactive), "batch work overtook");
                    }
                }
                prop_assert!(running.iter().sum::<usize>() <= cores, "{running:?}");
                let idle = running.is_empty() && !asks.is_empty();
                prop_assert!(!idle || asks.values().all(|(class, _)| *class == Class::Batch), "cores idle");
            }
            prop_assert!(asks.is_empty() && running.is_empty(), "{asks:?} wait for ever");
        }
    }
}
