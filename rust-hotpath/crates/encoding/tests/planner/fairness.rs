//! Keys take turns by tokens: what two keys that both have work were served differs by a stated constant at most.

use std::{collections::BTreeMap, time::Duration};

use hotpath_encoding::planner::{Limits, Planner, RequestId};
use hotpath_fairness::Class;
use proptest::prelude::*;

use crate::{LIMITS, world::request};

const LONGEST: usize = 250;

/// One quantum, which is a batch's tokens, and two inputs of the greatest length.
const BOUND: usize = LIMITS.batch_tokens + 2 * LONGEST;

/// Keeps a planner's keys supplied and counts what each is served.
struct Contest {
    planner: Planner,
    owner: BTreeMap<RequestId, usize>,
    served: Vec<usize>,
}

impl Contest {
    fn new(keys: usize) -> Self {
        let limits = Limits { max_queued_tokens: usize::MAX, ..LIMITS };
        Self { planner: Planner::new(limits), owner: BTreeMap::new(), served: vec![0; keys] }
    }

    fn submit(&mut self, key: usize, inputs: &[usize]) {
        let request = request(Class::Interactive, &format!("key-{key}"), inputs);
        let id = self.planner.submit(Duration::ZERO, request).unwrap();
        self.owner.insert(id, key);
    }

    /// Runs one batch and says what it took of each key.
    fn step(&mut self) {
        let batch = self.planner.next(Duration::ZERO, None).batch;
        for item in &batch {
            self.served[self.owner[&item.request]] += item.tokens;
        }
        self.planner.finished(batch.len(), 0, Duration::ZERO);
    }

    fn spread(&self) -> usize {
        self.served.iter().max().unwrap() - self.served.iter().min().unwrap()
    }
}

proptest! {
    #[test]
    fn backlogged_keys_are_served_alike(
        lengths in prop::collection::vec(prop::collection::vec(1..=LONGEST, 200), 2..5),
        as_one_request in any::<bool>(),
    ) {
        let mut contest = Contest::new(lengths.len());
        for (key, lengths) in lengths.iter().enumerate() {
            // One key may come with one huge request, another with hundreds of small ones: it must not matter.
            let size = if as_one_request && key == 0 { lengths.len() } else { 1 };
            lengths.chunks(size).for_each(|inputs| contest.submit(key, inputs));
        }
        let least: usize = lengths.iter().map(|lengths| lengths.iter().sum()).min().unwrap();
        while contest.served.iter().max().unwrap() + LONGEST < least {
            contest.step();
            prop_assert!(contest.spread() <= BOUND, "{:?}", contest.served);
        }
    }

    /// A newcomer with one input waits for one turn of each other key at most, however much they have queued.
    #[test]
    fn a_newcomer_is_not_starved(
        others in prop::collection::vec(prop::collection::vec(1..=LONGEST, 100), 1..5),
        batches_before in 0..20_usize,
        length in 1..=LONGEST,
    ) {
        let mut contest = Contest::new(others.len() + 1);
        others.iter().enumerate().for_each(|(key, lengths)| contest.submit(key, lengths));
        (0..batches_before).for_each(|_| contest.step());
        let before: usize = contest.served.iter().sum();
        let newcomer = others.len();
        contest.submit(newcomer, &[length]);
        // A turn is a quantum and what was saved; an input above a quantum takes as many rounds as it has quanta.
        let rounds = length.div_ceil(LIMITS.batch_tokens);
        let most = others.len() * (rounds * LIMITS.batch_tokens + LONGEST) + length + LIMITS.batch_tokens;
        while contest.served[newcomer] == 0 {
            contest.step();
            let meanwhile = contest.served.iter().sum::<usize>() - before;
            prop_assert!(meanwhile <= most, "{meanwhile} tokens went first, {most} may");
        }
    }

    /// Whatever others have sent and go on to send, of its class or a lower one, a small request of a key that has nothing
    /// is admitted at once, and runs after one turn of each other key at most.
    #[test]
    fn a_small_request_of_a_key_that_has_nothing_is_served_whatever_others_send(
        before in prop::collection::vec((asks(), 0..3_usize), 1..40),
        meanwhile in prop::collection::vec(asks(), 1..20),
        class in prop_oneof![Just(Class::Interactive), Just(Class::Batch)],
        length in 1..=LIMITS.batch_tokens,
    ) {
        let mut planner = Planner::new(LIMITS);
        let decide = |planner: &mut Planner| {
            let batch = planner.next(Duration::ZERO, None).batch;
            let tokens = batch.iter().map(|item| item.tokens).sum::<usize>();
            if tokens > 0 {
                planner.finished(batch.len(), tokens, Duration::from_millis(1));
            }
            tokens
        };
        // Interactive work goes first, so for one of batch work it counts what other batch work is there.
        let send = |planner: &mut Planner, (of, key, inputs): &(Class, usize, Vec<usize>)| {
            let of = if class == Class::Batch { Class::Batch } else { *of };
            let _ = planner.submit(Duration::ZERO, request(of, &format!("key-{key}"), inputs));
        };
        for (ask, decisions) in &before {
            send(&mut planner, ask);
            (0..*decisions).for_each(|_| _ = decide(&mut planner));
        }
        let newcomer = planner.submit(Duration::ZERO, request(class, "newcomer", &[length]));
        let newcomer = newcomer.expect("one that has nothing is always let in");
        let (mut others, mut served) = (meanwhile.iter().cycle(), 0);
        while planner.is_waiting(newcomer) {
            send(&mut planner, others.next().unwrap());
            served += decide(&mut planner);
            let most = OTHERS * (LIMITS.batch_tokens + LONGEST) + length + LIMITS.batch_tokens;
            prop_assert!(served <= most, "{served} tokens went first, {most} may");
        }
    }
}

const OTHERS: usize = 4;

/// Up to many times what may wait.
fn asks() -> impl Strategy<Value = (Class, usize, Vec<usize>)> {
    let class = prop_oneof![Just(Class::Interactive), Just(Class::Batch)];
    let count = prop_oneof![3 => 1..10_usize, 1 => 50..200_usize];
    (class, 0..OTHERS, 1..=LONGEST, count).prop_map(|(class, key, length, count)| (class, key, vec![length; count]))
}
