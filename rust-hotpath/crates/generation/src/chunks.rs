//! The runs that read a prompt, for whoever asks where the time before the first token went.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Most of them that are told apart. Those of a longer prompt are one together with the last.
const MAX: usize = 32;

/// The runs that have read a request's prompt so far. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Chunks(Arc<Mutex<Vec<ChunkRun>>>);

/// A run that read a part of a prompt, or several of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRun {
    /// When it began; of several, the first.
    pub began: Instant,
    /// How long it took; of several, all together.
    pub took: Duration,
    /// Tokens of the prompt that it read.
    pub tokens: usize,
    /// What else was in it: tokens of other prompts, and continuations that went on.
    pub others: usize,
    /// How many they are.
    pub runs: usize,
}

impl Chunks {
    /// Takes note of a run.
    pub(crate) fn note(&self, run: ChunkRun) {
        let mut runs = self.runs();
        let is_full = runs.len() == MAX;
        match runs.last_mut() {
            Some(last) if is_full => {
                last.took += run.took;
                last.tokens += run.tokens;
                last.others += run.others;
                last.runs += run.runs;
            }
            _ => runs.push(run),
        }
    }

    /// What they are so far, in order.
    #[must_use]
    pub fn so_far(&self) -> Vec<ChunkRun> {
        self.runs().clone()
    }

    fn runs(&self) -> MutexGuard<'_, Vec<ChunkRun>> {
        // What is done with the lock leaves the list whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_one_with_the_last() {
        let (chunks, began) = (Chunks::default(), Instant::now());
        let run = ChunkRun { began, took: Duration::from_millis(2), tokens: 8, others: 3, runs: 1 };
        for number in 0..100 {
            chunks.note(ChunkRun { began: began + Duration::from_millis(number), ..run });
        }
        let found = chunks.so_far();
        assert_eq!(found.len(), MAX);
        assert_eq!(found[..2], [run, ChunkRun { began: began + Duration::from_millis(1), ..run }]);
        let last = found[MAX - 1];
        assert_eq!((last.runs, last.tokens, last.others), (69, 69 * 8, 69 * 3));
        assert_eq!((last.began, last.took), (began + Duration::from_millis(31), Duration::from_millis(138)));
    }
}
