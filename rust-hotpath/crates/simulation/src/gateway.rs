//! A gateway: what it knows of each replica, and what follows from that. The rules and numbers are those of
//! `go-gateway/internal/engine`; of its clients' limits and of HTTP there is nothing here.

use std::collections::HashMap;

use hotpath_fairness::Class;

use crate::{
    Time,
    random::Random,
    rule::{self, Candidate, MAX_ATTEMPTS, Rank, Work},
    scenario::Policy,
};

/// After so many failures of its own in a row a replica is ejected, at most 1 of so many at a time, for so long.
const FAILURES_TO_EJECT: u32 = 5;
const EJECTABLE_OF: usize = 2;
const FIRST_EJECTION: Time = Time::from_secs(1);
const LONGEST_EJECTION: Time = Time::from_mins(1);

/// What a refusal for lack of room stands for: a share of the time that what waits takes, and no longer than this.
const FULL_SHARE: u32 = 16;
const LONGEST_FULL: Time = Time::from_millis(250);

/// Calls that may be made again, of all; and in any case so many a second, and at once.
const RETRY_SHARE: f64 = 0.1;
const RETRIES_PER_SECOND: f64 = 2.0;
const RETRY_BURST: f64 = 64.0;

/// A gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub replicas: Vec<Known>,
    policy: Policy,
    random: Random,
    /// Whose turn it is, where they have turns.
    turn: usize,
    spent: f64,
    touched: Time,
}

/// What it knows of a replica.
#[derive(Debug)]
pub(crate) struct Known {
    address: u64,
    pub work: Work,
    pub connected: bool,
    pub draining: bool,
    ejection: Ejection,
    full: HashMap<(usize, Class), Refusal>,
}

#[derive(Debug, Default)]
struct Ejection {
    failures: u32,
    out: bool,
    until: Time,
    times: u32,
    returned: Time,
}

#[derive(Debug)]
struct Refusal {
    tokens: i64,
    until: Time,
}

/// A call, as far as a gateway asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub tenant: usize,
    pub class: Class,
    pub tokens: i64,
    /// 0 for none.
    pub home: u64,
}

impl Gateway {
    pub fn new(seed: u64, number: u64, policy: Policy, replicas: usize) -> Self {
        let known = |replica: usize| Known {
            address: rule::address_hash(&format!("10.0.{}.{}:50051", replica / 256, replica % 256)),
            work: Work::default(),
            connected: true,
            draining: false,
            ejection: Ejection::default(),
            full: HashMap::new(),
        };
        Self {
            replicas: (0..replicas).map(known).collect(),
            policy,
            random: Random::new(seed, "gateway", number),
            turn: 0,
            spent: 0.0,
            touched: Time::ZERO,
        }
    }

    /// The replicas to try for a call; `None` where each would refuse it for lack of room, as far as is known without asking.
    pub fn route(&mut self, now: Time, asked: &Asked) -> Option<Vec<usize>> {
        self.spent = (self.spent - RETRY_SHARE).max(0.0);
        let candidates: Vec<Candidate> = self.replicas.iter().map(|known| known.candidate(now, asked)).collect();
        let Self { policy, random, turn, .. } = self;
        let order = match policy {
            Policy::Affinity => rule::order(&candidates, asked.home, |count| random.below(count)),
            Policy::LeastOfTwo => rule::order(&candidates, 0, |count| random.below(count)),
            Policy::RoundRobin => {
                *turn += 1;
                in_turn(&candidates, *turn - 1)
            }
            Policy::Random => in_turn(&candidates, random.below(usize::MAX)),
        };
        let first = order.first()?;
        (!self.replicas[*first].refuses(now, asked)).then_some(order)
    }

