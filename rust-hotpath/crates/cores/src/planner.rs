//! Who may use how many cores now. Pure: time comes in with each call.
//!
//! Who asks first is served first, and nobody overtakes one that waits for more cores than are free. Batch work counts as
//! if it had asked [`PATIENCE`] later: so interactive work goes before it, and does not starve it.
//!
//! While interactive work is about, of whatever model, batch work leaves a core free where there are several, and its runs
//! are brief. Whoever comes finds a core, or waits for one such run. And over time it leaves [`SPARE`] cores: between
//! its runs it rests, by the rule of a leaky bucket without a burst (GCRA, ITU-T I.371).

use std::{collections::BTreeMap, time::Duration};

pub use hotpath_fairness::PATIENCE;
use hotpath_fairness::{Class, PerClass};

/// A moment, as the time since any fixed one.
pub type Time = Duration;

/// Batch work leaves cores free for so long after interactive work that will come back: between two steps, tokens are chosen.
pub const BREAK: Duration = Duration::from_millis(2);

/// Interactive work counts as present for so long after it was last there. Requests that come twice a second never see what batch work
/// does when it is alone; and it does so again half a second after the last one.
pub const GRACE: Duration = Duration::from_millis(500);

/// Cores that batch work leaves over time while interactive work is about: one to its runs, and the rest to what they need besides, from
/// reading a request to writing its reply, here and in other processes, which batch work needs as well. Without that, two processors
/// have no time left, and each of the steps from a request to its reply waits for the operating system.
pub const SPARE: f64 = 1.75;

/// The part of the time that it runs all the same, where there are fewer cores, or it runs on many at once.
const AT_LEAST: f64 = 0.25;

/// Names an ask to its planner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AskId(u64);

/// Cores that an ask has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The ask's class when it got them.
    pub class: Class,
    /// How many.
    pub cores: usize,
    /// Since when.
    pub since: Time,
    /// Whether a run of batch work on them is to be brief: interactive work is about.
    pub is_brief: bool,
}

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
    /// By the class that they were taken for.
    held: PerClass<usize>,
    asks: BTreeMap<AskId, Ask>,
    last_id: u64,
    /// Until when interactive work is expected back.
    expected: Time,
    /// Until when it counts as present, if none is there.
    present_until: Time,
    /// Until when batch work rests while it is.
    rests_until: Time,
}

impl Planner {
    /// So many cores, at least one, that are all free.
    #[must_use]
    pub fn new(cores: usize) -> Self {
        let (held, asks) = (PerClass::new(|_| 0), BTreeMap::new());
        let [expected, present_until, rests_until] = [Duration::ZERO; 3];
        Self { cores: cores.max(1), held, asks, last_id: 0, expected, present_until, rests_until }
    }

