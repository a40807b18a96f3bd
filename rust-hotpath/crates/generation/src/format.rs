//! What a continuation's text must parse as: which tokens may come next, so that it does.

use std::{fmt, sync::Arc};

use hotpath_text::Vocabulary;
use llguidance::{
    Matcher, ParserFactory,
    api::{ParserLimits, TopLevelGrammar},
    toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie},
};
use serde_json::{Value, json};

/// What one format may cost. A mask takes microseconds as a rule, and at these limits some 50 ms; a text's states take some
/// 60 MB at most.
const LIMITS: ParserLimits = ParserLimits {
    max_items_in_row: 2000,
    initial_lexer_fuel: 1_000_000,
    step_lexer_fuel: 200_000,
    step_max_items: 50_000,
    max_lexer_states: 40_000, // a string of bounded length has a few for each of its characters
    max_grammar_size: 500_000,
    precompute_large_lexemes: true,
    verbose_errors: false, // they would bring texts into logs
};

/// Compiles formats for one vocabulary.
pub struct Formats {
    factory: ParserFactory,
    stop_ids: Arc<[u32]>,
    json_object: Format,
}

/// Which tokens may come next: bit `id % 32` of word `id / 32`.
pub type Mask = Arc<[u32]>;

/// A text that must parse, in the making. The seam between the engine and llguidance, so that the engine is tested with
/// formats that are slow, or fail, on demand.
pub trait Grammar: fmt::Debug + Send + Sync {
    /// Appends a token, which is no stop id.
    ///
    /// # Errors
    /// Why that is not possible, in words that continue a sentence.
    fn push(&mut self, token: u32) -> Result<(), String>;

    /// Which tokens may come next; where the text is complete, every stop id.
    ///
    /// # Errors
    /// Why that cannot be said, in words that continue a sentence.
    fn mask(&mut self) -> Result<Mask, String>;

    /// The same text once more.
    fn fork(&self) -> Box<dyn Grammar>;
}

/// What a text must parse as, with what it may begin with.
#[derive(Clone)]
pub struct Format {
    beginning: Arc<dyn Grammar>,
    mask: Mask,
}

/// A format that cannot be kept to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidFormat(pub String);

/// A text that llguidance follows.
struct Following {
    matcher: Matcher,
    stop_ids: Arc<[u32]>,
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
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&environment).map_err(invalid)?;
        factory.quiet();
        *factory.limits_mut() = LIMITS;
        let stop_ids: Arc<[u32]> = stop_ids.into();
        let json_object = compile(&factory, &stop_ids, json!({"type": "object"}))?;
        Ok(Self { factory, stop_ids, json_object })
    }

    /// Any JSON object.
    #[must_use]
    pub fn json_object(&self) -> Format {
        self.json_object.clone()
    }

    /// What a JSON Schema allows. Takes up to a tenth of a second: not to be called where others wait.
    ///
    /// # Errors
    /// [`InvalidFormat`] when it is no schema, or one that is not understood in full, or too costly.
    pub fn json_schema(&self, schema: &str) -> Result<Format, InvalidFormat> {
        let schema = serde_json::from_str(schema).map_err(|error| InvalidFormat(error.to_string()))?;
        compile(&self.factory, &self.stop_ids, schema)
    }
}

fn compile(factory: &ParserFactory, stop_ids: &Arc<[u32]>, mut schema: Value) -> Result<Format, InvalidFormat> {
    check_counts(&schema)?;
    let Some(fields) = schema.as_object_mut() else {
        return Err(InvalidFormat("is no JSON object".to_owned()));
    };
    // The library's own settings: between two tokens of JSON there is one space or nothing, so that no text is spaces
    // without end; and what is not understood is refused.
    let settings = json!({"whitespace_flexible": false, "lenient": false});
    fields.insert("x-guidance".to_owned(), settings);
    let parser = factory.create_parser(TopLevelGrammar::from_json_schema(schema)).map_err(invalid)?;
    let matcher = Matcher::new(Ok(parser));
    match matcher.get_error() {
        None => Format::new(Box::new(Following { matcher, stop_ids: stop_ids.clone() })),
        Some(error) => Err(invalid(error)),
    }
}

