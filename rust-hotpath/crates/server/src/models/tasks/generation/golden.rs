//! Golden continuations.

use futures_util::future::try_join_all;
use hotpath_bundle::{GoldenContinuation, GoldenGeneration, GoldenGenerations, GoldenPrompt, Refused};
use hotpath_generation::{Class, Engine, Event, Limits, Sampling, Stop, Stream, Work};
use hotpath_runtime::{Decode, chunk_at};
use hotpath_text::{Chat, TokenizeError, Tokenizer};

use crate::models::{
    golden::{KEY, check_ids, check_tolerance, refused},
    source::BundleGraph,
    tasks::Unproven,
};

/// Before a model serves, so many of the shortest prompts are continued by so many tokens.
const BRIEF_CASES: usize = 3;
const BRIEF_TOKENS: usize = 8;

/// Holds the tokenizer and the chat template against every case: the ids must be equal.
///
/// # Errors
/// [`Refused`] names the case that differs.
pub(super) fn check_tokenizer(
    source: &BundleGraph,
    golden: &GoldenGenerations,
    tokenizer: &Tokenizer,
    chat: Option<&Chat>,
) -> Result<(), Refused> {
    for (i, case) in golden.cases.iter().enumerate() {
        let found = match (&case.prompt, chat) {
            (GoldenPrompt::Text(text), _) => tokenizer.ids(text, usize::MAX),
            (GoldenPrompt::Conversation(messages), Some(chat)) => chat.ids(messages, usize::MAX),
            (GoldenPrompt::Conversation(_), None) => Err(TokenizeError::Failed("there is no chat template".to_owned())),
        };
        check_ids(source, &format!("generations[{i}].prompt_ids"), &case.prompt_ids, found)?;
    }
    Ok(())
}

/// Holds the rule by which prompts are cut against its test vectors.
///
/// # Errors
/// [`Refused`] names the plan that differs.
pub(super) fn check_chunk_plans(source: &BundleGraph, golden: &GoldenGenerations) -> Result<(), Refused> {
    for (i, plan) in golden.chunk_plans.iter().enumerate() {
        let cut = chunks(plan.prompt_tokens as usize, plan.chunk_tokens as usize);
        if !cut.iter().copied().eq(plan.chunks.iter().map(|chunk| *chunk as usize)) {
            let begins = &cut[..cut.len().min(8)];
            return Err(refused(source, &format!("chunk_plans[{i}]"), format!("prompts are cut from {begins:?} on")));
        }
    }
    Ok(())
}

/// Runs each prompt alone on a session, and holds the logits after it against the reference's.
///
/// # Errors
/// [`Refused`] names the case that differs.
pub(super) fn check_session(
    source: &BundleGraph,
    golden: &GoldenGenerations,
    session: &mut dyn Decode,
    limits: &Limits,
) -> Result<(), Refused> {
    for (i, case) in golden.cases.iter().enumerate() {
        let field = format!("generations[{i}].reference.next_token_logits");
        if case.prompt_ids.len() > limits.context_tokens {
            let problem = format!("the prompt does not fit into a cache of {} tokens", limits.cache_tokens);
            return Err(refused(source, &field, problem));
        }
        let logits = next_token_logits(session, case, limits.chunk_tokens);
        session.release_row(0);
        let logits = logits.map_err(|problem| refused(source, &field, problem))?;
        check_tolerance(source, &field, &case.reference.next_token_logits, &logits, 1.0)?;
    }
    Ok(())
}

/// The logits of a case's `logit_ids` after its prompt.
fn next_token_logits(
    session: &mut dyn Decode,
    case: &GoldenGeneration,
    chunk_tokens: usize,
) -> Result<Vec<f32>, String> {
    let prompt = &case.prompt_ids;
    let mut done = 0;
    for chunk in chunks(prompt.len(), chunk_tokens) {
        let tokens = &prompt[done..done + chunk];
        let logits = session.prefill(0, done, tokens, chunk - 1..chunk).map_err(|error| error.0)?; // [1, vocabulary]
        done += chunk;
        if done == prompt.len() {
            return Ok(case.logit_ids.iter().map(|id| logits[*id as usize]).collect());
        }
    }
    Err("there is no prompt".to_owned())
}

fn chunks(prompt_tokens: usize, chunk_tokens: usize) -> Vec<usize> {
    let (mut chunks, mut done) = (Vec::new(), 0);
    while done < prompt_tokens {
        chunks.push(chunk_at(done, prompt_tokens, chunk_tokens));
        done += chunks[chunks.len() - 1];
    }
    chunks
}

/// Golden cases that are continued through the engine.
pub(super) struct Replay<'a> {
    source: &'a BundleGraph,
    engine: &'a Engine,
    golden: &'a GoldenGenerations,
    /// Place of the graph's continuations in each case.
    graph: usize,
    /// As whose work they run.
    class: Class,
    /// Places of the cases.
    cases: Vec<usize>,
    /// Most tokens of each.
    max_tokens: usize,
}

impl<'a> Replay<'a> {
    /// All there is.
    pub(super) fn all(
        source: &'a BundleGraph,
        engine: &'a Engine,
        golden: &'a GoldenGenerations,
        class: Class,
    ) -> Self {
        let graph = source.bundle.manifest.graphs.iter().position(|graph| *graph == source.graph).unwrap_or(0);
        let cases = (0..golden.cases.len()).collect();
        Self { source, engine, golden, graph, class, cases, max_tokens: usize::MAX }
    }

    /// What tells within a second whether the engine works: how the shortest prompts go on.
    pub(super) fn brief(source: &'a BundleGraph, engine: &'a Engine, golden: &'a GoldenGenerations) -> Self {
        let mut replay = Self { max_tokens: BRIEF_TOKENS, ..Self::all(source, engine, golden, Class::Interactive) };
        replay.cases.sort_by_key(|case| golden.cases[*case].prompt_ids.len());
        replay.cases.truncate(BRIEF_CASES);
        replay
    }

