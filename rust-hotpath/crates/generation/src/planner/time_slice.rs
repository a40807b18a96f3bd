//! What a time slice takes: so many steps, or so many tokens of a prompt, as ran in the time before. Which is found out: more after
//! runs that did, fewer after one that did not. So it is right for any processor, model and length of texts. Where even a few rows
//! take longer, it is these: most of such a run is the reading of weights, so fewer would take hardly less.

use std::{collections::BTreeMap, time::Duration};

use super::{Counts, SequenceId, Step};

/// Fewest steps, and fewest tokens of prompts.
const LEAST_STEPS: usize = 4;
const LEAST_TOKENS: usize = 8;

/// What runs of a time slice take, and whose turn is next.
#[derive(Debug)]
pub(super) struct SliceBudget {
    steps: Bound,
    tokens: Bound,
    /// When each continuation that can go on had its last step, or began to wait for its first, in runs.
    since: BTreeMap<SequenceId, u64>,
    runs: u64,
    /// Whether the last run was of steps.
    stepped: bool,
    /// What the run that was chosen last is to take, if it has a time slice.
    time: Option<Duration>,
}

/// How many of something run in a time.
#[derive(Debug)]
struct Bound {
    least: usize,
    most: usize,
}

impl Default for SliceBudget {
    fn default() -> Self {
        Self {
            steps: Bound::new(LEAST_STEPS),
            tokens: Bound::new(LEAST_TOKENS),
            since: BTreeMap::new(),
            runs: 0,
            stepped: false,
            time: None,
        }
    }
}

impl SliceBudget {
    /// Takes note of how long the run that is chosen now is to take. Gives the same.
    pub(super) fn begin(&mut self, time: Option<Duration>) -> Option<Duration> {
        self.time = time;
        time
    }

    /// Whether prompts have this run: where there are both, they and steps take turns.
    pub(super) fn is_of_prompts(&mut self, has_steps: bool, has_prompts: bool) -> bool {
        self.stepped = has_steps && !(has_prompts && self.stepped);
        !self.stepped
    }

    /// Most tokens of prompts, of at most so many.
    pub(super) fn tokens(&self, most: usize) -> usize {
        self.tokens.most.min(most)
    }

    /// As many steps as run in the time: those that have waited for longest.
    pub(super) fn steps(&mut self, mut all: Vec<Step>) -> Vec<Step> {
        self.runs += 1;
        let since = |step: &Step| (step.sequence, self.since.get(&step.sequence).copied().unwrap_or(self.runs));
        self.since = all.iter().map(since).collect();
        all.sort_unstable_by_key(|step| (self.since[&step.sequence], step.sequence));
        all.truncate(self.steps.most);
        self.since.extend(all.iter().map(|step| (step.sequence, self.runs)));
        all
    }

    /// Takes note of how long a run took. Gives whether it had a time slice.
    pub(super) fn note(&mut self, counts: Counts, took: Duration) -> bool {
        let Some(time) = self.time else { return false };
        self.tokens.note(counts.prompt_tokens, took <= time);
        self.steps.note(counts.steps, took <= time);
        true
    }
}

impl Bound {
    fn new(least: usize) -> Self {
        Self { least, most: least }
    }

    fn note(&mut self, count: usize, in_time: bool) {
        if count > 0 && !in_time {
            self.most = (count * 3 / 4).max(self.least);
        } else if count >= self.most {
            self.most = count + count / 8 + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_millis(5);

    #[test]
    fn a_brief_run_takes_about_the_time_that_it_may() {
        let mut slice = SliceBudget::default();
        slice.begin(Some(TIME));
        let (run, token) = (Duration::from_millis(2), Duration::from_micros(100)); // 30 tokens in five milliseconds
        let mut longest = 0;
        for round in 0..100 {
            let tokens = slice.tokens(512);
            longest = if round < 20 { 0 } else { longest.max(tokens) };
            let counts = Counts { prompt_tokens: tokens, ..Counts::default() };
            assert!(slice.note(counts, run + token * u32::try_from(tokens).unwrap()));
        }
        assert!((30..=34).contains(&longest), "{longest}");
        let slow = Counts { prompt_tokens: 8, ..Counts::default() };
        (0..100).for_each(|_| _ = slice.note(slow, 2 * TIME));
        assert_eq!((slice.tokens(512), slice.tokens(5)), (LEAST_TOKENS, 5), "it comes on, however slow");
        slice.begin(None);
        assert!(!slice.note(slow, TIME));
    }
}
