//! Deficit round robin over tokens: keys take turns, whatever each has queued.
//!
//! A key's turn gives it a quantum of tokens; what is left of it is kept for its next turn as long as it has work. So over
//! any time in which two keys both have work, what they were served differs by at most one quantum and two inputs of the
//! greatest length.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// Something that is queued, and what it takes of a turn.
pub trait Queued {
    /// Its tokens.
    fn tokens(&self) -> usize;
}

/// How many of a key's oldest inputs are looked at for one of like length. Few, since a batch's inputs should be of about
/// the same age too, and the packed graph loses little on unlike ones.
const LOOK_AHEAD: usize = 16;

/// The queues of one class of work.
#[derive(Debug)]
pub struct Turns<T> {
    /// Tokens that a turn gives.
    quantum: usize,
    /// Tokens of all that is queued.
    tokens: usize,
    lanes: HashMap<Arc<str>, Lane<T>>,
    /// The keys that have work; the first one's turn is now.
    ring: VecDeque<Arc<str>>,
}

/// What one key has queued.
#[derive(Debug)]
struct Lane<T> {
    /// Oldest first.
    queue: VecDeque<T>,
    /// Tokens of all that is queued.
    tokens: usize,
    /// Tokens that it may still take in this turn, or has saved from the last one.
    deficit: usize,
    in_turn: bool,
}

impl<T: Queued> Turns<T> {
    /// Empty queues whose turns give `quantum` tokens.
    #[must_use]
    pub fn new(quantum: usize) -> Self {
        Self { quantum: quantum.max(1), tokens: 0, lanes: HashMap::new(), ring: VecDeque::new() }
    }

    /// Whether nothing is queued.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Tokens of all that is queued.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Tokens that a key has queued.
    #[must_use]
    pub fn tokens_of(&self, key: &str) -> usize {
        self.lanes.get(key).map_or(0, |lane| lane.tokens)
    }

    /// Queues items of one key.
    pub fn push(&mut self, key: &Arc<str>, items: impl IntoIterator<Item = T>) {
        let lane = self.lanes.entry(key.clone()).or_insert_with(|| {
            self.ring.push_back(key.clone());
            Lane { queue: VecDeque::new(), tokens: 0, deficit: 0, in_turn: false }
        });
        for item in items {
            self.tokens += item.tokens();
            lane.tokens += item.tokens();
            lane.queue.push_back(item);
        }
    }

    /// Takes some items out of a key's queue.
    pub fn remove(&mut self, key: &Arc<str>, which: impl Fn(&T) -> bool) -> Vec<T> {
        let Some(lane) = self.lanes.get_mut(key) else { return Vec::new() };
        let (removed, kept): (Vec<T>, Vec<T>) = lane.queue.drain(..).partition(which);
        lane.queue = kept.into();
        let tokens = removed.iter().map(Queued::tokens).sum::<usize>();
        self.tokens -= tokens;
        lane.tokens -= tokens;
        if lane.queue.is_empty() {
            self.lanes.remove(key);
            self.ring.retain(|other| other != key);
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
        while let Some(key) = self.ring.front() {
            let lane = self.lanes.get_mut(key).expect("a key in the ring has a lane");
            lane.begin_turn(self.quantum);
            lane.serve(&mut batch, &mut room);
            match lane.queue.front() {
                None => {
                    self.lanes.remove(key);
                    self.ring.pop_front();
                }
                Some(oldest) if oldest.tokens() > lane.deficit => {
                    lane.in_turn = false;
                    self.ring.rotate_left(1);
                }
                Some(_) => break, // its turn goes on with the next batch
            }
        }
        self.tokens -= batch.iter().map(Queued::tokens).sum::<usize>();
        batch
    }
}

impl<T: Queued> Lane<T> {
    fn begin_turn(&mut self, quantum: usize) {
        if !self.in_turn {
            self.in_turn = true;
            self.deficit += quantum;
        }
    }

    /// Moves the oldest item into the batch, and then those of the next few that are most like it in length.
    fn serve(&mut self, batch: &mut Vec<T>, room: &mut usize) {
        let Some(oldest) = self.queue.front() else { return };
        let fits = batch.is_empty() || oldest.tokens() <= *room;
        if !fits || oldest.tokens() > self.deficit {
            return;
        }
        let like = oldest.tokens();
        let mut next = Some(0);
        while let Some(item) = next.and_then(|place| self.queue.remove(place)) {
            self.deficit -= item.tokens();
            self.tokens -= item.tokens();
            *room = room.saturating_sub(item.tokens());
            batch.push(item);
            next = self.most_like(like, self.deficit.min(*room));
        }
    }

    /// Place of the item whose length is closest to `like` among the next few of at most `most` tokens; the older of two.
    fn most_like(&self, like: usize, most: usize) -> Option<usize> {
        let next_few = self.queue.iter().take(LOOK_AHEAD).enumerate();
        let fitting = next_few.filter(|(_, item)| item.tokens() <= most);
        fitting.min_by_key(|(_, item)| item.tokens().abs_diff(like)).map(|(place, _)| place)
    }
}
