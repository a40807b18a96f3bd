//! Golden continuations.

use futures_util::future::try_join_all;
use hotpath_bundle::{GoldenGeneration, GoldenGenerations, GoldenPrompt, Refused};
use hotpath_generation::{Class, Engine, Event, Limits, Sampling, Stop, Stream, Work};
use hotpath_runtime::{Decode, Row};
use hotpath_text::{Chat, TokenizeError, Tokenizer};

use crate::models::{
    golden::{KEY, check_ids, refused},
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

/// Runs each prompt alone on a session: the logits after it must be the graph's own to the last bit. How near the graph is to the
/// reference was the export's to judge.
///
/// # Errors
/// [`Refused`] names the case that differs.
pub(super) fn check_session(
    source: &BundleGraph,
    golden: &GoldenGenerations,
    session: &mut dyn Decode,
    limits: &Limits,
) -> Result<(), Refused> {
    let graph = source.place();
    for (i, case) in golden.cases.iter().enumerate() {
        let field = format!("generations[{i}].graphs[{graph}].next_token_logits");
        if case.prompt_ids.len() > limits.context_tokens {
            let problem = format!("the prompt does not fit into a cache of {} tokens", limits.cache_tokens);
            return Err(refused(source, &field, problem));
        }
        let logits = next_token_logits(session, case, limits.chunk_tokens);
        session.release(0);
        let logits = logits.map_err(|problem| refused(source, &field, problem))?;
        let pairs = case.graphs[graph].next_token_logits.iter().zip(&logits).zip(&case.logit_ids);
        if let Some(((golden, found), id)) = pairs.into_iter().find(|((golden, found), _)| golden != found) {
            return Err(refused(source, &field, format!("the logit of {id} is {found:e} and not {golden:e}")));
        }
    }
    Ok(())
}

/// The logits of a case's `logit_ids` after its prompt.
fn next_token_logits(
    session: &mut dyn Decode,
    case: &GoldenGeneration,
    chunk_tokens: usize,
) -> Result<Vec<f32>, String> {
    let row = |(position, token): (usize, &u32)| Row { token: *token, slot: 0, position };
    let rows: Vec<Row> = case.prompt_ids.iter().enumerate().map(row).collect();
    let mut found = Vec::new();
    for chunk in rows.chunks(chunk_tokens) {
        let logits = session.run(chunk, &[chunk.len() - 1]).map_err(|error| error.0)?; // [1, vocabulary]
        found = case.logit_ids.iter().map(|id| logits[*id as usize]).collect();
    }
    Ok(found)
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
        let cases = (0..golden.cases.len()).collect();
        Self { source, engine, golden, graph: source.place(), class, cases, max_tokens: usize::MAX }
    }

    /// What tells within a second whether the engine works: how the shortest prompts go on.
    pub(super) fn brief(source: &'a BundleGraph, engine: &'a Engine, golden: &'a GoldenGenerations) -> Self {
        let mut replay = Self { max_tokens: BRIEF_TOKENS, ..Self::all(source, engine, golden, Class::Interactive) };
        replay.cases.sort_by_key(|case| golden.cases[*case].prompt_ids.len());
        replay.cases.truncate(BRIEF_CASES);
        replay
    }

    /// Continues each prompt alone, and then all of them together. Tokens must be the golden ones.
    ///
    /// # Errors
    /// [`Unproven`] names the case that differs, or says why one was not continued.
    pub(super) async fn run(&self) -> Result<usize, Unproven> {
        for case in &self.cases {
            self.check(*case, &said(self.submit(*case)?).await?)?;
        }
        for (case, tokens) in self.cases.iter().zip(self.together().await?) {
            self.check(*case, &tokens)?;
        }
        Ok(self.cases.len())
    }

    fn check(&self, case: usize, tokens: &[u32]) -> Result<(), Unproven> {
        let golden = &self.golden.cases[case].graphs[self.graph].token_ids[..self.tokens(case)];
        if tokens == golden {
            return Ok(());
        }
        let place = tokens.iter().zip(golden).take_while(|(found, golden)| found == golden).count();
        let problem = format!("from token {place} on it says {:?}", &tokens[place..]);
        let field = format!("generations[{case}].graphs[{}].token_ids", self.graph);
        Err(refused(self.source, &field, problem).into())
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
}

/// Reads the shortest prompt, in a slot that no request uses.
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
