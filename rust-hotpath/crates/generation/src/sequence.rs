//! One continuation: its sampler, its text, and what ends it.

use std::sync::Arc;

use hotpath_text::{Detokenizer, StopStrings, Vocabulary};

use crate::{
    format::{Following, Format},
    sampler::{Choice, Sampler, Sampling},
    work::{Finish, Stop},
};

/// A continuation in the making.
#[derive(Debug)]
pub(crate) struct Sequence {
    sampler: Sampler,
    detokenizer: Detokenizer,
    stop_strings: StopStrings,
    /// What the text must parse as.
    following: Option<Following>,
    stop_ids: Arc<[u32]>,
    min_tokens: usize,
    max_tokens: usize,
    tokens: usize,
    /// The last token, which the next step appends to the row.
    last: u32,
    finished: bool,
}

/// What a step added.
#[derive(Debug)]
pub(crate) struct Said {
    pub token: Choice,
    pub text: String,
    pub finish: Option<Finish>,
}

/// What all continuations of a request have in common.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub sampling: Arc<Sampling>,
    pub stop: Stop,
    /// Every id that ends a continuation.
    pub stop_ids: Arc<[u32]>,
    pub max_tokens: usize,
    /// What the text must parse as.
    pub format: Option<Format>,
}

impl Sequence {
    pub(crate) fn new(terms: &Terms, choice: usize, prompt: &[u32], vocabulary: Arc<Vocabulary>) -> Self {
        Self {
            sampler: Sampler::new(terms.sampling.clone(), choice as u64, prompt, terms.stop_ids.clone()),
            detokenizer: Detokenizer::new(vocabulary),
            stop_strings: StopStrings::new(terms.stop.strings.iter().map(String::as_str)),
            following: terms.format.as_ref().map(Following::new),
            stop_ids: terms.stop_ids.clone(),
            min_tokens: terms.sampling.min_tokens as usize,
            max_tokens: terms.max_tokens,
            tokens: 0,
            last: 0,
            finished: false,
        }
    }

    /// The token that the next step appends.
    pub(crate) fn last(&self) -> u32 {
        self.last
    }

    /// Tokens so far.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Chooses the next token by the logits after the last one.
    ///
    /// # Errors
    /// Words for the log, when none can be chosen.
    pub(crate) fn advance(&mut self, logits: &[f32]) -> Result<Said, String> {
        let allowed = self.following.as_mut().map(Following::allowed).transpose()?;
        let token = self.sampler.choose(logits, allowed).map_err(|error| error.to_string())?;
        self.last = token.token;
        if let Some(following) = self.following.as_mut().filter(|_| !self.stop_ids.contains(&token.token)) {
            following.push(token.token)?;
        }
        self.tokens += 1;
        let mut text = String::new();
        let mut finish = if self.stop_ids.contains(&self.last) {
            Some(Finish::StopToken(self.last))
        } else {
            let piece = self.detokenizer.push(self.last);
            let full = (self.tokens == self.max_tokens).then_some(Finish::Length);
            self.scan(&piece, &mut text).or(full)
        };
        if matches!(finish, Some(Finish::StopToken(_) | Finish::Length)) {
            // The text ends here, so what was held back is no start of anything.
            let rest = self.detokenizer.finish();
            finish = self.scan(rest, &mut text).or(finish);
            text.push_str(&self.stop_strings.finish());
        }
        self.finished = finish.is_some();
        Ok(Said { token, text, finish })
    }

    /// Appends a piece to what is certain, as far as it is.
    fn scan(&mut self, piece: &str, text: &mut String) -> Option<Finish> {
        if self.tokens <= self.min_tokens {
            text.push_str(piece);
            return None;
        }
        let scan = self.stop_strings.push(piece);
        text.push_str(&scan.text);
        scan.stop.map(Finish::StopString)
    }
}
