use hotpath_contract::bundle::v1::{self as proto, golden_generation::Prompt};

use super::checks::{MOST_BYTES, MOST_TOKENS, check_below_vocabulary, check_ids, check_size, differ};
use crate::{
    Refused,
    manifest::Manifest,
    strict_json,
    tasks::generation::{Message, Role},
};

/// A checked `triptych.bundle.v1.GenerationGoldenFile`. The fields' meaning is documented there.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct GoldenGenerations {
    pub cases: Vec<GoldenGeneration>,
    pub clear_margin: f64,
}

/// One prompt and its greedy continuation.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct GoldenGeneration {
    pub prompt: GoldenPrompt,
    pub prompt_ids: Vec<u32>,
    pub logit_ids: Vec<u32>,
    pub reference: GoldenContinuation,
    /// One for each of the manifest's graphs, in their order.
    pub graphs: Vec<GoldenContinuation>,
}

/// What a continuation follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GoldenPrompt {
    /// A text to continue.
    Text(String),
    /// A conversation to reply to.
    Conversation(Vec<Message>),
}

/// What one implementation says after a prompt.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct GoldenContinuation {
    pub next_token_logits: Vec<f32>,
    pub token_ids: Vec<u32>,
    pub margins: Vec<f32>,
}

pub(super) fn parse(json: &[u8], manifest: &Manifest) -> Result<GoldenGenerations, Refused> {
    let file = manifest.golden_file.as_str();
    let proto: proto::GenerationGoldenFile = strict_json::read("triptych.bundle.v1.GenerationGoldenFile", file, json)?;
    let cases = || proto.generations.iter();
    check_size(file, "generations", cases().map(tokens), "tokens", MOST_TOKENS)?;
    check_size(file, "generations", cases().map(bytes), "bytes", MOST_BYTES)?;
    let cases = proto.generations.into_iter().enumerate().map(|(i, case)| {
        self::case(case, manifest)
            .map_err(|(field, problem)| Refused::field(file, format!("generations[{i}].{field}"), problem))
    });
    let cases: Vec<_> = cases.collect::<Result<_, _>>()?;
    if !differ(cases.iter().map(|case| case.prompt_ids.len())) {
        return Err(Refused::field(file, "generations", "there must be at least two, of different lengths"));
    }
    if !(proto.clear_margin.is_finite() && proto.clear_margin > 0.0) {
        return Err(Refused::field(file, "clear_margin", format!("{} is not above 0", proto.clear_margin)));
    }
    Ok(GoldenGenerations { cases, clear_margin: proto.clear_margin })
}

/// Tokens of a case that are run.
fn tokens(case: &proto::GoldenGeneration) -> usize {
    let longest = case.graphs.iter().map(|graph| graph.token_ids.len()).max().unwrap_or(0);
    case.prompt_ids.len() + longest
}

/// Bytes of a case that are tokenized.
fn bytes(case: &proto::GoldenGeneration) -> usize {
    match &case.prompt {
        Some(Prompt::Text(text)) => text.len(),
        Some(Prompt::Conversation(said)) => said.messages.iter().map(|message| message.content.len()).sum(),
        None => 0,
    }
}

/// A field and what is wrong with it.
type Fault = (String, String);

fn case(proto: proto::GoldenGeneration, manifest: &Manifest) -> Result<GoldenGeneration, Fault> {
    let fault = |field: &str| {
        let field = field.to_owned();
        move |problem: String| (field, problem)
    };
    let prompt = match proto.prompt {
        Some(Prompt::Text(text)) => GoldenPrompt::Text(text),
        Some(Prompt::Conversation(conversation)) => GoldenPrompt::Conversation(messages(conversation)?),
        None => return Err(fault("prompt")("is missing".to_owned())),
    };
    check_ids(&proto.prompt_ids, manifest).map_err(fault("prompt_ids"))?;
    check_below_vocabulary(&proto.logit_ids, manifest).map_err(fault("logit_ids"))?;
    if proto.graphs.len() != manifest.graphs.len() {
        let problem = format!("{} continuations for {} graphs", proto.graphs.len(), manifest.graphs.len());
        return Err(fault("graphs")(problem));
    }
    let check = |field: &str, continuation: proto::GoldenContinuation| {
        self::continuation(continuation, &proto.prompt_ids, &proto.logit_ids, manifest)
            .map_err(|(inner, problem)| (format!("{field}.{inner}"), problem))
    };
    let reference = proto.reference.ok_or_else(|| fault("reference")("is missing".to_owned()))?;
    let reference = check("reference", reference)?;
    let graphs = proto.graphs.into_iter().enumerate();
    let graphs = graphs.map(|(i, graph)| check(&format!("graphs[{i}]"), graph)).collect::<Result<_, _>>()?;
    Ok(GoldenGeneration { prompt, reference, graphs, prompt_ids: proto.prompt_ids, logit_ids: proto.logit_ids })
}

fn messages(conversation: proto::GoldenConversation) -> Result<Vec<Message>, Fault> {
    if conversation.messages.is_empty() {
        return Err(("conversation.messages".to_owned(), "there must be at least one".to_owned()));
    }
    let messages = conversation.messages.into_iter().enumerate();
    let message = |(i, message): (usize, proto::GoldenMessage)| {
        let role = match message.role.as_str() {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => {
                let problem = format!("\"{other}\" is not \"system\", \"user\" or \"assistant\"");
                return Err((format!("conversation.messages[{i}].role"), problem));
            }
        };
        Ok(Message { role, content: message.content })
    };
    messages.map(message).collect()
}

fn continuation(
    proto: proto::GoldenContinuation,
    prompt_ids: &[u32],
    logit_ids: &[u32],
    manifest: &Manifest,
) -> Result<GoldenContinuation, Fault> {
    let finite = |values: &[f32]| values.iter().all(|x| x.is_finite());
    let logits = &proto.next_token_logits;
    if logits.len() != logit_ids.len() || !finite(logits) {
        let problem = format!("{} logits, or one that is not finite, for {} ids", logits.len(), logit_ids.len());
        return Err(("next_token_logits".to_owned(), problem));
    }
    let whole = [prompt_ids, proto.token_ids.as_slice()].concat();
    check_ids(&whole, manifest).map_err(|problem| ("token_ids".to_owned(), problem))?;
    if proto.token_ids.is_empty() {
        return Err(("token_ids".to_owned(), "there must be at least one".to_owned()));
    }
    if proto.margins.len() != proto.token_ids.len() || !proto.margins.iter().all(|margin| *margin >= 0.0) {
        let problem = format!("{} margins, or one below 0, for {} tokens", proto.margins.len(), proto.token_ids.len());
        return Err(("margins".to_owned(), problem));
    }
    Ok(GoldenContinuation {
        next_token_logits: proto.next_token_logits,
        token_ids: proto.token_ids,
        margins: proto.margins,
    })
}
