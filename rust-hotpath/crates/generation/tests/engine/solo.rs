//! What a continuation says alone: a bare loop over a session, with nothing of the engine but its sampler and its text.

use std::sync::Arc;

use hotpath_bundle::Bundle;
use hotpath_generation::{Limits, Sampler, Sampling, Settings};
use hotpath_runtime::{Decode, Decoder, Row, Threads};
use hotpath_testing::library;
use hotpath_text::{Detokenizer, Tokenizer, Vocabulary};

/// A model's parts.
pub struct Model {
    pub bundle: Bundle,
    pub vocabulary: Arc<Vocabulary>,
    pub chunk_tokens: usize,
    pub context_tokens: usize,
}

/// What was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    pub tokens: Vec<u32>,
    pub text: String,
}

impl Model {
    pub fn new(bundle: Bundle, chunk_tokens: usize, context_tokens: usize) -> Self {
        let tokenizer = Tokenizer::load(&bundle).unwrap();
        let vocabulary = Arc::new(Vocabulary::load(&bundle, &tokenizer).unwrap());
        Self { bundle, vocabulary, chunk_tokens, context_tokens }
    }

    pub fn session(&self, slots: usize) -> Decoder {
        let graph = &self.bundle.manifest.graphs[0];
        Decoder::load(&library(), &self.bundle, graph, Threads::CALLER, slots, self.context_tokens).unwrap()
    }

    /// Settings of an engine on this model; `tokens` is the cache's size.
    pub fn settings(&self, batch: usize, tokens: usize, buffer: usize) -> Settings {
        let limits = Limits {
            batch,
            cache_tokens: tokens,
            granule: 16,
            context_tokens: self.context_tokens,
            chunk_tokens: self.chunk_tokens,
            draft_tokens: 8,
            reuse_tokens: 4,
            max_queued_tokens: 1_000_000,
            max_wait: std::time::Duration::from_mins(10),
            max_parked: std::time::Duration::from_mins(10),
            share_prefixes: false,
        };
        let stop_ids = self.bundle.manifest.generation().unwrap().stop_token_ids.clone();
        let cores = std::sync::Arc::new(hotpath_cores::Cores::new(1));
        Settings { limits, stop_ids, vocabulary: self.vocabulary.clone(), buffer, cores, threads: 1 }
    }

    /// Continues a prompt alone, in slot 0. Ends with the first of `stop_ids`, which is among the tokens.
    pub fn solo(
        &self,
        session: &mut Decoder,
        prompt: &[u32],
        sampling: &Sampling,
        choice: usize,
        max_tokens: usize,
        stop_ids: &[u32],
    ) -> Text {
        let mut sampler = Sampler::new(Arc::new(sampling.clone()), choice as u64, prompt, stop_ids.into());
        let mut detokenizer = Detokenizer::new(self.vocabulary.clone());
        let row = |(position, token): (usize, &u32)| Row { token: *token, slot: 0, position };
        let rows: Vec<Row> = prompt.iter().enumerate().map(row).collect();
        let mut logits = session.run(&rows, &[rows.len() - 1]).unwrap().to_vec();
        let (mut tokens, mut text) = (Vec::new(), String::new());
        loop {
            let token = sampler.choose(&logits, None).unwrap().token;
            tokens.push(token);
            if stop_ids.contains(&token) {
                break;
            }
            text.push_str(&detokenizer.push(token));
            if tokens.len() == max_tokens {
                break;
            }
            let row = Row { token, slot: 0, position: prompt.len() + tokens.len() - 1 };
            logits = session.run(&[row], &[0]).unwrap().to_vec();
        }
        text.push_str(detokenizer.finish());
        Text { tokens, text }
    }
}

/// Numbers for tests: the same ones for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}
