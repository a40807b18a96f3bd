//! Which part of a prompt need not be computed again.
//!
//! What was read of a prompt is the same to the last bit wherever its chunks began, as long as none of them had a single
//! token; so any beginning can be reused, and what is reused here ends where it pays: at whole pieces. What was said after a
//! prompt is not reused: a token that was decoded has other last bits than one that was read.

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
        let tokens = self.whole_pieces(done);
        if tokens == 0 || !self.keeps {
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
            Phase::Prefilling { row, done } => Some((*row, *done)),
            Phase::Running(places) => {
                let row = places.iter().enumerate().find_map(|(choice, place)| match place {
                    Place::Beside { row, .. } | Place::LeavingFrom { row, .. } => Some(*row),
                    Place::Decoding { .. } | Place::Leaving { .. } => self.row_in_area(id, choice),
                    Place::Gone => None,
                })?;
                Some((row, known.prompt.tokens.len()))
            }
        }
    }

    /// How many of so many tokens can be reused. A prompt of one token, which is read alone, has none.
    fn whole_pieces(&self, tokens: usize) -> usize {
        tokens / self.limits.reuse_tokens * self.limits.reuse_tokens
    }

    /// How much of a prompt another one's first `tokens` spare it. The last token's logits are wanted, and it is not read
    /// alone, so two are left.
    fn reusable(&self, prompt: &Prompt, other: &Prompt, tokens: usize) -> usize {
        let most = prompt.tokens.len().saturating_sub(2);
        self.whole_pieces(self.common(prompt, other).min(tokens).min(most))
    }

    /// Length of the common beginning of two prompts; 0 where one may not be used for the other.
    fn common(&self, prompt: &Prompt, other: &Prompt) -> usize {
        if prompt.key != other.key && !self.limits.share_prefixes {
            return 0;
        }
        prompt.tokens.iter().zip(&*other.tokens).take_while(|(a, b)| a == b).count()
    }
}
