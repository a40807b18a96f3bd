//! Which part of a prompt need not be computed again.
//!
//! What a slot holds of a token is the same to the last bit however the tokens before it came there, read in chunks of any size
//! or said one by one. So whatever a prompt has in common with a text that is cached can be reused, the replies in it too.

use super::{Phase, Place, Planner, Prompt, RequestId, slots::CachedPrefix};

/// Where a prefix can be copied from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PrefixHit {
    pub slot: usize,
    /// Tokens to reuse.
    pub tokens: usize,
    /// Of a cached prefix, which can be taken over too.
    pub cached: Option<Cached>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cached {
    /// Tokens of it.
    pub tokens: usize,
    /// Tokens that its slot takes memory for.
    pub held: usize,
}

impl Planner {
    /// The longest prefix that a request can reuse.
    pub(super) fn longest_prefix(&self, id: RequestId) -> Option<PrefixHit> {
        let prompt = &self.requests[&id].prompt;
        let of_cached = self.slots.cached().map(|(slot, CachedPrefix { text, held, .. })| {
            let cached = Cached { tokens: text.tokens.len(), held: *held };
            (slot, text, cached.tokens, Some(cached))
        });
        let of_running = self.admitted().filter_map(|(id, entry)| {
            let (slot, tokens) = self.prompt_slot(id)?;
            Some((slot, &entry.prompt, tokens, None))
        });
        // Of equals the first: a cached prefix may be taken over where a running one must be copied.
        let mut best: Option<PrefixHit> = None;
        for (slot, other, tokens, cached) in of_cached.chain(of_running) {
            let tokens = self.reusable(prompt, other, tokens);
            if tokens > best.map_or(0, |best| best.tokens) {
                best = Some(PrefixHit { slot, tokens, cached });
            }
        }
        best
    }

    /// A slot that holds an admitted request's prompt, with how much of it.
    fn prompt_slot(&self, id: RequestId) -> Option<(usize, usize)> {
        let entry = &self.requests[&id];
        match &entry.phase {
            Phase::Waiting => None,
            Phase::Prefilling { slot, done, .. } => Some((*slot, *done)),
            Phase::Running(sequences) => sequences.iter().find_map(|sequence| match sequence.place {
                Place::Slot(slot) => Some((slot, entry.prompt.tokens.len())),
                Place::Prompt | Place::Left => None,
            }),
        }
    }

    /// How much of a prompt another one's first `tokens` spare it; 0 where that is too little to be worth it. The last token's
    /// logits are wanted, so it is always read.
    fn reusable(&self, prompt: &Prompt, other: &Prompt, tokens: usize) -> usize {
        let tokens = self.common(prompt, other).min(tokens).min(prompt.tokens.len() - 1);
        if tokens < self.limits.reuse_tokens { 0 } else { tokens }
    }

    /// Length of the common prefix of two texts; 0 where one may not be used for the other.
    pub(super) fn common(&self, prompt: &Prompt, other: &Prompt) -> usize {
        if prompt.key != other.key && !self.limits.share_prefixes {
            return 0;
        }
        prompt.tokens.iter().zip(&*other.tokens).take_while(|(a, b)| a == b).count()
    }
}
