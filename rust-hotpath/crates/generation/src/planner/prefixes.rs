//! Which part of a prompt need not be computed again.
//!
//! Only what a prompt's own full chunks computed is reused, and only as full chunks: those have the same borders in every
//! prompt, so the numbers are the same as without reuse, to the last bit. What was said after a prompt is not: a token that
//! was decoded has other last bits than one that was read.

use super::{Phase, Place, Planner, Prompt, RequestId, rows::Kept};

/// Where a beginning can be copied from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Donor {
    pub row: usize,
    /// Tokens to reuse.
    pub tokens: usize,
    /// For a kept beginning, the tokens that its row takes memory for.
    pub held: Option<usize>,
}

impl Planner {
    /// The longest beginning that a request can reuse.
    pub(super) fn donor(&self, id: RequestId) -> Option<Donor> {
        let prompt = &self.known[&id].prompt;
        let of_kept = self.rows.kept().map(|(row, kept)| (row, &kept.prompt, kept.tokens, Some(kept.held)));
        let of_running = self.admitted().flat_map(|(id, known)| {
            let rows = self.rows_of(id);
            rows.into_iter().map(|(row, tokens)| (row, &known.prompt, tokens, None))
        });
        // Of equals the first: a kept beginning may be taken over where a running one must be copied.
        let mut best: Option<Donor> = None;
        for (row, other, tokens, held) in of_kept.chain(of_running) {
            let tokens = self.reusable(prompt, other, tokens);
            if tokens > best.map_or(0, |best| best.tokens) {
                best = Some(Donor { row, tokens, held });
            }
        }
        best
    }

    /// Keeps what can be reused of a prompt, of which a row that is about to be free holds `done` tokens, and `held` with
    /// what follows; in that row if it may stay there. Says whether it does.
    pub(super) fn keep(&mut self, prompt: Prompt, row: usize, done: usize, held: usize, in_place: bool) -> bool {
        let tokens = self.full_chunks(prompt.tokens.len(), done);
        if tokens == 0 {
            return false;
        }
        let covers = |kept: &Kept| kept.tokens >= tokens && self.common(&prompt, &kept.prompt) >= tokens;
        let covering = self.rows.kept().find(|(_, kept)| covers(kept)).map(|(row, _)| row);
        if let Some(row) = covering {
            self.rows.touch(row);
            return false;
        }
        self.evict_beginnings_of(&prompt, tokens);
        let held = self.round_up(if in_place { held } else { tokens });
        self.make_room(held, None);
        if in_place {
            self.rows.keep(row, prompt, tokens, held);
            return true;
        }
        if let Some(to) = self.side_row(None) {
            self.rows.copy(row, to, tokens);
            self.rows.keep(to, prompt, tokens, held);
        }
        false
    }

    /// Gives up kept beginnings of what is to be kept now.
    fn evict_beginnings_of(&mut self, prompt: &Prompt, tokens: usize) {
        let within = |kept: &Kept| kept.tokens <= tokens && self.common(prompt, &kept.prompt) >= kept.tokens;
        let shorter: Vec<usize> = self.rows.kept().filter(|(_, kept)| within(kept)).map(|(row, _)| row).collect();
        for row in shorter {
            self.rows.evict(row);
        }
    }

    /// Rows that hold a running request's prompt, with how much of it. One is enough, and continuations share it.
    fn rows_of(&self, id: RequestId) -> Option<(usize, usize)> {
        let known = &self.known[&id];
        match &known.phase {
            Phase::Waiting => None,
            Phase::Prefilling { row, done } => Some((*row, self.full_chunks(known.prompt.tokens.len(), *done))),
            Phase::Running(places) => {
                let length = known.prompt.tokens.len();
                let row = places.iter().enumerate().find_map(|(choice, place)| match place {
                    Place::Beside { row, .. } | Place::LeavingFrom { row, .. } => Some(*row),
                    Place::Decoding { .. } | Place::Leaving { .. } => self.row_in_area(id, choice),
                    Place::Gone => None,
                })?;
                Some((row, self.full_chunks(length, length)))
            }
        }
    }

    /// Tokens of the full chunks that were computed of a prompt, of which `done` are there.
    fn full_chunks(&self, length: usize, done: usize) -> usize {
        let chunk = self.limits.chunk_tokens;
        let full = done / chunk * chunk;
        // The last full chunk gave a token to a tail of one.
        if length == full + 1 { full.saturating_sub(chunk) } else { full }
    }

    /// How much of a prompt another one's first `tokens` spare it. At least one token is left, whose logits are wanted.
    fn reusable(&self, prompt: &Prompt, other: &Prompt, tokens: usize) -> usize {
        let length = prompt.tokens.len();
        let most = self.full_chunks(length, length - 1);
        let common = self.common(prompt, other).min(tokens).min(most);
        common / self.limits.chunk_tokens * self.limits.chunk_tokens
    }

    /// Length of the common beginning of two prompts; 0 where one may not be used for the other.
    fn common(&self, prompt: &Prompt, other: &Prompt) -> usize {
        if prompt.key != other.key && !self.limits.share_prefixes {
            return 0;
        }
        prompt.tokens.iter().zip(&*other.tokens).take_while(|(a, b)| a == b).count()
    }
}
