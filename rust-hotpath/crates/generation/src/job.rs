//! A request on its way: its continuations, its reader, and what it has taken so far.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use tokio::sync::mpsc;

use crate::{
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
    events: mpsc::Sender<Event>,
    /// Whether the loop waits for the reader.
    pub paused: Arc<AtomicBool>,
    queued: Instant,
    pub began: Option<Instant>,
    pub first_token: Option<Instant>,
    pub cached_tokens: usize,
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
            events,
            paused,
            queued,
            began: None,
            first_token: None,
            cached_tokens: 0,
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
