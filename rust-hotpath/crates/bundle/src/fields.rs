//! Checks of a manifest's fields, which everything that reads one uses. Each names its field.

use std::ops::RangeInclusive;

use crate::Refused;

/// Whether a string may name a model, and so a folder.
#[must_use]
pub fn is_model_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 64
        && bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte))
}

pub(crate) fn check(holds: bool, field: &str, problem: impl FnOnce() -> String) -> Result<(), Refused> {
    if holds { Ok(()) } else { Err(Refused::manifest(field, problem())) }
}

pub(crate) fn required<T>(value: Option<T>, field: &str) -> Result<T, Refused> {
    value.ok_or_else(|| Refused::manifest(field, "is missing"))
}

pub(crate) fn text(value: String, field: &str) -> Result<String, Refused> {
    check(!value.is_empty(), field, || "is empty".to_owned())?;
    Ok(value)
}

pub(crate) fn positive(value: u32, field: &str) -> Result<u32, Refused> {
    check(value > 0, field, || "must be above 0".to_owned())?;
    Ok(value)
}

pub(crate) fn within(value: u32, range: RangeInclusive<u32>, field: &str) -> Result<u32, Refused> {
    check(range.contains(&value), field, || format!("{value} is not {} to {}", range.start(), range.end()))?;
    Ok(value)
}

pub(crate) fn sha256(value: String, field: &str) -> Result<String, Refused> {
    let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    check(value.len() == 64 && value.bytes().all(hexadecimal), field, || {
        format!("\"{value}\" is not 64 lower-case hexadecimal digits")
    })?;
    Ok(value)
}

/// Turns a number into an enum; zero, which every enum of the contract calls unspecified, is refused like an unknown
/// one.
pub(crate) fn enumerated<E: TryFrom<i32>>(value: i32, field: &str) -> Result<E, Refused> {
    let known = if value == 0 { None } else { E::try_from(value).ok() };
    known.ok_or_else(|| Refused::manifest(field, format!("value {value} is unspecified or unknown")))
}