    /// Whether a call may be made again.
    pub fn may_retry(&mut self, now: Time) -> bool {
        self.spent = (self.spent - RETRIES_PER_SECOND * (now.saturating_sub(self.touched)).as_secs_f64()).max(0.0);
        self.touched = now;
        if self.spent > RETRY_BURST - 1.0 {
            return false;
        }
        self.spent += 1.0;
        true
    }

    /// A call succeeded.
    pub fn succeeded(&mut self, replica: usize) {
        self.replicas[replica].ejection.failures = 0;
    }

    /// A call was refused for lack of room; what its key has waiting takes so long.
    pub fn was_full(&mut self, now: Time, replica: usize, asked: &Asked, waiting: Time) {
        let stands = (waiting / FULL_SHARE).min(LONGEST_FULL);
        let full = &mut self.replicas[replica].full;
        let lane = (asked.tenant, asked.class);
        let says_more = |known: &Refusal| known.tokens < asked.tokens && now < known.until;
        if !stands.is_zero() && !full.get(&lane).is_some_and(says_more) {
            full.insert(lane, Refusal { tokens: asked.tokens, until: now + stands });
        }
    }

    /// A call failed, and the replica is to blame.
    pub fn failed(&mut self, now: Time, replica: usize) {
        let out = 1 + self.replicas.iter().filter(|known| known.ejection.out).count();
        let is_allowed = out * EJECTABLE_OF <= self.replicas.len();
        let ejection = &mut self.replicas[replica].ejection;
        ejection.failures += 1;
        if ejection.failures >= FAILURES_TO_EJECT && !ejection.out && is_allowed {
            if now.saturating_sub(ejection.returned) > LONGEST_EJECTION {
                ejection.times = 0;
            }
            ejection.out = true;
            ejection.until = now + (FIRST_EJECTION * 2_u32.pow(ejection.times.min(16))).min(LONGEST_EJECTION);
            ejection.times += 1;
        }
    }

    /// Tries those whose ejection is over. Canaries succeed here: what fails is calls.
    pub fn look(&mut self, now: Time) {
        for known in &mut self.replicas {
            let ejection = &mut known.ejection;
            if ejection.out && now >= ejection.until && known.connected && !known.draining {
                (ejection.out, ejection.failures, ejection.returned) = (false, 0, now);
            }
        }
    }

    /// The connection to a replica ended.
    pub fn disconnected(&mut self, replica: usize) {
        let known = &mut self.replicas[replica];
        known.connected = false;
        known.work.forget(); // what answers next may be another process
        known.full.clear();
    }

    /// There is one again, and its models work.
    pub fn connected(&mut self, replica: usize) {
        let known = &mut self.replicas[replica];
        (known.connected, known.draining) = (true, false);
    }
}

impl Known {
    fn candidate(&self, now: Time, asked: &Asked) -> Candidate {
        let rank = match (self.connected, self.draining) {
            (false, _) => Rank::IsLost,
            (true, true) => Rank::DoesNotServe,
            (true, false) => Rank::Works,
        };
        let Self { address, ejection, work, .. } = self;
        Candidate { address: *address, rank, ejected: ejection.out, full: self.refuses(now, asked), load: work.load() }
    }

    fn refuses(&self, now: Time, asked: &Asked) -> bool {
        if self.full.is_empty() {
            return false;
        }
        let known = self.full.get(&(asked.tenant, asked.class));
        known.is_some_and(|known| asked.tokens >= known.tokens && now < known.until)
    }
}

