//! What a continuation's text must parse as: which tokens may come next, so that it does.

use std::fmt;

use hotpath_text::Vocabulary;
use llguidance::{
    Matcher, ParserFactory,
    api::TopLevelGrammar,
    toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie},
};
use serde_json::{Value, json};

/// Compiles formats for one vocabulary.
pub struct Formats {
    factory: ParserFactory,
    stop_ids: Vec<u32>,
}

/// A format, at the beginning of a text.
#[derive(Clone)]
pub struct Format {
    matcher: Matcher,
    stop_ids: Vec<u32>,
}

/// A format that cannot be kept to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidFormat(pub String);

/// A text that must parse, in the making.
pub(crate) struct Following {
    format: Format,
    /// Bit `id % 32` of word `id / 32`: whether a token may come next.
    allowed: Vec<u32>,
}

impl Formats {
    /// Reads a vocabulary. Where a text is complete, `stop_ids` may come.
    ///
    /// # Errors
    /// [`InvalidFormat`] when no stop id could end a text.
    pub fn new(vocabulary: &Vocabulary, stop_ids: &[u32]) -> Result<Self, InvalidFormat> {
        let Some(end) = stop_ids.first() else {
            return Err(InvalidFormat("the model has no stop id, so no text of it ends by itself".to_owned()));
        };
        let tokens: Vec<Vec<u8>> = vocabulary.ids().map(|id| vocabulary.bytes(id).to_vec()).collect();
        let trie = TokTrie::from(&TokRxInfo::new(vocabulary.ids().end, *end), &tokens);
        let environment: TokEnv = std::sync::Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&environment).map_err(invalid)?;
        factory.quiet();
        Ok(Self { factory, stop_ids: stop_ids.to_vec() })
    }

    /// Any JSON object.
    ///
    /// # Errors
    /// As [`Formats::json_schema`]; none is known.
    pub fn json_object(&self) -> Result<Format, InvalidFormat> {
        self.compile(json!({"type": "object"}))
    }

    /// What a JSON Schema allows.
    ///
    /// # Errors
    /// [`InvalidFormat`] when it is no schema, or one that is not understood in full.
    pub fn json_schema(&self, schema: &str) -> Result<Format, InvalidFormat> {
        self.compile(serde_json::from_str(schema).map_err(|error| InvalidFormat(error.to_string()))?)
    }

    fn compile(&self, mut schema: Value) -> Result<Format, InvalidFormat> {
        let Some(fields) = schema.as_object_mut() else {
            return Err(InvalidFormat("is no JSON object".to_owned()));
        };
        // The library's own settings: between two tokens of JSON there is one space or nothing, so that no text is spaces
        // without end; and what is not understood is refused.
        let settings = json!({"whitespace_flexible": false, "lenient": false});
        fields.insert("x-guidance".to_owned(), settings);
        let parser = self.factory.create_parser(TopLevelGrammar::from_json_schema(schema)).map_err(invalid)?;
        let matcher = Matcher::new(Ok(parser));
        match matcher.get_error() {
            None => Ok(Format { matcher, stop_ids: self.stop_ids.clone() }),
            Some(error) => Err(InvalidFormat(error)),
        }
    }
}

impl Following {
    /// A text that begins.
    pub(crate) fn new(format: &Format) -> Self {
        // Deep: what one text learns of the grammar is locked for no other.
        let matcher = format.matcher.deep_clone();
        Self { format: Format { matcher, stop_ids: format.stop_ids.clone() }, allowed: Vec::new() }
    }

    /// Which tokens may come next. A text that is complete may end by any of the model's stop ids.
    pub(crate) fn allowed(&mut self) -> Result<&[u32], String> {
        let mask = self.format.matcher.compute_mask_or_eos().map_err(|error| error.to_string())?;
        self.allowed.clear();
        self.allowed.extend_from_slice(mask.as_slice());
        let end = self.format.stop_ids[0];
        let may_end = self.allowed.get(end as usize / 32).is_some_and(|word| word >> (end % 32) & 1 == 1);
        for stop in &self.format.stop_ids {
            if let Some(word) = self.allowed.get_mut(*stop as usize / 32) {
                let bit = 1 << (stop % 32);
                *word = if may_end { *word | bit } else { *word & !bit };
            }
        }
        Ok(&self.allowed)
    }

    /// Appends a token.
    pub(crate) fn push(&mut self, token: u32) -> Result<(), String> {
        self.format.matcher.consume_token(token).map_err(|error| error.to_string())
    }
}

impl fmt::Debug for Formats {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Formats").field("stop_ids", &self.stop_ids).finish_non_exhaustive()
    }
}

impl fmt::Debug for Format {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Format").finish_non_exhaustive()
    }
}

impl fmt::Debug for Following {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Following").finish_non_exhaustive()
    }
}

#[allow(clippy::needless_pass_by_value)] // as `map_err` hands it over
fn invalid(error: impl ToString) -> InvalidFormat {
    InvalidFormat(error.to_string())
}
