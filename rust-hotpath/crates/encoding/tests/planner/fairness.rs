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
        let batch = self.planner.next(Duration::ZERO).batch;
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
}
