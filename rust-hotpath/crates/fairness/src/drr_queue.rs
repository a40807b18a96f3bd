//! Deficit round robin over what work costs, in tokens where it has any: keys take turns, whatever each has queued.
//!
//! A key's turn gives it a quantum of cost for each unit of its weight; what is left of it is kept for its next turn as
//! long as it has work. So over any time in which two keys of the same weight both have work, what they were served differs
//! by at most one turn and two inputs of the greatest length.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use crate::Key;

/// Something that is queued, and what it takes of a turn.
pub trait Queued {
    /// In tokens, where it has any.
    fn cost(&self) -> usize;
}

/// How many of a key's oldest inputs are looked at for one of like length. Few, since a batch's inputs should be of about
/// the same age too, and the packed graph loses little on unlike ones.
const LOOK_AHEAD: usize = 16;

/// The queues of one class of work. Whatever leaves one, leaves it in logarithmic time.
#[derive(Debug)]
pub struct DrrQueue<T> {
    /// Tokens that a turn gives.
    quantum: usize,
    /// Tokens of all that is queued.
    cost: usize,
    lanes: HashMap<Key, Lane<T>>,
    /// The keys that have work, by their turns; the first one's is now.
    ring: BTreeMap<u64, Key>,
    turns: u64,
    pushed: u64,
}

/// What one key has queued.
#[derive(Debug)]
struct Lane<T> {
    /// By when they came.
    queue: BTreeMap<u64, T>,
    /// Its place in the ring.
    turn: u64,
    /// Quanta of its turn, as whoever came last said.
    weight: usize,
    /// Tokens that it may still take in this turn, or has saved from the last one.
    deficit: usize,
    in_turn: bool,
}

impl<T: Queued> DrrQueue<T> {
    /// Empty queues whose turns give `quantum` tokens.
    #[must_use]
    pub fn new(quantum: usize) -> Self {
        let (lanes, ring) = (HashMap::new(), BTreeMap::new());
        Self { quantum: quantum.max(1), cost: 0, lanes, ring, turns: 0, pushed: 0 }
    }

    /// Whether nothing is queued.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Tokens of all that is queued.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// Queues items of one key. The numbers are theirs, for [`DrrQueue::remove`].
    pub fn push(&mut self, key: &Key, items: impl IntoIterator<Item = T>) -> Range<u64> {
        let first = self.pushed;
        let mut items = items.into_iter().peekable();
        if items.peek().is_none() {
            return first..first;
        }
        let lane = self.lanes.entry(key.clone()).or_insert_with(|| {
            self.turns += 1;
            self.ring.insert(self.turns, key.clone());
            Lane { queue: BTreeMap::new(), turn: self.turns, weight: 1, deficit: 0, in_turn: false }
        });
        lane.weight = key.weight();
        for item in items {
            self.cost += item.cost();
            lane.queue.insert(self.pushed, item);
            self.pushed += 1;
        }
        first..self.pushed
    }

    /// Takes what is left of some numbers out of a key's queue.
    pub fn remove(&mut self, key: &str, numbers: Range<u64>) -> Vec<T> {
        let Some(lane) = self.lanes.get_mut(key) else { return Vec::new() };
        let numbers: Vec<u64> = lane.queue.range(numbers).map(|(number, _)| *number).collect();
        let removed: Vec<T> = numbers.iter().filter_map(|number| lane.queue.remove(number)).collect();
        self.cost -= removed.iter().map(Queued::cost).sum::<usize>();
        if lane.queue.is_empty() {
            self.leave(key);
        }
        removed
    }

    /// Takes the next batch: at most `batch_tokens` tokens, or one item that is longer. Empty only if nothing is queued.
    ///
    /// Whatever is taken of a key, its oldest is among it. Where that does not fit any more the batch ends, and the next
    /// one begins with it: so nothing is overtaken for long, and turns are never skipped.
    pub fn take(&mut self, batch_tokens: usize) -> Vec<T> {
        let mut batch = Vec::new();
        let mut room = batch_tokens;
        while let Some(key) = self.ring.values().next().cloned() {
            let lane = self.lanes.get_mut(&key).expect("a key in the ring has a lane");
            lane.begin_turn(self.quantum);
            lane.serve(&mut batch, &mut room);
            match lane.oldest() {
                None => self.leave(&key),
                Some(oldest) if oldest.cost() > lane.deficit => self.end_turn(&key),
                Some(_) => break, // its turn goes on with the next batch
            }
        }
        self.cost -= batch.iter().map(Queued::cost).sum::<usize>();
        batch
    }

    /// Takes the oldest item of the first key in turn whose oldest `may` go. A key whose oldest may not is passed over: it
    /// keeps its place and what it has saved.
    pub fn next_that(&mut self, mut may: impl FnMut(&Key, &T) -> bool) -> Option<T> {
        // What may go does not change meanwhile, so each key is asked once.
        let asked = self.ring.values().filter(|key| self.lanes[*key].oldest().is_some_and(|oldest| may(key, oldest)));
        let ready: Vec<Key> = asked.cloned().collect();
        if ready.is_empty() {
            return None;
        }
        loop {
            for key in &ready {
                let lane = self.lanes.get_mut(key).expect("a key in the ring has a lane");
                lane.begin_turn(self.quantum);
                if lane.oldest().is_some_and(|oldest| oldest.cost() > lane.deficit) {
                    self.end_turn(key);
                    continue;
                }
                let (_, item) = lane.queue.pop_first()?;
                lane.deficit -= item.cost();
                self.cost -= item.cost();
                match lane.oldest() {
                    None => self.leave(key),
                    Some(oldest) if oldest.cost() > lane.deficit => self.end_turn(key),
                    Some(_) => (),
                }
                return Some(item);
            }
        }
    }

