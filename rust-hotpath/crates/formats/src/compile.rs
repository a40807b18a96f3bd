//! Schemas as parsers, by llguidance: how one is compiled, and how a text follows it.

use std::{fmt, sync::Arc};

use hotpath_generation::{AHEAD, Ahead, Format, Grammar, Mask};
use llguidance::{
    Logger, Matcher, ParserFactory, TokenParser,
    api::{GrammarInit, ParserLimits, TopLevelGrammar},
    toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenizerEnv},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::schema::Refusal;

/// What one format may cost. A mask takes microseconds as a rule, and some 50 ms at these limits.
const LIMITS: ParserLimits = ParserLimits {
    max_items_in_row: 2000,
    initial_lexer_fuel: 1_000_000,
    step_lexer_fuel: 200_000,
    step_max_items: 50_000,
    max_lexer_states: MOST_STATES,
    max_grammar_size: 500_000,
    precompute_large_lexemes: true,
    verbose_errors: false, // they would bring texts into logs
};

/// States that a text may come to. A string that is counted takes some three for each character.
pub(crate) const MOST_STATES: usize = 40_000;

/// What a state takes, as measured: 600 bytes for counted strings, up to 1050 for remainders.
const STATE_BYTES: usize = 1100;

/// What a text takes beside its states: what it was, and what it may be, place by place.
const TEXT_BYTES: usize = 1 << 20;

/// A vocabulary, as compilers need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tokens {
    /// The bytes of every token, by id.
    pub bytes: Vec<Vec<u8>>,
    /// Those that end a text; at least one.
    pub stop_ids: Vec<u32>,
}

/// A schema that is understood, and what its texts may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Source {
    /// In the compiler's keywords.
    pub schema: Value,
    /// States that a text may come to.
    pub states: usize,
}

impl Source {
    /// Most memory that a text takes.
    pub(crate) fn text_bytes(&self) -> usize {
        TEXT_BYTES + self.states * STATE_BYTES
    }
}

/// Compiles schemas for one vocabulary.
pub(crate) struct Compiler {
    factory: ParserFactory,
    tokens: TokEnv,
    stop_ids: Arc<[u32]>,
}

/// A text that llguidance follows.
struct Following {
    matcher: Matcher,
    tokens: TokEnv,
    stop_ids: Arc<[u32]>,
}

impl Compiler {
    /// Reads a vocabulary, which takes a tenth of a second.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(tokens: &Tokens) -> Result<Self, String> {
        Self::with(tokens, Spelling::new)
    }

    /// One whose texts are chosen token by token, as an oracle.
    #[cfg(test)]
    pub(crate) fn without_forcing(tokens: &Tokens) -> Result<Self, String> {
        Self::with(tokens, |trie| Spelling { trie, spells_all: false })
    }

    fn with(tokens: &Tokens, spelling: impl FnOnce(TokTrie) -> Spelling) -> Result<Self, String> {
        let end = *tokens.stop_ids.first().ok_or("the model has no stop id, so no text of it ends by itself")?;
        let size = u32::try_from(tokens.bytes.len()).map_err(|error| error.to_string())?;
        let mut bytes = tokens.bytes.clone();
        for stop in &tokens.stop_ids {
            bytes.get_mut(*stop as usize).into_iter().for_each(Vec::clear); // they end a text, and spell none
        }
        let trie = TokTrie::from(&TokRxInfo::new(size, end), &bytes);
        let tokens_of: TokEnv = Arc::new(spelling(trie));
        let mut factory = ParserFactory::new_simple(&tokens_of).map_err(words)?;
        factory.quiet();
        Ok(Self { factory, tokens: tokens_of, stop_ids: tokens.stop_ids.as_slice().into() })
    }

    /// A parser at the beginning of a text.
    ///
    /// # Errors
    /// Why there is none, in words that continue a sentence.
    pub(crate) fn parser(&self, source: &Source) -> Result<TokenParser, String> {
        let mut schema = source.schema.clone();
        // The library's own settings: between two tokens of JSON there is nothing, so that no text is spaces without end; and
        // what is not understood is refused.
        schema["x-guidance"] = json!({"whitespace_flexible": false, "lenient": false});
        let grammar = GrammarInit::Serialized(TopLevelGrammar::from_json_schema(schema));
        let limits = ParserLimits { max_lexer_states: source.states, ..LIMITS };
        let (logger, capabilities) = (Logger::new(0, 0), InferenceCapabilities::default());
        self.factory.create_parser_from_init_ext(grammar, logger, capabilities, limits).map_err(words)
    }

    /// A format, and the memory that it takes.
    ///
    /// # Errors
    /// Why there is none, in words that continue a sentence.
    pub(crate) fn format(&self, source: &Source) -> Result<(Format, usize), String> {
        let parser = self.parser(source)?;
        let stats = parser.parser.lexer_stats();
        let matcher = Matcher::new(Ok(parser));
        let following = Following { matcher, tokens: self.tokens.clone(), stop_ids: self.stop_ids.clone() };
        let format = Format::new(Box::new(following));
        let bytes = 2 * stats.num_bytes + 1024 * stats.num_regexps + 64 * 1024;
        Ok((format.map_err(|invalid| invalid.0)?, bytes))
    }

    pub(crate) fn stop_id(&self) -> u32 {
        self.stop_ids[0]
    }
}