/// Refuses what the library takes and may not keep to: it lets names repeat, and a parser counts each only once. So none
/// but the required properties are sure to count.
fn check_counts(schema: &Value) -> Result<(), InvalidFormat> {
    match schema {
        Value::Array(schemas) => schemas.iter().try_for_each(check_counts),
        Value::Object(fields) => {
            let required = fields.get("required").and_then(Value::as_array).map_or(0, Vec::len);
            if fields.get("minProperties").and_then(Value::as_u64).is_some_and(|least| least > required as u64) {
                let problem = format!("minProperties is above the number of required properties, {required}");
                return Err(InvalidFormat(problem));
            }
            let of_schemas = fields.iter().filter(|(name, _)| !matches!(name.as_str(), "const" | "enum"));
            of_schemas.map(|(_, value)| value).try_for_each(check_counts)
        }
        _ => Ok(()),
    }
}

impl Format {
    /// The format of texts that go on as this one does.
    ///
    /// # Errors
    /// [`InvalidFormat`] when it is not known how they may begin.
    pub fn new(mut beginning: Box<dyn Grammar>) -> Result<Self, InvalidFormat> {
        let mask = beginning.mask().map_err(InvalidFormat)?;
        Ok(Self { beginning: beginning.into(), mask })
    }

    /// An empty text, to be forked.
    pub(crate) fn beginning(&self) -> Arc<dyn Grammar> {
        self.beginning.clone()
    }

    /// What a text may begin with.
    pub(crate) fn mask(&self) -> Mask {
        self.mask.clone()
    }
}

impl Grammar for Following {
    fn push(&mut self, token: u32) -> Result<(), String> {
        self.matcher.consume_token(token).map_err(problem)
    }

    fn mask(&mut self) -> Result<Mask, String> {
        let mask = self.matcher.compute_mask_or_eos().map_err(problem)?;
        let mut words = mask.as_slice().to_vec();
        let end = self.stop_ids[0];
        let may_end = words.get(end as usize / 32).is_some_and(|word| word >> (end % 32) & 1 == 1);
        for stop in &*self.stop_ids {
            if let Some(word) = words.get_mut(*stop as usize / 32) {
                let bit = 1 << (stop % 32);
                *word = if may_end { *word | bit } else { *word & !bit };
            }
        }
        Ok(words.into())
    }

    fn fork(&self) -> Box<dyn Grammar> {
        // Deep: what one text learns of the grammar is locked for no other.
        Box::new(Self { matcher: self.matcher.deep_clone(), stop_ids: self.stop_ids.clone() })
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

/// The library's words, without what it adds in tags, and without advice on options of its own.
#[allow(clippy::needless_pass_by_value)] // as `map_err` hands it over
fn problem(error: impl ToString) -> String {
    let words = error.to_string();
    let words = words.split("\n<").next().unwrap_or_default();
    words.split(". Enable '").next().unwrap_or_default().trim().to_owned()
}

fn invalid(error: impl ToString) -> InvalidFormat {
    InvalidFormat(problem(error))
}

#[cfg(test)]
mod tests {
    use hotpath_testing::generation_bundle;
    use hotpath_text::Tokenizer;

    use super::*;

    #[test]
    fn a_schema_that_costs_too_much_is_given_up_in_words() {
        let bundle = generation_bundle();
        let vocabulary = Vocabulary::load(&bundle, &Tokenizer::load(&bundle).unwrap()).unwrap();
        let formats = Formats::new(&vocabulary, &bundle.manifest.generation().unwrap().stop_token_ids).unwrap();
        // How much of it must be remembered grows with each letter.
        let schema = json!({"type": "string", "pattern": "^(.*a.{20}|.*b.{15}|[^c]*d.{12})*$"});
        let format = formats.json_schema(&schema.to_string()).unwrap();
        let (mut text, mut mask) = (format.beginning().fork(), format.mask());
        let letters: Vec<u32> =
            vocabulary.ids().filter(|id| matches!(vocabulary.bytes(*id), b"a" | b"b" | b"d")).collect();
        let mut end = String::new();
        for place in 0..200 {
            let allowed = |id: &&u32| mask[**id as usize / 32] >> (**id % 32) & 1 == 1;
            let mut choices = letters.iter().cycle().skip(place * place % 7).take(letters.len());
            let quote = vocabulary.ids().find(|id| vocabulary.bytes(*id) == b"\"").unwrap();
            let token = choices.find(allowed).copied().unwrap_or(quote);
            match text.push(token).and_then(|()| text.mask()) {
                Ok(next) => mask = next,
                Err(problem) => {
                    end = problem;
                    break;
                }
            }
        }
        assert!(end.contains("too many") && !end.contains(['<', '\n']), "{end:?}");
    }
}