    /// Continues each prompt alone, and then all of them together. Tokens must be the golden ones, up to a near tie; and in
    /// a batch those that came alone, without exception.
    ///
    /// # Errors
    /// [`Unproven`] names the case that differs, or says why one was not continued.
    pub(super) async fn run(&self) -> Result<usize, Unproven> {
        let mut alone = Vec::with_capacity(self.cases.len());
        for case in &self.cases {
            let tokens = said(self.submit(*case)?).await?;
            let golden = &self.golden.cases[*case].graphs[self.graph];
            if let Err(problem) = check_tokens(golden, self.tokens(*case), &tokens, self.golden.clear_margin) {
                return Err(self.differs(*case, problem));
            }
            alone.push(tokens);
        }
        for ((case, alone), tokens) in self.cases.iter().zip(alone).zip(self.together().await?) {
            if tokens != alone {
                return Err(self.differs(*case, "are others in a batch than alone".to_owned()));
            }
        }
        Ok(self.cases.len())
    }

    /// What each case says when as many of them run at once as may: none waits for so long that its wait is what fails.
    async fn together(&self) -> Result<Vec<Vec<u32>>, Unproven> {
        let mut tokens = Vec::with_capacity(self.cases.len());
        while let Some(first) = self.cases.get(tokens.len()) {
            let mut streams = vec![self.submit(*first)?];
            for case in self.cases[tokens.len() + 1..].iter().take(self.engine.limits().batch - 1) {
                match self.submit(*case) {
                    Ok(stream) => streams.push(stream),
                    Err(_) => break, // it goes first in the next round, and there its refusal counts
                }
            }
            tokens.extend(try_join_all(streams.into_iter().map(said)).await?);
        }
        Ok(tokens)
    }

    /// How many tokens of a case are compared.
    fn tokens(&self, case: usize) -> usize {
        self.golden.cases[case].graphs[self.graph].token_ids.len().min(self.max_tokens)
    }

    fn submit(&self, case: usize) -> Result<Stream, Unproven> {
        let (prompt, max_tokens) = (self.golden.cases[case].prompt_ids.clone(), self.tokens(case));
        let fits = prompt.len() + max_tokens <= self.engine.limits().longest(self.class, 1);
        let work = Work {
            class: if fits { self.class } else { Class::Interactive },
            key: KEY.clone(),
            deadline: None,
            prompt,
            max_tokens,
            choices: 1,
            sampling: Sampling::default(),
            stop: Stop { ignore_eos: true, ..Stop::default() },
            format: None,
        };
        self.engine.submit(work).map_err(|rejected| Unproven::NotRun(rejected.to_string()))
    }

    fn differs(&self, case: usize, problem: String) -> Unproven {
        let field = format!("generations[{case}].graphs[{}].token_ids", self.graph);
        refused(self.source, &field, problem).into()
    }
}

/// Reads the shortest prompt, in a row that no request uses.
///
/// # Errors
/// [`Refused`] says why it failed.
pub(super) async fn probe(source: &BundleGraph, engine: &Engine, golden: &GoldenGenerations) -> Result<(), Refused> {
    match golden.cases.iter().min_by_key(|case| case.prompt_ids.len()) {
        Some(case) => {
            let read = engine.probe(&case.prompt_ids).await;
            read.map_err(|failure| refused(source, "", failure.to_string()))
        }
        None => Err(refused(source, "generations", "there is none".to_owned())),
    }
}

/// All tokens of a stream.
async fn said(mut stream: Stream) -> Result<Vec<u32>, Unproven> {
    let mut tokens = Vec::new();
    while let Some(event) = stream.next().await {
        match event {
            Event::Delta(delta) => tokens.push(delta.token.token),
            Event::Started(_) | Event::Done(_) => (),
            Event::Failed(failure) => return Err(Unproven::NotRun(failure.to_string())),
        }
    }
    Ok(tokens)
}

/// Holds tokens against the first golden ones. Where the golden margin is not clear another token may come, and what follows it
/// is not compared.
fn check_tokens(golden: &GoldenContinuation, tokens: usize, found: &[u32], clear_margin: f64) -> Result<(), String> {
    let pairs = golden.token_ids.iter().take(tokens).zip(found).zip(&golden.margins).enumerate();
    let mut differing = pairs.filter(|(_, ((golden, found), _))| golden != found);
    match differing.next() {
        Some((place, ((golden, found), margin))) if f64::from(*margin) >= clear_margin => {
            Err(format!("token {place} is {found} and not {golden}, which leads by a clear {margin}"))
        }
        Some(_) => Ok(()),
        None if found.len() == tokens => Ok(()),
        None => Err(format!("there are {} tokens and not {tokens}", found.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_may_differ_from_a_near_tie_on() {
        let golden =
            GoldenContinuation { next_token_logits: vec![], token_ids: vec![1, 2, 3], margins: vec![2.0, 0.1, 2.0] };
        let check = |found: &[u32]| check_tokens(&golden, 3, found, 1.5);
        assert_eq!(check(&[1, 2, 3]), Ok(()));
        assert_eq!(check(&[1, 7, 8]), Ok(()));
        assert!(check(&[7, 2, 3]).unwrap_err().contains("token 0"));
        assert!(check(&[1, 2, 7]).unwrap_err().contains("token 2"));
        assert!(check(&[1, 2]).unwrap_err().contains("2 tokens"));
        assert_eq!(check_tokens(&golden, 2, &[1, 2], 1.5), Ok(()));
    }
}