    /// A key's turn comes again after everybody else's.
    fn end_turn(&mut self, key: &str) {
        let lane = self.lanes.get_mut(key).expect("a key in the ring has a lane");
        lane.in_turn = false;
        self.turns += 1;
        if let Some(key) = self.ring.remove(&std::mem::replace(&mut lane.turn, self.turns)) {
            self.ring.insert(self.turns, key);
        }
    }

    /// Forgets a key that has nothing queued.
    fn leave(&mut self, key: &str) {
        if let Some(lane) = self.lanes.remove(key) {
            self.ring.remove(&lane.turn);
        }
    }
}

impl<T: Queued> Lane<T> {
    fn oldest(&self) -> Option<&T> {
        self.queue.first_key_value().map(|(_, oldest)| oldest)
    }

    fn begin_turn(&mut self, quantum: usize) {
        if !self.in_turn {
            self.in_turn = true;
            self.deficit += quantum * self.weight;
        }
    }

    /// Moves the oldest item into the batch, and then those of the next few that are most like it in length.
    fn serve(&mut self, batch: &mut Vec<T>, room: &mut usize) {
        let Some((number, oldest)) = self.queue.first_key_value() else { return };
        let fits = batch.is_empty() || oldest.cost() <= *room;
        if !fits || oldest.cost() > self.deficit {
            return;
        }
        let like = oldest.cost();
        let mut next = Some(*number);
        while let Some(item) = next.and_then(|number| self.queue.remove(&number)) {
            self.deficit -= item.cost();
            *room = room.saturating_sub(item.cost());
            batch.push(item);
            next = self.most_like(like, self.deficit.min(*room));
        }
    }

    /// The item whose length is closest to `like` among the next few of at most `most` tokens; the older of two.
    fn most_like(&self, like: usize, most: usize) -> Option<u64> {
        let next_few = self.queue.iter().take(LOOK_AHEAD);
        let fitting = next_few.filter(|(_, item)| item.cost() <= most);
        fitting.min_by_key(|(_, item)| item.cost().abs_diff(like)).map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Queued for usize {
        fn cost(&self) -> usize {
            *self
        }
    }

    #[test]
    fn what_is_removed_is_not_taken_and_the_rest_keeps_its_order() {
        let (a, b): (Key, Key) = ("a".into(), "b".into());
        let mut queue = DrrQueue::new(10);
        queue.push(&a, [1, 2]);
        let middle = queue.push(&a, [3, 4, 5]);
        queue.push(&a, [6]);
        let whole = queue.push(&b, [7]);
        assert_eq!(queue.take(3), [1, 2]);
        assert_eq!(queue.remove("a", middle.clone()), [3, 4, 5]);
        assert_eq!(queue.remove("a", middle), []);
        assert_eq!(queue.remove("b", whole), [7]);
        assert_eq!((queue.cost(), queue.take(100)), (6, vec![6]));
        assert!(queue.is_empty() && queue.lanes.is_empty());
        assert_eq!(queue.push(&a, []), 7..7);
        assert!(queue.is_empty(), "nothing pushed is no work");
    }

    #[test]
    fn keys_are_served_by_their_weights() {
        let (light, heavy) = (Key::from("light"), Key::new("heavy", 3));
        let mut queue = DrrQueue::new(10);
        queue.push(&light, [4; 100]);
        queue.push(&heavy, [5; 100]);
        let served: Vec<usize> = (0..10).flat_map(|_| queue.take(40)).collect();
        let of = |length| served.iter().filter(|tokens| **tokens == length).sum::<usize>();
        assert!(of(5).abs_diff(3 * of(4)) <= 30, "{} and {}", of(5), of(4));
        queue.push(&Key::from("heavy"), [5]); // as its newest work says
        let served: Vec<usize> = (0..5).flat_map(|_| queue.take(40)).collect();
        let of = |length| served.iter().filter(|tokens| **tokens == length).sum::<usize>();
        assert!(of(5).abs_diff(of(4)) <= 30, "{} and {}", of(5), of(4));
    }

    #[test]
    fn who_may_not_go_is_passed_over_and_loses_nothing() {
        let (a, b): (Key, Key) = ("a".into(), "b".into());
        let mut queue = DrrQueue::new(10);
        queue.push(&a, [25, 1]);
        queue.push(&b, [4, 4, 4, 4]);
        assert_eq!(queue.next_that(|_, _| false), None);
        let mut without_a = || queue.next_that(|key, _| &**key != "a");
        assert_eq!([without_a(), without_a(), without_a()], [Some(4); 3]);
        assert_eq!(queue.next_that(|_, _| true), Some(4), "three turns of a's are not enough yet, b's was not over");
        assert_eq!(queue.next_that(|_, _| true), Some(25));
        assert_eq!(queue.next_that(|_, _| true), Some(1));
        assert_eq!((queue.next_that(|_, _| true), queue.cost()), (None, 0));
    }
}