    /// How many ask.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.asks.len()
    }

    /// Takes note that interactive work is there, of somebody who may come again.
    pub fn interactive_arrived(&mut self, now: Time) {
        self.present_until = now + GRACE;
    }

    /// Takes note of an ask. One for more cores than there are is one for all.
    pub fn ask(&mut self, now: Time, class: Class, cores: usize) -> AskId {
        self.last_id += 1;
        let id = AskId(self.last_id);
        self.asks.insert(id, Ask { class, cores: cores.clamp(1, self.cores), since: now });
        id
    }

    /// Says of which class that is now which an ask is for.
    pub fn classify(&mut self, id: AskId, class: Class) {
        self.asks.entry(id).and_modify(|ask| ask.class = class);
    }

    /// Who asks does not any more.
    pub fn withdraw(&mut self, id: AskId) {
        self.asks.remove(&id);
    }

    /// The cores of an ask, if it may have them now.
    pub fn take(&mut self, now: Time, id: AskId) -> Option<Grant> {
        let (first, ask) = self.first(now)?;
        let is_free = ask.cores <= self.free() && (ask.class == Class::Interactive || self.break_ends(&ask) <= now);
        if first != id || !is_free {
            return None;
        }
        let is_brief = self.is_interactive_present(now);
        let grant = Grant { class: ask.class, cores: ask.cores, since: now, is_brief };
        self.asks.remove(&id);
        *self.held.of_mut(grant.class) += grant.cores;
        Some(grant)
    }

    /// Whose turn is next. Interactive work passes the batch work whose turn it is only where that rests, or would leave no core free;
    /// other batch work never does, or it would keep one that asks for many cores waiting for ever.
    fn first(&self, now: Time) -> Option<(AskId, Ask)> {
        let first_of = |class| {
            let of_class = self.asks.iter().filter(move |(_, ask)| ask.class == class);
            of_class.map(|(id, ask)| (ask.counts_from(), *id, *ask)).min_by_key(|(from, id, _)| (*from, *id))
        };
        let batch = first_of(Class::Batch).filter(|(_, _, ask)| self.leaves_room(now, ask) && !self.rests(now));
        let first = first_of(Class::Interactive).into_iter().chain(batch).min_by_key(|(from, id, _)| (*from, *id));
        first.map(|(_, id, ask)| (id, ask))
    }

    /// Whether batch work that asks would leave a core free, if it is to. What runs alone may have all that it asks for.
    fn leaves_room(&self, now: Time, ask: &Ask) -> bool {
        let held = *self.held.of(Class::Batch);
        held == 0 || held + ask.cores < self.cores || !self.is_interactive_present(now)
    }

    fn is_interactive_present(&self, now: Time) -> bool {
        let asks = self.asks.values().any(|ask| ask.class == Class::Interactive);
        asks || *self.held.of(Class::Interactive) > 0 || now < self.present_until
    }

    fn free(&self) -> usize {
        self.cores - Class::ALL.iter().map(|class| self.held.of(*class)).sum::<usize>()
    }

    /// When one that may not go now is to try again, if nothing else happens.
    #[must_use]
    pub fn wake(&self, now: Time, id: AskId) -> Option<Time> {
        let ask = self.asks.get(&id).filter(|ask| ask.class == Class::Batch)?;
        let rest = self.rests(now).then_some(self.rests_until);
        let absence = (rest.is_some() || !self.leaves_room(now, ask)).then_some(self.present_until);
        [Some(self.break_ends(ask)), rest, absence].into_iter().flatten().filter(|time| *time > now).min()
    }

    fn break_ends(&self, ask: &Ask) -> Time {
        self.expected.min(ask.counts_from())
    }

    fn rests(&self, now: Time) -> bool {
        now < self.rests_until && self.is_interactive_present(now)
    }

    /// Takes note of what a run of batch work took. It rests so long that, over time, it has what [`SPARE`] leaves of the cores; and not
    /// for longer than it would wait anyway.
    #[allow(clippy::cast_precision_loss)] // of a number of processors
    fn rest(&mut self, now: Time, grant: Grant) {
        let share = ((self.cores as f64 - SPARE) / grant.cores as f64).max(AT_LEAST);
        let from = self.rests_until.max(grant.since);
        self.rests_until = (from + now.saturating_sub(grant.since).div_f64(share)).min(now + PATIENCE);
    }

    /// Takes cores back. Interactive work may say that it will ask again at once.
    pub fn give_back(&mut self, now: Time, grant: Grant, comes_back: bool) {
        *self.held.of_mut(grant.class) -= grant.cores;
        if grant.class == Class::Batch && self.is_interactive_present(now) {
            self.rest(now, grant);
        }
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

    /// What a brief run takes here.
    const TIME_SLICE: Duration = Duration::from_millis(5);

    /// Takes what is asked for at once.
    fn get(planner: &mut Planner, now: Time, class: Class, cores: usize) -> Option<Grant> {
        let id = planner.ask(now, class, cores);
        planner.take(now, id)
    }

    #[test]
    fn interactive_work_goes_before_batch_work_that_came_first() {
        let mut planner = Planner::new(1);
        let (batch, interactive) = (planner.ask(NOW, Class::Batch, 1), planner.ask(NOW, Class::Interactive, 1));
        assert_eq!(planner.take(NOW, batch), None);
        let grant = planner.take(NOW, interactive).unwrap();
        planner.give_back(NOW, grant, false);
        assert!(planner.take(NOW, batch).is_some());
    }

    #[test]
    fn batch_work_leaves_a_break_to_interactive_work_that_comes_back() {
        let mut planner = Planner::new(2);
        let interactive = get(&mut planner, NOW, Class::Interactive, 2).unwrap();
        let batch = planner.ask(NOW, Class::Batch, 1);
        planner.give_back(NOW, interactive, true);
        assert_eq!((planner.take(NOW, batch), planner.wake(NOW, batch)), (None, Some(NOW + BREAK)));
        let back = get(&mut planner, NOW + BREAK / 2, Class::Interactive, 2).unwrap();
        planner.give_back(NOW + PATIENCE, back, true);
        let again = planner.ask(NOW + PATIENCE, Class::Interactive, 2);
        assert_eq!(planner.take(NOW + PATIENCE, again), None, "batch work has been patient");
        assert!(planner.take(NOW + PATIENCE, batch).is_some());
    }

    #[test]
    fn what_holds_up_interactive_work_becomes_interactive() {
        let mut planner = Planner::new(1);
        let batch = planner.ask(NOW, Class::Batch, 1);
        let later = planner.ask(NOW + PATIENCE / 2, Class::Interactive, 1);
        planner.classify(batch, Class::Interactive);
        assert_eq!(planner.take(NOW + PATIENCE / 2, later), None);
        assert!(planner.take(NOW + PATIENCE / 2, batch).is_some());
    }

    #[test]
    fn batch_work_alone_has_all_cores_for_as_long_as_it_likes() {
        let mut planner = Planner::new(2);
        for _ in 0..2 {
            let grant = get(&mut planner, NOW, Class::Batch, 1);
            assert_eq!(grant, Some(Grant { class: Class::Batch, cores: 1, since: NOW, is_brief: false }));
        }
    }

    #[test]
    fn batch_work_leaves_a_core_free_and_is_brief_until_interactive_work_has_been_away_for_a_while() {
        let mut planner = Planner::new(2);
        planner.interactive_arrived(NOW);
        let one = get(&mut planner, NOW, Class::Batch, 1).unwrap();
        assert!(one.is_brief);
        let other = planner.ask(NOW, Class::Batch, 1);
        assert_eq!((planner.take(NOW, other), planner.wake(NOW, other)), (None, Some(NOW + GRACE)));
        let later = NOW + 2 * PATIENCE;
        assert_eq!(planner.take(later, other), None, "however long it has waited, while other batch work runs");
        planner.interactive_arrived(later);
        let interactive = get(&mut planner, later, Class::Interactive, 1).expect("a core is free");
        planner.give_back(later, interactive, false);
        assert_eq!(planner.take(later + GRACE, other), Some(Grant { since: later + GRACE, is_brief: false, ..one }));
    }

    /// Of a second in which somebody comes again and again: runs on so many cores each, of several.
    fn time_of_batch_work(cores: usize, each: usize) -> f64 {
        let (mut planner, mut running, end) = (Planner::new(cores), Vec::new(), NOW + Duration::from_secs(1));
        let mut asks: Vec<AskId> = (0..cores).map(|_| planner.ask(NOW, Class::Batch, each)).collect();
        let (mut now, mut held) = (NOW, Duration::ZERO);
        while now < end {
            planner.interactive_arrived(now);
            for id in std::mem::take(&mut asks) {
                match planner.take(now, id) {
                    Some(grant) => running.push(grant),
                    None => asks.push(id),
                }
            }
            now += Duration::from_micros(50);
            let (over, goes_on): (Vec<Grant>, _) =
                running.into_iter().partition(|grant| now >= grant.since + TIME_SLICE);
            running = goes_on;
            for grant in over {
                held += TIME_SLICE;
                planner.give_back(now, grant, false);
                asks.push(planner.ask(now, Class::Batch, each));
            }
        }
        held.as_secs_f64()
    }

    #[test]
    fn batch_work_leaves_a_core_and_most_of_another_over_time_while_interactive_work_is_about() {
        for (cores, time) in [(1, 0.25), (2, 0.25), (3, 1.25), (4, 2.25), (16, 14.25)] {
            let is = time_of_batch_work(cores, 1);
            assert!((0.9 * time..=1.02 * time).contains(&is), "{is} s on {cores} cores, and not {time}");
        }
        for (cores, time) in [(2, 0.25), (4, 2.25 / 4.0), (16, 14.25 / 16.0)] {
            let is = time_of_batch_work(cores, cores);
            assert!((0.9 * time..=1.02 * time).contains(&is), "{is} s on all of {cores} cores, and not {time}");
        }
    }

    #[test]
    fn batch_work_rests_no_longer_than_interactive_work_is_about_or_than_it_would_wait() {
        let mut planner = Planner::new(2);
        planner.interactive_arrived(NOW);
        let long = get(&mut planner, NOW, Class::Batch, 1).unwrap();
        let (ended, batch) = (NOW + GRACE * 9 / 10, planner.ask(NOW, Class::Batch, 1));
        planner.give_back(ended, long, false);
        assert_eq!((planner.take(ended, batch), planner.wake(ended, batch)), (None, Some(NOW + GRACE)));
        planner.interactive_arrived(ended);
        assert_eq!((planner.take(ended, batch), planner.wake(ended, batch)), (None, Some(ended + PATIENCE)));
        assert!(planner.take(ended + PATIENCE, batch).is_some());
    }

    /// A session whose threads are as many as the cores.
    #[test]
    fn batch_work_that_needs_all_cores_gets_them_while_interactive_work_is_about() {
        let mut planner = Planner::new(2);
        planner.interactive_arrived(NOW);
        let small = get(&mut planner, NOW, Class::Batch, 1).unwrap();
        let all = planner.ask(NOW, Class::Batch, 2);
        let next = planner.ask(NOW, Class::Batch, 1);
        planner.give_back(NOW, small, false);
        assert_eq!(planner.take(NOW, next), None, "no batch work overtakes other batch work");
        assert_eq!(planner.take(NOW, all).map(|grant| grant.cores), Some(2));
    }

    /// One request after the other, without an end, on all cores.
    #[test]
    fn batch_work_beside_interactive_work_that_never_ends_gets_a_run_in_each_patience() {
        let (mut planner, mut now, mut got) = (Planner::new(2), NOW, 0);
        let mut batch = planner.ask(now, Class::Batch, 2);
        while now < NOW + 10 * (PATIENCE + 2 * TIME_SLICE) {
            let interactive = planner.ask(now, Class::Interactive, 2);
            if let Some(grant) = planner.take(now, batch) {
                got += 1;
                now += TIME_SLICE;
                planner.give_back(now, grant, false);
                batch = planner.ask(now, Class::Batch, 2);
            }
            let grant = planner.take(now, interactive).expect("batch work has had its run");
            now += TIME_SLICE;
            planner.give_back(now, grant, true);
        }
        assert_eq!(got, 10);
    }

    #[derive(Debug, Clone)]
    enum Event {
        Ask(Class, usize),
        GiveBack(Option<prop::sample::Index>, bool),
        Withdraw(prop::sample::Index),
        Came,
        Wait(u64),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let class = prop_oneof![Just(Class::Interactive), Just(Class::Batch)];
        let event = prop_oneof![
            6 => (class, 0..9_usize).prop_map(|(class, cores)| Event::Ask(class, cores)),
            5 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, back)| Event::GiveBack(Some(which), back)),
            1 => any::<prop::sample::Index>().prop_map(Event::Withdraw),
            1 => Just(Event::Came),
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
            let mut came: Option<Time> = None;
            let mut asks: BTreeMap<AskId, (Class, Time)> = BTreeMap::new();
            let mut running: Vec<Grant> = Vec::new();
            let give_back_all = (0..1000).map(|_| Event::GiveBack(None, false));
            for event in events.into_iter().chain([Event::Wait(1000)]).chain(give_back_all) {
                match event {
                    Event::Ask(class, cores) => drop(asks.insert(planner.ask(now, class, cores), (class, now))),
                    Event::GiveBack(which, back) if !running.is_empty() => {
                        let grant = running.swap_remove(which.map_or(0, |which| which.index(running.len())));
                        planner.give_back(now, grant, back);
                    }
                    Event::Withdraw(which) if !asks.is_empty() => {
                        let id = *asks.keys().nth(which.index(asks.len())).unwrap();
                        planner.withdraw(id);
                        asks.remove(&id);
                    }
                    Event::Came => {
                        planner.interactive_arrived(now);
                        came = Some(now);
                    }
                    Event::Wait(milliseconds) => now += Duration::from_millis(milliseconds),
                    Event::GiveBack(..) | Event::Withdraw(_) => (),
                }
                let ids: BTreeSet<AskId> = asks.keys().copied().collect();
                for id in ids.iter().chain(&ids).copied() {
                    let waits = asks.values().any(|(class, _)| *class == Class::Interactive);
                    let runs = running.iter().any(|grant| grant.class == Class::Interactive);
                    let is_interactive_present = waits || runs || came.is_some_and(|came| now < came + GRACE);
                    let Some(grant) = planner.take(now, id) else { continue };
                    running.push(grant);
                    let (class, since) = asks.remove(&id).unwrap();
                    prop_assert_eq!((grant.class, grant.is_brief), (class, is_interactive_present));
                    let of_batch = running.iter().filter(|grant| grant.class == Class::Batch);
                    let held: Vec<usize> = of_batch.map(|grant| grant.cores).collect();
                    let leaves_room = held.len() == 1 || held.iter().sum::<usize>() < cores;
                    prop_assert!(class == Class::Interactive || !is_interactive_present || leaves_room, "{held:?} of {cores}");
                    for (other, (of, came)) in &asks {
                        let is_equal = *of == class && *other < id && planner.asks[other].since < since;
                        prop_assert!(!is_equal, "{id:?} overtook {other:?}");
                        let is_patient = class == Class::Batch && since + PATIENCE > *came;
                        prop_assert!(!(is_patient && *of == Class::Interactive), "batch work overtook");
                    }
                }
                prop_assert!(running.iter().map(|grant| grant.cores).sum::<usize>() <= cores, "{running:?}");
                let idle = running.is_empty() && !asks.is_empty();
                prop_assert!(!idle || asks.values().all(|(class, _)| *class == Class::Batch), "cores idle");
            }
            prop_assert!(asks.is_empty() && running.is_empty(), "{asks:?} wait for ever");
        }
    }
}
