//! What a Generate request must be before a model is asked.

use hotpath_bundle::{Message, Role};
use hotpath_contract::inference::v1 as proto;
use hotpath_generation::{Sampling, Stop};

use crate::error::Error;

/// What the markup around a message counts as: to tokenize it takes as long as some words do.
const MARKUP_BYTES: usize = 64;

/// Most stop strings, and most bytes of each.
const MAX_STOP_STRINGS: usize = 16;
const MAX_STOP_STRING_BYTES: usize = 256;

/// Most stop ids.
const MAX_STOP_IDS: usize = 64;

/// Most biased tokens.
const MAX_BIASES: usize = 300;

/// What a continuation follows; never empty, as far as that shows without a tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// A text.
    Text(String),
    /// A conversation.
    Conversation(Vec<Message>),
    /// Ids.
    Ids(Vec<u32>),
}

impl Prompt {
    /// Its field in the request.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Conversation(_) => "conversation",
            Self::Ids(_) => "token_ids",
        }
    }

    /// Bytes to tokenize.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Conversation(messages) => messages.iter().map(|message| MARKUP_BYTES + message.content.len()).sum(),
            Self::Ids(_) => 0,
        }
    }
}

/// Checks `prompt`.
///
/// # Errors
/// [`Error::EmptyInput`] and [`Error::InvalidValue`].
pub fn prompt(prompt: Option<proto::generate_request::Prompt>) -> Result<Prompt, Error> {
    let empty = |field: &str| Err(Error::EmptyInput { field: field.to_owned() });
    match prompt {
        None => empty("prompt"),
        Some(proto::generate_request::Prompt::Text(text)) if text.is_empty() => empty("text"),
        Some(proto::generate_request::Prompt::Text(text)) => Ok(Prompt::Text(text)),
        Some(proto::generate_request::Prompt::TokenIds(ids)) if ids.ids.is_empty() => empty("token_ids"),
        Some(proto::generate_request::Prompt::TokenIds(ids)) => Ok(Prompt::Ids(ids.ids)),
        Some(proto::generate_request::Prompt::Conversation(said)) if said.messages.is_empty() => {
            empty("conversation.messages")
        }
        Some(proto::generate_request::Prompt::Conversation(said)) => {
            Ok(Prompt::Conversation(said.messages.into_iter().enumerate().map(message).collect::<Result<_, _>>()?))
        }
    }
}

fn message((i, message): (usize, proto::Message)) -> Result<Message, Error> {
    let role = match message.role() {
        proto::Role::System => Role::System,
        proto::Role::User => Role::User,
        proto::Role::Assistant => Role::Assistant,
        proto::Role::Unspecified => {
            let field = format!("conversation.messages[{i}].role");
            return Err(Error::invalid(field, "must be ROLE_SYSTEM, ROLE_USER or ROLE_ASSISTANT"));
        }
    };
    Ok(Message { role, content: message.content })
}

/// Checks `choices`; 0 counts as 1.
///
/// # Errors
/// [`Error::InvalidValue`].
pub fn choices(asked: u32, limit: usize) -> Result<usize, Error> {
    match asked as usize {
        asked if asked > limit => Err(Error::invalid("choices", format!("is {asked}, it may be at most {limit}"))),
        asked => Ok(asked.max(1)),
    }
}

/// What the text must parse as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Any JSON object.
    JsonObject,
    /// What a JSON Schema allows.
    JsonSchema(String),
}

/// Checks `format`, and that nothing keeps a text from ending where it is complete.
///
/// # Errors
/// [`Error::InvalidValue`].
pub fn format(asked: Option<proto::Format>, stop: Option<&proto::Stop>) -> Result<Option<Wanted>, Error> {
    let Some(asked) = asked else { return Ok(None) };
    let goes_on = "cannot go with `format`: a text ends where it is complete";
    match stop {
        Some(stop) if stop.ignore_eos => return Err(Error::invalid("stop.ignore_eos", goes_on)),
        Some(stop) if stop.min_tokens > 0 => return Err(Error::invalid("stop.min_tokens", goes_on)),
        _ => (),
    }
    match asked.format {
        None => Err(Error::invalid("format", "must be json_object or json_schema")),
        Some(proto::format::Format::JsonObject(_)) => Ok(Some(Wanted::JsonObject)),
        Some(proto::format::Format::JsonSchema(schema)) => Ok(Some(Wanted::JsonSchema(schema))),
    }
}

/// How tokens are chosen. `fresh_seed` is used where the request has none.
///
/// # Errors
/// [`Error::InvalidValue`].
pub fn sampling(
    request: &proto::GenerateRequest,
    vocabulary_size: u32,
    fresh_seed: impl FnOnce() -> u64,
) -> Result<Sampling, Error> {
    let asked = request.sampling.clone().unwrap_or_default();
    if asked.logit_bias.len() > MAX_BIASES {
        let problem = format!("has {} entries, it may have at most {MAX_BIASES}", asked.logit_bias.len());
        return Err(Error::invalid("sampling.logit_bias", problem));
    }
    let mut logit_bias: Vec<(u32, f32)> = asked.logit_bias.into_iter().collect();
    logit_bias.sort_unstable_by_key(|(token, _)| *token); // so that the same one is named where several are at fault
    let top_logprobs = request.top_logprobs.map(|top| u8::try_from(top).unwrap_or(u8::MAX)); // refused below, if so many
    let sampling = Sampling {
        temperature: asked.temperature.unwrap_or(1.0),
        top_p: asked.top_p.unwrap_or(1.0),
        top_k: asked.top_k,
        min_p: asked.min_p,
        frequency_penalty: asked.frequency_penalty,
        presence_penalty: asked.presence_penalty,
        repetition_penalty: asked.repetition_penalty.unwrap_or(1.0),
        logit_bias,
        seed: asked.seed.unwrap_or_else(fresh_seed),
        min_tokens: request.stop.as_ref().map_or(0, |stop| stop.min_tokens),
        top_logprobs,
    };
    match sampling.check(vocabulary_size as usize) {
        Ok(()) => Ok(sampling),
        Err(invalid) if invalid.field == "top_logprobs" => Err(Error::invalid(invalid.field, invalid.problem)),
        Err(invalid) => Err(Error::invalid(format!("sampling.{}", invalid.field), invalid.problem)),
    }
}

