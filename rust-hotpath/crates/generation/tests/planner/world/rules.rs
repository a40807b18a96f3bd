//! What may be in a run beside what holds of any, and what is kept for newcomers.

use std::collections::BTreeSet;

use hotpath_fairness::PATIENCE;
use hotpath_generation::planner::{Class, Run, SequenceId};

use super::{Known, World};

impl World {
    /// Interactive before batch, until batch work has waited for long: then it has its turn, whatever else waits.
    pub fn check_turn(&mut self, class: Class) {
        if !self.has_work(Class::Batch) {
            self.batch_waits = None;
            return assert_eq!(class, Class::Interactive);
        }
        let since = *self.batch_waits.get_or_insert(self.now);
        let is_its_turn = self.now >= since + PATIENCE || !self.has_work(Class::Interactive);
        assert_eq!(class == Class::Batch, is_its_turn, "batch work has waited since {since:?}");
        if is_its_turn {
            self.batch_waits = Some(self.now);
        }
    }

    /// A token of each that can go on, and as much of prompts as there is room for. `left` is what there is of these then.
    pub fn check_full_run(&mut self, run: &Run, can_go_on: &BTreeSet<SequenceId>, left: usize) {
        let steps: BTreeSet<SequenceId> = run.steps.iter().map(|step| step.sequence).collect();
        assert_eq!((steps.len(), &steps), (run.steps.len(), can_go_on), "who goes on");
        let tokens: usize = run.chunks.iter().map(|chunk| chunk.tokens).sum();
        let drafted: usize = run.steps.iter().map(|step| step.draft).sum();
        let most = self.limits.chunk_tokens;
        let least = if self.has_streams(run.class) { most.min(8) } else { most };
        let measures = !steps.is_empty() && *self.mixed.of(run.class) == 7;
        assert!(tokens >= least || left == 0 || measures, "room for {left} more tokens of prompts is left");
        assert!(!measures || tokens + drafted == 0, "nobody knows how long steps take alone");
        match self.mixed.of_mut(run.class) {
            mixed if tokens > 0 => *mixed += usize::from(!steps.is_empty()),
            mixed if drafted == 0 => *mixed = 0,
            _ => (),
        }
        self.waited.clear();
    }

    /// Steps or prompts, in turn where there are both; and of those that can go on nobody waits for more than everybody else's turn.
    pub fn check_brief_run(&mut self, run: &Run, can_go_on: &BTreeSet<SequenceId>, left: usize) {
        let steps: BTreeSet<SequenceId> = run.steps.iter().map(|step| step.sequence).collect();
        assert!(steps.len() == run.steps.len() && steps.is_subset(can_go_on), "who goes on");
        assert!(run.chunks.is_empty() != steps.is_empty(), "a brief run is of one kind");
        assert!(run.steps.iter().all(|step| step.draft == 0), "a draft is long");
        self.unread = if run.chunks.is_empty() && left > 0 { self.unread + 1 } else { 0 };
        assert!(self.unread < 2, "steps keep prompts waiting");
        self.waited.retain(|id, _| can_go_on.contains(id) && !steps.contains(id));
        for id in can_go_on.difference(&steps) {
            let waited = self.waited.entry(*id).or_default();
            *waited += 1;
            assert!(*waited <= 2 * self.limits.rows_per_class(), "{id:?} waits while others go on");
        }
    }

    pub fn left_to_read(&self, class: Class) -> usize {
        self.reading(class).map(Known::left_to_read).sum()
    }

    /// One who has nothing and asks for something small gets it as long as there is some of the reserve.
    pub fn check_reserve(&self) {
        let class = Class::Interactive;
        let of_class = |known: &Known| known.arrival.class == class;
        let (rows, tokens) = self.holds(|known| of_class(known) && self.is_small(known));
        let is_left = rows < self.limits.rows_per_class() - self.limits.batch
            && tokens + self.limits.small_tokens(class) <= self.limits.cache_tokens / 8;
        let mut keys = BTreeSet::new();
        for (id, known) in self.known.iter().filter(|(_, known)| !known.over && of_class(known)) {
            let is_oldest = keys.insert(known.arrival.key); // ids ascend with arrival, and what runs is older
            let must = is_oldest && is_left && self.is_small(known);
            assert!(!must || !self.planner.is_waiting(*id), "a newcomer waits for a reserve that is there");
        }
        let waits = self.known.iter().any(|(id, known)| of_class(known) && self.planner.is_waiting(*id));
        assert!(!waits || self.holds(|_| true).0 > 0, "room is kept for nobody");
    }
}
