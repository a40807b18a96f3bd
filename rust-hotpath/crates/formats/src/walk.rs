//! A dry run of a format: some texts of it, followed as far as time allows, so that what fails in the middle of a text fails
//! before one begins. And how many states such texts take, from which follows what any may.

use std::time::{Duration, Instant};

use llguidance::{TokenParser, api::StopReason};

use crate::compile::{Compiler, MOST_STATES, Source, Tokens, refusal, words};
use crate::schema::{Checked, Refusal};

/// Most tokens of a text.
const TOKENS: usize = 64;

/// Time for all texts together.
const TIME: Duration = Duration::from_millis(250);

/// States that a text may come to in any case, whatever those of the dry run did.
const SPARE_STATES: usize = 4000;

/// How many times as many states a text may take as the greediest of the dry run.
const MARGIN: usize = 4;

/// States that a character of a counted string takes; measured to be 3.2.
const STATES_PER_CHARACTER: usize = 4;

/// What a text is made of. Whatever is allowed at all is among what each of them would say.
#[derive(Debug, Clone, Copy)]
enum Taste {
    /// Any token.
    Anything,
    /// What JSON is built with, and no more closing than there must be.
    Structure,
    /// The token of most bytes.
    Longest,
    /// The token of fewest bytes.
    Shortest,
}

/// Follows some texts.
///
/// # Errors
/// [`Refusal`] when there is no parser, or a text fails.
pub(crate) fn prove(compiler: &Compiler, tokens: &Tokens, checked: Checked) -> Result<Source, Refusal> {
    let refused = |problem: String| refusal(&problem, &checked.one_of);
    let mut source = Source { schema: checked.schema, states: MOST_STATES };
    let mut parser = compiler.parser(&source).map_err(refused)?;
    parser.start_without_prompt();
    let until = Instant::now() + TIME;
    let mut states = 0;
    let tastes = [Taste::Structure, Taste::Anything, Taste::Longest, Taste::Shortest, Taste::Structure];
    for (seed, taste) in (1..).zip(tastes) {
        let text = parser.deep_clone();
        states = states.max(follow(text, compiler, tokens, taste, seed, until).map_err(refused)?);
    }
    #[allow(clippy::cast_possible_truncation)] // bounded by the check
    let counted = checked.characters as usize * STATES_PER_CHARACTER;
    source.states = (SPARE_STATES + MARGIN * states + counted).min(MOST_STATES);
    Ok(source)
}

/// Follows one text; gives its states.
fn follow(
    mut text: TokenParser,
    compiler: &Compiler,
    tokens: &Tokens,
    taste: Taste,
    mut random: u64,
    until: Instant,
) -> Result<usize, String> {
    for _ in 0..TOKENS {
        if text.stop_reason() != StopReason::NotStopped || Instant::now() >= until {
            break;
        }
        let mask = text.compute_mask().map_err(words)?;
        let allowed: Vec<u32> = mask.iter().filter(|id| *id != compiler.stop_id()).collect();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let Some(token) = choose(&allowed, tokens, taste, random) else {
            let ends = mask.is_allowed(compiler.stop_id());
            return if ends { Ok(states(&text)) } else { Err("NoExtensionBias".to_owned()) };
        };
        text.consume_token(token).and_then(|_| text.check_stop()).map_err(words)?;
    }
    Ok(states(&text))
}

fn states(text: &TokenParser) -> usize {
    text.parser.lexer_stats().num_states
}

fn choose(allowed: &[u32], tokens: &Tokens, taste: Taste, random: u64) -> Option<u32> {
    let bytes = |id: &u32| tokens.bytes.get(*id as usize).map_or(&[][..], Vec::as_slice);
    #[allow(clippy::cast_possible_truncation)] // the upper half
    let any = |ids: &[u32]| ids.get((random >> 32) as usize % ids.len().max(1)).copied();
    let builds =
        |id: &&u32| !bytes(id).is_empty() && bytes(id).iter().all(|byte| b"\",:{[0123456789tfn".contains(byte));
    match taste {
        Taste::Anything => any(allowed),
        Taste::Structure => {
            let structure: Vec<u32> = allowed.iter().filter(builds).copied().collect();
            any(&structure).or_else(|| any(allowed))
        }
        Taste::Longest => allowed.iter().max_by_key(|id| bytes(id).len()).copied(),
        Taste::Shortest => allowed.iter().min_by_key(|id| bytes(id).len()).copied(),
    }
}