/// What ends a continuation.
///
/// # Errors
/// [`Error::InvalidValue`] and [`Error::TokenIdOutOfRange`].
pub fn stop(asked: Option<proto::Stop>, vocabulary_size: u32) -> Result<Stop, Error> {
    let asked = asked.unwrap_or_default();
    let count = |field: &str, actual: usize, limit: usize| {
        let problem = || format!("has {actual} entries, it may have at most {limit}");
        if actual > limit { Err(Error::invalid(field, problem())) } else { Ok(()) }
    };
    count("stop.strings", asked.strings.len(), MAX_STOP_STRINGS)?;
    count("stop.token_ids", asked.token_ids.len(), MAX_STOP_IDS)?;
    let fits = |string: &String| (1..=MAX_STOP_STRING_BYTES).contains(&string.len());
    if let Some(i) = asked.strings.iter().position(|string| !fits(string)) {
        let bytes = asked.strings[i].len();
        let problem = format!("has {bytes} bytes, it must have 1 to {MAX_STOP_STRING_BYTES}");
        return Err(Error::invalid(format!("stop.strings[{i}]"), problem));
    }
    known_ids("stop.token_ids", &asked.token_ids, vocabulary_size)?;
    Ok(Stop { strings: asked.strings, token_ids: asked.token_ids, ignore_eos: asked.ignore_eos })
}

/// Holds ids against the vocabulary.
///
/// # Errors
/// [`Error::TokenIdOutOfRange`].
pub fn known_ids(field: &str, ids: &[u32], vocabulary_size: u32) -> Result<(), Error> {
    match ids.iter().position(|id| *id >= vocabulary_size) {
        None => Ok(()),
        Some(place) => {
            let field = field.to_owned();
            Err(Error::TokenIdOutOfRange { field, place, actual: ids[place], limit: vocabulary_size })
        }
    }
}

/// How long prompt and continuation may become together, in tokens.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// How many continuations there are to be.
    pub choices: usize,
    /// Of each of them.
    pub each: usize,
    /// If there were one alone.
    pub alone: usize,
}

/// Most tokens of each continuation: what was asked, or the default, or what the prompt leaves of the room.
///
/// # Errors
/// [`Error::PromptTooLong`] when prompt and continuation do not fit, and [`Error::InvalidValue`] when so many do not.
pub fn max_tokens(field: &'static str, asked: u32, prompt: usize, default: usize, room: Room) -> Result<usize, Error> {
    let left = room.each.saturating_sub(prompt);
    let (wanted, least) = match asked as usize {
        0 => (default.min(left), 1),
        asked => (asked, asked),
    };
    let (tokens, Room { choices, each, alone }) = (prompt + least, room);
    if least <= left {
        Ok(wanted)
    } else if tokens <= alone {
        let problem =
            format!("is {choices}: so many may have {each} tokens each with their prompt, and these have {tokens}");
        Err(Error::invalid("choices", problem))
    } else {
        Err(Error::PromptTooLong { field, prompt, max_tokens: least, limit: alone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_has_the_contracts_defaults() {
        let sampling = sampling(&proto::GenerateRequest::default(), 10, || 42).unwrap();
        let defaults = Sampling { temperature: 1.0, seed: 42, ..Sampling::default() };
        assert_eq!(sampling, defaults);
        assert_eq!(stop(None, 10), Ok(Stop::default()));
        assert_eq!(choices(0, 4), Ok(1));
    }

    #[test]
    fn many_empty_messages_are_much_to_tokenize() {
        let empty = Message { role: Role::User, content: String::new() };
        assert!(Prompt::Conversation(vec![empty.clone(); 1000]).bytes() > 10_000);
        assert!(Prompt::Conversation(vec![empty]).bytes() < 100);
    }

    #[test]
    fn a_continuation_has_what_the_prompt_leaves() {
        let room = Room { choices: 1, each: 100, alone: 100 };
        let of = |asked, prompt| max_tokens("text", asked, prompt, 50, room);
        let too_long = |prompt, max_tokens| Err(Error::PromptTooLong { field: "text", prompt, max_tokens, limit: 100 });
        assert_eq!(of(0, 10), Ok(50));
        assert_eq!(of(0, 99), Ok(1));
        assert_eq!(of(0, 100), too_long(100, 1));
        assert_eq!(of(90, 10), Ok(90));
        assert_eq!(of(91, 10), too_long(10, 91));
        let of_four = |asked, prompt| max_tokens("text", asked, prompt, 50, Room { choices: 4, each: 40, alone: 100 });
        assert_eq!(of_four(0, 10), Ok(30));
        assert_eq!(of_four(30, 10), Ok(30));
        assert!(matches!(of_four(31, 10), Err(Error::InvalidValue { field, .. }) if field == "choices"));
        assert!(matches!(of_four(0, 40), Err(Error::InvalidValue { field, .. }) if field == "choices"));
        assert_eq!(of_four(91, 10), too_long(10, 91));
    }
}
