//! What was said before, as far as penalties ask for it.

use std::collections::HashMap;

use super::Sampling;

/// A continuation so far.
#[derive(Debug)]
pub(super) struct History {
    /// How often each token was said; 0 for one that is in the prompt alone. Empty when no penalty asks for it.
    said: HashMap<u32, u16>,
    penalizes: bool,
    tokens: u64,
}

impl History {
    pub(super) fn new(sampling: &Sampling, prompt: &[u32]) -> Self {
        let repetition = sampling.repetition_penalty != 1.0;
        let penalizes = repetition || sampling.frequency_penalty != 0.0 || sampling.presence_penalty != 0.0;
        let prompt = if repetition { prompt } else { &[] };
        Self { said: prompt.iter().map(|token| (*token, 0)).collect(), penalizes, tokens: 0 }
    }

    /// Tokens said.
    pub(super) fn len(&self) -> u64 {
        self.tokens
    }

    /// Whether there is anything to penalize.
    pub(super) fn counts(&self) -> bool {
        !self.said.is_empty()
    }

    pub(super) fn push(&mut self, token: u32) {
        self.tokens += 1;
        if self.penalizes {
            let count = self.said.entry(token).or_insert(0);
            *count = count.saturating_add(1);
        }
    }

    /// Changes the logits of tokens that were said.
    pub(super) fn penalize(&self, sampling: &Sampling, logits: &mut [f32]) {
        for (token, count) in &self.said {
            let Some(logit) = logits.get_mut(*token as usize) else { continue };
            let factor = sampling.repetition_penalty;
            // The smallest of factors must not make an infinity, which has no difference to another.
            *logit = if *logit > 0.0 { (*logit / factor).min(f32::MAX) } else { *logit * factor };
            if *count > 0 {
                *logit -= sampling.frequency_penalty * f32::from(*count) + sampling.presence_penalty;
            }
        }
    }
}
