//! A request on its way: its continuations, its reader, and what it has taken so far.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use tokio::sync::mpsc;

use crate::{
    chunks::Chunks,
    draft::Drafter,
    sequence::{Sequence, SequenceParams},
    work::{Done, Event, Started},
};

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Job {
    pub prompt: Arc<[u32]>,
    pub params: SequenceParams,
    pub choices: usize,
    /// Made when the prompt has been read.
    pub sequences: Vec<Sequence>,
    /// Of the prompt, for choices that begin to draft.
    drafter: Option<Drafter>,
    events: mpsc::Sender<Event>,
    /// Whether the loop waits for the reader.
    pub paused: Arc<AtomicBool>,
    queued: Instant,
    pub began: Option<Instant>,
    pub first_token: Option<Instant>,
    pub cached_tokens: usize,
    /// The runs that read the prompt.
    pub chunks: Chunks,
}

impl Job {
    pub(crate) fn new(
        prompt: Arc<[u32]>,
        params: SequenceParams,
        choices: usize,
        events: mpsc::Sender<Event>,
        paused: Arc<AtomicBool>,
    ) -> Self {
        let (queued, sequences) = (Instant::now(), Vec::new());
        Self {
            prompt,
            params,
            choices,
            sequences,
            drafter: None,
            events,
            paused,
            queued,
            began: None,
            first_token: None,
            cached_tokens: 0,
            chunks: Chunks::default(),
        }
    }

    /// Takes note that the prompt is being read, but for what is reused of another.
    pub(crate) fn start(&mut self, cached_tokens: usize) {
        (self.began, self.cached_tokens) = (Some(Instant::now()), cached_tokens);
        self.tell(Event::Started(Started { prompt_tokens: self.prompt.len(), cached_tokens }));
    }

    pub(crate) fn tell(&self, event: Event) {
        // There is room: a request is paused before its last place is taken. The reader may be gone, which is its right.
        let _ = self.events.try_send(event);
    }

    /// Whether the reader leaves room for one more step and the end.
    pub(crate) fn has_room(&self) -> bool {
        self.events.capacity() > self.choices
    }

    /// Tokens that its reader leaves room for in a run, for each of its continuations.
    pub(crate) fn room(&self) -> usize {
        self.events.capacity().saturating_sub(1) / self.choices
    }

    /// At most so many tokens that may come next in a continuation, as far as its reader leaves room for them. What that takes
    /// of the prompt is made with the first one.
    pub(crate) fn draft(&mut self, choice: usize, most: usize) -> Vec<u32> {
        let most = most.min(self.room().saturating_sub(1));
        if most == 0 {
            return Vec::new();
        }
        let Self { prompt, params, choices, sequences, drafter, .. } = self;
        let of_prompt = || Drafter::new(prompt, params.draft_tokens);
        sequences[choice].draft(most, || match choices {
            1 => of_prompt(),
            _ => drafter.get_or_insert_with(of_prompt).clone(),
        })
    }

    /// Whether its prompt was read and all its continuations have ended.
    pub(crate) fn is_done(&self) -> bool {
        !self.sequences.is_empty() && self.sequences.iter().all(Sequence::is_finished)
    }

    pub(crate) fn done(&self) -> Done {
        let now = Instant::now();
        let began = self.began.unwrap_or(now);
        let first_token = self.first_token.unwrap_or(now);
        Done {
            prompt_tokens: self.prompt.len(),
            cached_tokens: self.cached_tokens,
            completion_tokens: self.sequences.iter().map(Sequence::tokens).sum(),
            queue: began - self.queued,
            prefill: first_token - began,
            decode: now - first_token,
        }
    }
}

#[cfg(test)]
mod tests {
    use hotpath_fairness::Class;
    use hotpath_testing::tiny_decoder;
    use hotpath_text::{Tokenizer, Vocabulary};

    use super::*;
    use crate::{sampler::Sampling, work::Stop};

    #[test]
    fn a_prompt_is_looked_through_once_and_not_before_a_draft() {
        let bundle = tiny_decoder();
        let vocabulary = Arc::new(Vocabulary::load(&bundle, &Tokenizer::load(&bundle).unwrap()).unwrap());
        let params = SequenceParams {
            sampling: Arc::new(Sampling::default()),
            stop: Stop::default(),
            stop_ids: Arc::from([]),
            max_tokens: 9,
            draft_tokens: 8,
            format: None,
            class: Class::Interactive,
            key: "a".into(),
        };
        let (prompt, paused) = (Arc::from([5, 6, 7, 5, 6]), Arc::new(AtomicBool::new(false)));
        let (events, _read) = mpsc::channel(16);
        let mut job = Job::new(prompt, params, 2, events, paused);
        job.sequences =
            (0..2).map(|choice| Sequence::new(&job.params, choice, &job.prompt, vocabulary.clone())).collect();
        assert_eq!(job.draft(0, 0), [0_u32; 0]);
        assert!(job.drafter.is_none(), "nothing is drafted");
        assert_eq!(job.draft(0, 4), [7]);
        assert!(job.drafter.is_some(), "for the other choice");
        let mut logits = vec![0.0; 16];
        logits[7] = 1.0;
        assert!(job.sequences[1].advance(&logits).unwrap().is_some());
        assert_eq!(job.draft(1, 4), [5], "behind what it said before it drafted");
        assert_eq!(job.draft(0, 4), [7]);
    }
}
