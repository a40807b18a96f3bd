//! One continuation: its sampler, its text, and what ends it.

use std::sync::Arc;

use hotpath_fairness::{Class, Key};
use hotpath_text::{Detokenizer, StopStrings, Vocabulary};

use crate::{
    draft::Drafter,
    format::Format,
    masks::{Constraint, MaskReply, MaskRequest},
    sampler::{Choice, Sampler, Sampling},
    work::{Failure, Finish, Stop},
};

/// A continuation in the making.
#[derive(Debug)]
pub(crate) struct Sequence {
    sampler: Sampler,
    detokenizer: Detokenizer,
    stop_strings: StopStrings,
    /// What the text must parse as.
    constraint: Option<Constraint>,
    /// What may come next, from when it is first drafted.
    drafter: Option<Drafter>,
    /// The logits after the last token, while it is not known which tokens may come next.
    waiting: Option<Vec<f32>>,
    stop_ids: Arc<[u32]>,
    min_tokens: usize,
    max_tokens: usize,
    /// Its tokens. The last one runs next.
    said: Vec<u32>,
    finished: bool,
}

/// What a run added.
#[derive(Debug)]
pub(crate) struct Said {
    pub token: Choice,
    pub text: String,
    pub finish: Option<Finish>,
}

/// What all continuations of a request have in common.
#[derive(Debug, Clone)]
pub(crate) struct SequenceParams {
    pub sampling: Arc<Sampling>,
    pub stop: Stop,
    /// Every id that ends a continuation.
    pub stop_ids: Arc<[u32]>,
    pub max_tokens: usize,
    /// Most tokens of a draft.
    pub draft_tokens: usize,
    /// What the text must parse as.
    pub format: Option<Format>,
    /// Its class, and whose turn it uses.
    pub class: Class,
    pub key: Key,
}

impl Sequence {
    pub(crate) fn new(params: &SequenceParams, choice: usize, prompt: &[u32], vocabulary: Arc<Vocabulary>) -> Self {
        Self {
            sampler: Sampler::new(params.sampling.clone(), choice as u64, prompt, params.stop_ids.clone()),
            detokenizer: Detokenizer::new(vocabulary),
            stop_strings: StopStrings::new(params.stop.strings.iter().map(String::as_str)),
            constraint: params.format.as_ref().map(|format| Constraint::new(format, params.class, params.key.clone())),
            drafter: None,
            waiting: None,
            stop_ids: params.stop_ids.clone(),
            min_tokens: params.sampling.min_tokens as usize,
            max_tokens: params.max_tokens,
            said: Vec::new(),
            finished: false,
        }
    }

    /// The token that runs next.
    pub(crate) fn last(&self) -> u32 {
        self.said.last().copied().unwrap_or_default()
    }

    /// At most so many tokens that may come after it: those that its format leaves no choice of, or what it drafts itself.
    pub(crate) fn draft(&mut self, most: usize, of_prompt: impl FnOnce() -> Drafter) -> Vec<u32> {
        if let Some(constraint) = &self.constraint {
            return constraint.draft(most);
        }
        let drafter = self.drafter.get_or_insert_with(|| {
            let mut drafter = of_prompt();
            self.said.iter().for_each(|token| drafter.push(*token));
            drafter
        });
        drafter.draft(most)
    }

    /// Takes note of how many tokens of a draft were accepted.
    pub(crate) fn verified(&mut self, drafted: usize, accepted: usize) {
        if let Some(drafter) = self.drafter.as_mut().filter(|_| drafted > 0) {
            drafter.verified(drafted, accepted);
        }
    }

    /// Tokens so far.
    pub(crate) fn tokens(&self) -> usize {
        self.said.len()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Chooses the next token by the logits after the last one; `None` when it is not known yet which may come. Then the
    /// logits wait for [`Sequence::receive`].
    ///
    /// # Errors
    /// When none can be chosen.
    pub(crate) fn advance(&mut self, logits: &[f32]) -> Result<Option<Said>, Failure> {
        let mask = match self.constraint.as_ref().map(Constraint::mask) {
            Some(None) => {
                self.waiting = Some(logits.to_vec());
                return Ok(None);
            }
            Some(Some(mask)) => Some(mask),
            None => None,
        };
        let chosen = self.sampler.choose(logits, mask.as_deref());
        Ok(Some(self.say(chosen.map_err(|error| Failure::RunFailed(error.to_string()))?)))
    }

    /// What to ask of the format, so that the token after the last one can be chosen.
    pub(crate) fn ask(&mut self) -> Option<MaskRequest> {
        let last = self.last();
        if self.finished { None } else { self.constraint.as_mut()?.ask(last) }
    }

    /// Takes what the format says; gives the logits that waited for it.
    ///
    /// # Errors
    /// When the format cannot say what may come next.
    pub(crate) fn receive(&mut self, reply: MaskReply) -> Result<Option<Vec<f32>>, Failure> {
        if let Some(constraint) = &mut self.constraint {
            constraint.receive(reply)?;
        }
        Ok(self.waiting.take())
    }

    /// Appends a token.
    fn say(&mut self, token: Choice) -> Said {
        self.said.push(token.token);
        if let Some(drafter) = &mut self.drafter {
            drafter.push(token.token);
        }
        let mut text = String::new();
        let mut finish = if self.stop_ids.contains(&token.token) {
            Some(Finish::StopToken(token.token))
        } else {
            let piece = self.detokenizer.push(token.token);
            let full = (self.tokens() == self.max_tokens).then_some(Finish::Length);
            self.scan(&piece, &mut text).or(full)
        };
        if matches!(finish, Some(Finish::StopToken(_) | Finish::Length)) {
            // The text ends here, so what was held back is no start of anything.
            let rest = self.detokenizer.finish();
            finish = self.scan(rest, &mut text).or(finish);
            text.push_str(&self.stop_strings.finish());
        }
        self.finished = finish.is_some();
        Said { token, text, finish }
    }

    /// Appends a piece to what is certain, as far as it is.
    fn scan(&mut self, piece: &str, text: &mut String) -> Option<Finish> {
        if self.tokens() <= self.min_tokens {
            text.push_str(piece);
            return None;
        }
        let scan = self.stop_strings.push(piece);
        text.push_str(&scan.text);
        scan.stop.map(Finish::StopString)
    }
}