impl Following {
    fn mask(&mut self) -> Result<Mask, String> {
        let mask = self.matcher.compute_mask_or_eos().map_err(words)?;
        let mut masks = mask.as_slice().to_vec();
        let end = self.stop_ids[0];
        let may_end = masks.get(end as usize / 32).is_some_and(|word| word >> (end % 32) & 1 == 1);
        for stop in &*self.stop_ids {
            if let Some(word) = masks.get_mut(*stop as usize / 32) {
                let bit = 1 << (stop % 32);
                *word = if may_end { *word | bit } else { *word & !bit };
            }
        }
        Ok(masks.into())
    }
}

impl Grammar for Following {
    fn push(&mut self, token: u32) -> Result<(), String> {
        self.matcher.consume_token(token).map_err(words)
    }

    fn ahead(&mut self) -> Result<Ahead, String> {
        let mut forced = self.matcher.compute_ff_tokens();
        forced.truncate(AHEAD);
        self.matcher.consume_tokens(&forced).map_err(words)?;
        let mask = self.mask()?;
        // Bytes of which there is no choice, but with which a longer token may begin.
        let rest = self.tokens.tokenize_bytes(&self.matcher.compute_ff_bytes());
        let is_allowed = |token: &u32| mask.get(*token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1);
        Ok(Ahead { forced, likely: rest.first().copied().filter(is_allowed), mask })
    }

    fn fork(&self) -> Box<dyn Grammar> {
        // Deep: what one text learns of the grammar is locked for no other, and told to none.
        let (tokens, stop_ids) = (self.tokens.clone(), self.stop_ids.clone());
        Box::new(Self { matcher: self.matcher.deep_clone(), tokens, stop_ids })
    }
}

/// Most tokens of a spelling. The library has the text's last one spelt along, and takes up to four back from the end.
const SPELT: usize = 2 * AHEAD;

/// Spells what a text must have by the longest tokens, one after the other. Where the library knows how that is spelt, it leaves
/// no choice of the tokens whose bytes must all come; those with which a longer one may begin are a choice like any other.
struct Spelling {
    trie: TokTrie,
    /// Whether all of ASCII can be spelt. Where another byte of a text is in no token, that text cannot be, however it is chosen.
    spells_all: bool,
}

impl Spelling {
    fn new(trie: TokTrie) -> Self {
        let spells_all = (b' '..=b'~').all(|byte| trie.token_id_at_bytes(&[byte]).is_some());
        Self { trie, spells_all }
    }
}

impl TokenizerEnv for Spelling {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, mut bytes: &[u8]) -> Vec<u32> {
        let mut tokens = Vec::new();
        while !bytes.is_empty() && tokens.len() < SPELT {
            let (token, length) = self.trie.prefix_token_id(bytes);
            if length == 0 {
                break; // no token has this byte
            }
            tokens.push(token);
            bytes = &bytes[length..];
        }
        tokens
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.spells_all
    }
}

impl fmt::Debug for Compiler {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Compiler").field("stop_ids", &self.stop_ids).finish_non_exhaustive()
    }
}

impl fmt::Debug for Following {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Following").finish_non_exhaustive()
    }
}

/// The library's words for what a schema is refused for, in ours where its own are about the library.
pub(crate) fn refusal(words: &str, one_of: &[String]) -> Refusal {
    let has = |part: &str| words.contains(part);
    let (path, problem) = if has("oneOf constraints") {
        let problem =
            "has branches that are not known to exclude each other; say `anyOf`, or a `const` in each that differs";
        (one_of.join("` or `"), problem.to_owned())
    } else if has("NoExtensionBias") {
        (String::new(), "allows no text: what it requires cannot come to an end".to_owned())
    } else if let Some((_, why)) = words.split_once("Unsatisfiable schema: ") {
        (String::new(), format!("allows no text: {}", why.lines().next().unwrap_or_default()))
    } else if has("Unable to determine if regex is empty") {
        let problem = "has a string whose `pattern`, `format` and lengths together cost too much to tell whether any text obeys them";
        (String::new(), problem.to_owned())
    } else if has("too many")
        || has("too large")
        || has("too big")
        || has("exhausted")
        || has("level exceeded")
        || has("fuel")
    {
        (String::new(), format!("costs too much to follow: {}", words.lines().next().unwrap_or_default()))
    } else {
        (String::new(), words.lines().next().unwrap_or_default().to_owned())
    };
    Refusal { path, problem }
}

/// The library's words, without what it adds in tags, and without advice on options of its own.
#[allow(clippy::needless_pass_by_value)] // as `map_err` hands it over
pub(crate) fn words(error: impl ToString) -> String {
    let words = error.to_string();
    let words = words.split("\n<").next().unwrap_or_default();
    words.split(". Enable '").next().unwrap_or_default().trim().to_owned()
}
