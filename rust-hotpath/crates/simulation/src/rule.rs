//! Which replica a call goes to: the gateway's rule (`go-gateway/internal/engine/pick.go`, `home.go` and `work.go`), in another
//! language. Both are held to `tests/cases/routing/picks.json`; who changes one changes both.

use std::cmp::Ordering;

use serde::Deserialize;

use crate::random::{hash, mix};

/// A call is sent to so many replicas at most.
pub const MAX_ATTEMPTS: usize = 3;

/// A call's home is overloaded when it has more to do than so many times what the least loaded replica has, and so many tokens
/// besides.
const HOME_LOAD_FACTOR: i64 = 2;
const HOME_LOAD_TOKENS: i64 = 4096;

/// How much is to be said for sending a replica a call, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rank {
    /// It did so lately.
    Works,
    /// It says that it serves the model.
    Serves,
    /// It is connected, and has not said which models it has.
    MayServe,
    /// It has the model, which is loading or failed, or it is about to end.
    DoesNotServe,
    /// It is not connected, and had the model.
    IsLost,
    /// It has not got the model.
    Lacks,
    /// It is not connected, and nothing is known of it.
    IsUnreachable,
}

/// What a gateway knows of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Of its address: [`address_hash`].
    pub address: u64,
    /// How suitable it is.
    pub rank: Rank,
    /// Whether it failed too often.
    pub ejected: bool,
    /// Whether it has just refused the like for lack of room.
    pub full: bool,
    /// Tokens that it has to do.
    pub load: i64,
}

impl Candidate {
    fn usable(&self) -> bool {
        self.rank <= Rank::MayServe
    }

    fn suitability(&self, other: &Self) -> Ordering {
        let last = |candidate: &Self| (candidate.ejected, candidate.full);
        let by_last = if self.usable() && other.usable() { last(self).cmp(&last(other)) } else { Ordering::Equal };
        by_last.then(self.rank.cmp(&other.rank))
    }
}

/// The replicas to try for a call, in their order: the more suitable ones first, and of those that are equally so the less loaded
/// of two taken at random. `random` gives a number below its argument. A call with a home, which is not 0, goes there first if that
/// is among the most suitable.
pub fn order(candidates: &[Candidate], home: u64, mut random: impl FnMut(usize) -> usize) -> Vec<usize> {
    let mut left: Vec<usize> = (0..candidates.len()).collect();
    left.sort_by(|a, b| candidates[*a].suitability(&candidates[*b])); // it keeps the order of equals
    let mut best = Vec::with_capacity(MAX_ATTEMPTS);
    let mut left = left.as_slice();
    while let Some(first) = left.first().map(|first| &candidates[*first])
        && best.len() < MAX_ATTEMPTS
        && (best.is_empty() || first.usable())
    {
        let is_other = |place: &usize| first.suitability(&candidates[*place]) != Ordering::Equal;
        let end = left.iter().position(is_other).unwrap_or(left.len());
        let mut equals = left[..end].to_vec();
        left = &left[end..];
        if home != 0 && best.is_empty() && equals.len() > 1 && first.usable() {
            let place = home_for(home, candidates, &equals);
            best.push(equals.remove(place));
        }
        while !equals.is_empty() && best.len() < MAX_ATTEMPTS {
            let place = less_loaded(candidates, &equals, &mut random);
            best.push(equals.remove(place));
        }
    }
    best
}

/// Which of two taken at random has less to do.
fn less_loaded(candidates: &[Candidate], equals: &[usize], random: &mut impl FnMut(usize) -> usize) -> usize {
    if equals.len() == 1 {
        return 0;
    }
    let (first, mut second) = (random(equals.len()), random(equals.len() - 1));
    if second >= first {
        second += 1;
    }
    let load = |place: usize| candidates[equals[place]].load;
    if load(second) < load(first) { second } else { first }
}

/// Which of some replicas a call belongs on: the first by rendezvous hashing (Thaler and Ravishankar 1998) that is not overloaded.
fn home_for(home: u64, candidates: &[Candidate], equals: &[usize]) -> usize {
    let load = |place: usize| candidates[equals[place]].load;
    let least = (0..equals.len()).map(load).min().unwrap_or(0);
    let most = least * HOME_LOAD_FACTOR + HOME_LOAD_TOKENS;
    let rendezvous = |place: &usize| mix(candidates[equals[*place]].address ^ home);
    (0..equals.len()).filter(|place| load(*place) <= most).max_by_key(rendezvous).unwrap_or(0)
}

/// What of an address homes are found by.
#[must_use]
pub fn address_hash(address: &str) -> u64 {
    hash(address.as_bytes())
}

/// How much a replica has to do, in tokens, as a gateway knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// What this gateway has outstanding there.
    tokens: i64,
    /// What the replica last said that it has.
    told: i64,
    /// What `tokens` was then.
    tokens_then: i64,
}

impl Work {
    /// A call of so many tokens begins.
    pub fn begin(&mut self, tokens: i64) {
        self.tokens += tokens;
    }

    /// It is over.
    pub fn end(&mut self, tokens: i64) {
        self.tokens -= tokens;
    }

    /// The replica says how much it has to do.
    pub fn tell(&mut self, tokens: i64) {
        (self.told, self.tokens_then) = (tokens, self.tokens);
    }

    /// Nothing is told any longer.
    pub fn forget(&mut self) {
        (self.told, self.tokens_then) = (0, 0);
    }

    /// Tokens that there are to do.
    #[must_use]
    pub fn load(&self) -> i64 {
        self.tokens.max(self.told + self.tokens - self.tokens_then)
    }
}
