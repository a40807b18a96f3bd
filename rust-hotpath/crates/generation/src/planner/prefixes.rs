//! Which part of a prompt need not be computed again.
//!
//! What was read of a prompt is the same to the last bit wherever its chunks began, as long as none of them had a single
//! token; so any prefix can be reused, and what is reused here ends where it pays: at whole pieces. What was said after a
//! prompt is not reused: a token that was decoded has other last bits than one that was read.

use super::{Phase, Planner, Prompt, RequestId, SequenceState, rows::CachedPrefix};

/// Where a prefix can be copied from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PrefixHit {
    pub row: usize,
    /// Tokens to reuse.
    pub tokens: usize,
    /// For a cached prefix, the tokens that its row takes memory for.
    pub held: Option<usize>,
}

impl Planner {
    /// The longest prefix that a request can reuse.
    pub(super) fn longest_prefix(&self, id: RequestId) -> Option<PrefixHit> {
        let prompt = &self.requests[&id].prompt;
        let of_cached = self.rows.cached().map(|(row, cached)| (row, &cached.prompt, cached.tokens, Some(cached.held)));
        let of_running = self.admitted().flat_map(|(id, entry)| {
            let rows = self.rows_of(id);
            rows.into_iter().map(|(row, tokens)| (row, &entry.prompt, tokens, None))
        });
        // Of equals the first: a cached prefix may be taken over where a running one must be copied.
        let mut best: Option<PrefixHit> = None;
        for (row, other, tokens, held) in of_cached.chain(of_running) {
            let tokens = self.reusable(prompt, other, tokens);
            if tokens > best.map_or(0, |best| best.tokens) {
                best = Some(PrefixHit { row, tokens, held });
            }
        }
        best
    }

    /// Caches what can be reused of a prompt, of which a row that is about to be free holds `done` tokens, and `held` with
    /// what follows; in that row if it may stay there. Says whether it does.
    pub(super) fn cache(&mut self, prompt: Prompt, row: usize, done: usize, held: usize, in_place: bool) -> bool {
        let tokens = self.whole_blocks(done);
        if tokens == 0 || !self.caches {
            return false;
        }
        let covers = |cached: &CachedPrefix| cached.tokens >= tokens && self.common(&prompt, &cached.prompt) >= tokens;
        let covering = self.rows.cached().find(|(_, cached)| covers(cached)).map(|(row, _)| row);
        if let Some(row) = covering {
            self.rows.touch(row);
            return false;
        }
        self.evict_prefixes_of(&prompt, tokens);
        let held = self.round_up(if in_place { held } else { tokens });
        self.make_room(held, None);
        if in_place {
            self.rows.cache(row, prompt, tokens, held);
            return true;
        }
        if let Some(to) = self.staging_row(None) {
            self.rows.copy(row, to, tokens);
            self.rows.cache(to, prompt, tokens, held);
        }
        false
    }

    /// Gives up cached prefixes of what is to be cached now.
    fn evict_prefixes_of(&mut self, prompt: &Prompt, tokens: usize) {
        let within =
            |cached: &CachedPrefix| cached.tokens <= tokens && self.common(prompt, &cached.prompt) >= cached.tokens;
        let shorter: Vec<usize> = self.rows.cached().filter(|(_, cached)| within(cached)).map(|(row, _)| row).collect();
        for row in shorter {
            self.rows.evict(row);
        }
    }

    /// Rows that hold a running request's prompt, with how much of it. One is enough, and continuations share it.
    fn rows_of(&self, id: RequestId) -> Option<(usize, usize)> {
        let entry = &self.requests[&id];
        match &entry.phase {
            Phase::Waiting => None,
            Phase::Prefilling { row, done } => Some((*row, *done)),
            Phase::Running(sequences) => {
                let row = sequences.iter().enumerate().find_map(|(choice, state)| match state {
                    SequenceState::Staged { row, .. } | SequenceState::LeavingStaged { row, .. } => Some(*row),
                    SequenceState::Decoding { .. } | SequenceState::Leaving { .. } => self.batch_row(id, choice),
                    SequenceState::Gone => None,
                })?;
                Some((row, entry.prompt.tokens.len()))
            }
        }
    }

    /// How many of so many tokens can be reused. A prompt of one token, which is read alone, has none.
    fn whole_blocks(&self, tokens: usize) -> usize {
        tokens / self.limits.reuse_tokens * self.limits.reuse_tokens
    }

    /// How much of a prompt another one's first `tokens` spare it. The last token's logits are wanted, and it is not read
    /// alone, so two are left.
    fn reusable(&self, prompt: &Prompt, other: &Prompt, tokens: usize) -> usize {
        let most = prompt.tokens.len().saturating_sub(2);
        self.whole_blocks(self.common(prompt, other).min(tokens).min(most))
    }

    /// Length of the common prefix of two prompts; 0 where one may not be used for the other.
    fn common(&self, prompt: &Prompt, other: &Prompt) -> usize {
        if prompt.key != other.key && !self.limits.share_prefixes {
            return 0;
        }
        prompt.tokens.iter().zip(&*other.tokens).take_while(|(a, b)| a == b).count()
    }
}
