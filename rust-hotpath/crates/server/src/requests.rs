//! What a request must be before a model is asked. Each check names its field and its limit.

pub mod generate;

use hotpath_contract::inference::v1::{EmbedInput, Priority, Scheduling, embed_input};
use hotpath_fairness::{Class, Key, Turn};

use crate::error::Error;

/// Longest fairness key in bytes.
pub(crate) const MAX_FAIRNESS_KEY: usize = 128;

/// Greatest weight of a fairness key: its turn is so many quanta, and whoever weighs 1 waits for all of it.
const MAX_WEIGHT: u32 = 16;

/// Most tokens that a request may be charged; 0 for any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxCharge(usize);

impl MaxCharge {
    /// Whether a request may be charged so many.
    ///
    /// # Errors
    /// [`Error::ChargeTooHigh`].
    pub fn allows(self, tokens: usize) -> Result<(), Error> {
        let Self(limit) = self;
        if limit > 0 && tokens > limit { Err(Error::ChargeTooHigh { actual: tokens, limit }) } else { Ok(()) }
    }
}

/// One thing to embed; neither is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Text.
    Text(String),
    /// A text's ids.
    Ids(Vec<u32>),
}

/// Checks `scheduling`.
///
/// # Errors
/// [`Error::MissingField`] and [`Error::InvalidValue`].
pub fn scheduling(scheduling: Option<Scheduling>) -> Result<(Turn, MaxCharge), Error> {
    let scheduling = scheduling.ok_or(Error::MissingField { field: "scheduling" })?;
    let class = match scheduling.priority() {
        Priority::Interactive => Class::Interactive,
        Priority::Batch => Class::Batch,
        Priority::Unspecified => {
            return Err(Error::invalid("scheduling.priority", "must be PRIORITY_INTERACTIVE or PRIORITY_BATCH"));
        }
    };
    let length = scheduling.fairness_key.len();
    if length > MAX_FAIRNESS_KEY {
        let problem = format!("has {length} bytes, it may have at most {MAX_FAIRNESS_KEY}");
        return Err(Error::invalid("scheduling.fairness_key", problem));
    }
    let weight = scheduling.weight;
    if weight > MAX_WEIGHT {
        return Err(Error::invalid("scheduling.weight", format!("is {weight}, it may be at most {MAX_WEIGHT}")));
    }
    let key = Key::new(scheduling.fairness_key, weight);
    let max_charge = usize::try_from(scheduling.max_charge).unwrap_or(usize::MAX);
    Ok((Turn { class, key }, MaxCharge(max_charge)))
}

/// Checks what an Embed request holds.
///
/// # Errors
/// [`Error::EmptyInput`] and [`Error::TooManyInputs`].
pub fn inputs(inputs: Vec<EmbedInput>, max_inputs: usize) -> Result<Vec<Input>, Error> {
    count("inputs", inputs.len(), max_inputs)?;
    let one = |(i, input): (usize, EmbedInput)| match input.input {
        Some(embed_input::Input::Text(text)) if !text.is_empty() => Ok(Input::Text(text)),
        Some(embed_input::Input::TokenIds(ids)) if !ids.ids.is_empty() => Ok(Input::Ids(ids.ids)),
        _ => Err(Error::EmptyInput { field: format!("inputs[{i}]") }),
    };
    inputs.into_iter().enumerate().map(one).collect()
}

/// Checks what a Tokenize request holds.
///
/// # Errors
/// [`Error::EmptyInput`] and [`Error::TooManyInputs`].
pub fn texts(texts: &[String], max_inputs: usize) -> Result<(), Error> {
    count("texts", texts.len(), max_inputs)?;
    match texts.iter().position(String::is_empty) {
        None => Ok(()),
        Some(i) => Err(Error::EmptyInput { field: format!("texts[{i}]") }),
    }
}

fn count(field: &'static str, actual: usize, limit: usize) -> Result<(), Error> {
    match actual {
        0 => Err(Error::EmptyInput { field: field.to_owned() }),
        actual if actual > limit => Err(Error::TooManyInputs { field, actual, limit }),
        _ => Ok(()),
    }
}

/// The length of vectors that a request asks for; 0 asks for the full one.
///
/// # Errors
/// [`Error::DimensionsUnsupported`].
pub fn dimensions(asked: u32, supported: &[u32]) -> Result<u32, Error> {
    match asked {
        0 => Ok(supported[0]), // a manifest has at least one
        asked if supported.contains(&asked) => Ok(asked),
        actual => Err(Error::DimensionsUnsupported { actual, supported: supported.to_vec() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(scheduling: Option<Scheduling>) -> Result<Turn, Error> {
        super::scheduling(scheduling).map(|(turn, _)| turn)
    }

    fn scheduling(key: &str, priority: i32) -> Scheduling {
        Scheduling { fairness_key: key.to_owned(), priority, ..Scheduling::default() }
    }

    #[test]
    fn a_turn_needs_a_priority_and_a_short_key() {
        let (interactive, batch) = (Priority::Interactive as i32, Priority::Batch as i32);
        assert_eq!(
            turn(Some(scheduling("", interactive))).unwrap(),
            Turn { class: Class::Interactive, key: "".into() }
        );
        assert_eq!(turn(Some(scheduling(&"k".repeat(128), batch))).unwrap().class, Class::Batch);
        assert!(matches!(turn(None), Err(Error::MissingField { field: "scheduling" })));
        for priority in [0, 3, -1, i32::MAX] {
            let unknown = turn(Some(scheduling("", priority))).unwrap_err();
            assert!(matches!(&unknown, Error::InvalidValue { field, .. } if field == "scheduling.priority"));
        }
        let long = turn(Some(scheduling(&"k".repeat(129), batch))).unwrap_err();
        assert!(matches!(&long, Error::InvalidValue { field, .. } if field == "scheduling.fairness_key"));
    }

    #[test]
    fn a_weight_is_bounded() {
        let of = |weight| turn(Some(Scheduling { weight, ..scheduling("", Priority::Batch as i32) }));
        assert!(of(0).is_ok() && of(16).is_ok());
        assert!(matches!(of(17), Err(Error::InvalidValue { field, .. }) if field == "scheduling.weight"));
    }

    #[test]
    fn a_charge_is_bounded_if_it_is_said() {
        assert_eq!(MaxCharge(0).allows(usize::MAX), Ok(()));
        assert_eq!(MaxCharge(7).allows(7), Ok(()));
        assert_eq!(MaxCharge(7).allows(8), Err(Error::ChargeTooHigh { actual: 8, limit: 7 }));
    }

    #[test]
    fn the_number_of_inputs_is_bounded_on_both_sides() {
        let many = |n: usize| vec!["a".to_owned(); n];
        assert_eq!(texts(&many(3), 3), Ok(()));
        assert_eq!(texts(&many(4), 3), Err(Error::TooManyInputs { field: "texts", actual: 4, limit: 3 }));
        assert_eq!(texts(&[], 3), Err(Error::EmptyInput { field: "texts".to_owned() }));
        assert_eq!(texts(&["a".into(), String::new()], 3), Err(Error::EmptyInput { field: "texts[1]".to_owned() }));
    }

    #[test]
    fn dimensions_are_those_of_the_manifest() {
        assert_eq!(dimensions(0, &[384, 128]), Ok(384));
        assert_eq!(dimensions(128, &[384, 128]), Ok(128));
        assert!(matches!(dimensions(100, &[384, 128]), Err(Error::DimensionsUnsupported { actual: 100, .. })));
    }
}
