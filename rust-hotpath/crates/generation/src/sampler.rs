//! One token from the logits of one row.
//!
//! What a row draws depends on its own logits, its own text and its own seed, so it is batch-invariant.

mod candidates;
mod exponential;
mod history;
mod params;
mod random;

use std::sync::Arc;

use candidates::{all_finite, argmax, draw, largest, log_sum_exp};
use history::History;
pub use params::{InvalidSampling, Sampling};

/// Chooses the tokens of one continuation.
#[derive(Debug)]
pub struct Sampler {
    sampling: Arc<Sampling>,
    /// Which of a request's continuations this is: each draws its own numbers.
    stream: u64,
    history: History,
    /// Tokens that may not come before `min_tokens` others did.
    stop_ids: Arc<[u32]>,
    /// The logits after bias, penalties and masks; kept for its memory.
    adjusted: Vec<f32>, // [vocabulary]
}

/// A chosen token.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The token.
    pub token: u32,
    /// Its log-probability, where [`Sampling::top_logprobs`] asks for any.
    pub logprob: Option<f32>,
    /// The likeliest tokens in falling order, as many as [`Sampling::top_logprobs`].
    pub top: Vec<Logprob>,
}

/// A token and the natural logarithm of its probability: the model's own, before bias, penalties and temperature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Logprob {
    /// The token.
    pub token: u32,
    /// Its log-probability.
    pub logprob: f32,
}

/// No token can be chosen. The message is for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoChoice {
    /// The session gave a number that is none.
    #[error("a logit is not finite")]
    NotFinite,
    /// Nothing may come next.
    #[error("no token is allowed")]
    NothingAllowed,
}

impl Sampler {
    /// A sampler for the continuation `stream` of a prompt.
    #[must_use]
    pub fn new(sampling: Arc<Sampling>, stream: u64, prompt: &[u32], stop_ids: Arc<[u32]>) -> Self {
        let history = History::new(&sampling, prompt);
        Self { sampling, stream, history, stop_ids, adjusted: Vec::new() }
    }

    /// Chooses a token by the logits after the text so far, [vocabulary]. `allowed` says which tokens may come, where not
    /// all may: bit `id % 32` of word `id / 32`.
    ///
    /// # Errors
    /// [`NoChoice`] when the logits are not finite or nothing may come.
    pub fn choose(&mut self, logits: &[f32], allowed: Option<&[u32]>) -> Result<Choice, NoChoice> {
        if !all_finite(logits) {
            return Err(NoChoice::NotFinite);
        }
        let sampling = self.sampling.clone();
        let uniform = random::uniform(sampling.seed, self.stream, self.history.len());
        let adjusted = self.adjust(logits, allowed);
        let likeliest = argmax(adjusted).ok_or(NoChoice::NothingAllowed)?;
        let greedy = sampling.temperature == 0.0;
        let token = if greedy { likeliest } else { draw(adjusted, likeliest, &sampling, uniform) };
        self.history.push(token);
        Ok(self.describe(logits, token))
    }

    /// The logits after bias, penalties and masks; the given ones where there is nothing to change.
    fn adjust<'a>(&'a mut self, logits: &'a [f32], allowed: Option<&[u32]>) -> &'a [f32] {
        let waits = self.history.len() < u64::from(self.sampling.min_tokens) && !self.stop_ids.is_empty();
        let changes = waits || allowed.is_some() || !self.sampling.logit_bias.is_empty();
        if !changes && !self.history.counts() {
            return logits;
        }
        self.adjusted.clear();
        self.adjusted.extend_from_slice(logits);
        for (token, bias) in &self.sampling.logit_bias {
            if let Some(logit) = self.adjusted.get_mut(*token as usize) {
                *logit += bias;
            }
        }
        self.history.penalize(&self.sampling, &mut self.adjusted);
        let stops = if waits { &*self.stop_ids } else { &[] };
        for stop in stops {
            if let Some(logit) = self.adjusted.get_mut(*stop as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        if let Some(allowed) = allowed {
            mask(&mut self.adjusted, allowed);
        }
        &self.adjusted
    }

    fn describe(&self, logits: &[f32], token: u32) -> Choice {
        let Some(top) = self.sampling.top_logprobs else {
            return Choice { token, logprob: None, top: Vec::new() };
        };
        let total = log_sum_exp(logits);
        let top = largest(logits, usize::from(top)).into_iter();
        let top = top.map(|(token, logit)| Logprob { token, logprob: logit - total }).collect();
        Choice { token, logprob: Some(logits[token as usize] - total), top }
    }
}

/// Leaves the logits of allowed tokens alone.
fn mask(logits: &mut [f32], allowed: &[u32]) {
    let words = allowed.iter().chain(std::iter::repeat(&0));
    for (logits, word) in logits.chunks_mut(32).zip(words).filter(|(_, word)| **word != u32::MAX) {
        for (bit, logit) in logits.iter_mut().enumerate() {
            if word >> bit & 1 == 0 {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}