/// Of those that serve, the one whose turn it is, and those after it. What is ejected has none unless all are.
fn in_turn(candidates: &[Candidate], turn: usize) -> Vec<usize> {
    let all = 0..candidates.len();
    let works = |place: &usize| candidates[*place].rank == Rank::Works;
    let mut usable: Vec<usize> = all.clone().filter(|place| works(place) && !candidates[*place].ejected).collect();
    if usable.is_empty() {
        usable = all.clone().filter(works).collect();
    }
    if usable.is_empty() {
        usable = all.collect();
    }
    let start = turn % usable.len().max(1);
    usable.rotate_left(start);
    usable.truncate(MAX_ATTEMPTS);
    usable
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_secs(100);
    const ASKED: Asked = Asked { tenant: 0, class: Class::Interactive, tokens: 100, home: 0 };

    #[test]
    fn what_fails_is_left_alone_and_tried_again() {
        let mut gateway = Gateway::new(1, 0, Policy::LeastOfTwo, 4);
        let first = |gateway: &mut Gateway, now| gateway.route(now, &ASKED).unwrap()[0];
        (0..FAILURES_TO_EJECT).for_each(|_| gateway.failed(NOW, 2));
        assert!((0..100).all(|_| first(&mut gateway, NOW) != 2));
        gateway.look(NOW + FIRST_EJECTION / 2);
        assert!((0..100).all(|_| first(&mut gateway, NOW) != 2));
        gateway.look(NOW + FIRST_EJECTION);
        assert!((0..100).any(|_| first(&mut gateway, NOW) == 2));
        let again = NOW + FIRST_EJECTION * 2;
        (0..FAILURES_TO_EJECT).for_each(|_| gateway.failed(again, 2));
        gateway.look(again + FIRST_EJECTION);
        assert!((0..100).all(|_| first(&mut gateway, again) != 2), "twice as long the next time");
    }

    #[test]
    fn half_of_the_replicas_are_ejected_at_most() {
        let mut gateway = Gateway::new(1, 0, Policy::LeastOfTwo, 4);
        (0..4).for_each(|replica| (0..20).for_each(|_| gateway.failed(NOW, replica)));
        assert_eq!(gateway.replicas.iter().filter(|known| known.ejection.out).count(), 2);
        let mut alone = Gateway::new(1, 0, Policy::LeastOfTwo, 1);
        (0..20).for_each(|_| alone.failed(NOW, 0));
        assert!(!alone.replicas[0].ejection.out);
    }

    #[test]
    fn what_was_refused_is_not_asked_for_again_at_once() {
        let mut gateway = Gateway::new(1, 0, Policy::LeastOfTwo, 1);
        gateway.was_full(NOW, 0, &ASKED, Time::from_secs(1));
        let stands = Time::from_secs(1) / FULL_SHARE;
        assert_eq!(gateway.route(NOW, &ASKED), None);
        assert_eq!(gateway.route(NOW, &Asked { tokens: 99, ..ASKED }), Some(vec![0]), "a smaller one may find room");
        assert_eq!(gateway.route(NOW, &Asked { tenant: 1, ..ASKED }), Some(vec![0]));
        assert_eq!(gateway.route(NOW + stands, &ASKED), Some(vec![0]));
        gateway.was_full(NOW, 0, &ASKED, Time::from_mins(1));
        assert_eq!(gateway.route(NOW + LONGEST_FULL, &ASKED), Some(vec![0]));
    }

    #[test]
    fn retries_are_a_share_of_the_calls() {
        let mut gateway = Gateway::new(1, 0, Policy::LeastOfTwo, 2);
        let burst = (0..1000).filter(|_| gateway.may_retry(NOW)).count();
        assert_eq!(burst, 64);
        (0..100).for_each(|_| _ = gateway.route(NOW, &ASKED));
        assert_eq!((0..1000).filter(|_| gateway.may_retry(NOW)).count(), 10);
        assert_eq!((0..1000).filter(|_| gateway.may_retry(NOW + Time::from_secs(3))).count(), 6);
    }

    #[test]
    fn those_that_have_turns_are_those_that_serve() {
        let mut gateway = Gateway::new(1, 0, Policy::RoundRobin, 3);
        gateway.replicas[1].draining = true;
        let firsts: Vec<usize> = (0..4).map(|_| gateway.route(NOW, &ASKED).unwrap()[0]).collect();
        assert_eq!(firsts, [0, 2, 0, 2]);
    }
}
