//! What may be counted to, and what no value can be.

use serde_json::{Map, Value};

use super::{MAX_CHARACTERS, MAX_LENGTH, MAX_MULTIPLE, Outcome, Walker, pattern};

impl Walker<'_> {
    pub(super) fn pattern(&mut self, value: &Value) -> Outcome<()> {
        match value.as_str() {
            Some(pattern) => self.one_pattern(pattern),
            None => self.fault("must be a string"),
        }
    }

    pub(super) fn one_pattern(&mut self, pattern: &str) -> Outcome<()> {
        match pattern::length(pattern) {
            Ok(length) => self.counts_to(0, Some(length), pattern),
            Err(problem) => self.unsupported(problem),
        }
    }

    /// Takes note of what a string is counted to.
    pub(super) fn counts_to(&mut self, least: u64, most: Option<u64>, pattern: &str) -> Outcome<()> {
        if self.lengths.insert((least, most, pattern.to_owned())) {
            self.characters = self.characters.saturating_add(most.unwrap_or(least));
        }
        if self.characters > MAX_CHARACTERS {
            let problem = "characters in all, as the lengths of its strings and the repetitions in its patterns say; it may count";
            return self.fault(format!("makes the schema count {} {problem} {MAX_CHARACTERS}", self.characters));
        }
        Ok(())
    }

    pub(super) fn multiple(&self, value: &Value) -> Outcome<()> {
        let Some(number) = value.as_f64().filter(|number| *number > 0.0) else {
            return self.fault("must be a number above 0");
        };
        let digits = number.to_string().replace('.', "");
        if digits.trim_start_matches('0').parse::<u64>().is_ok_and(|digits| digits <= MAX_MULTIPLE) {
            return Ok(());
        }
        self.unsupported(format!("is {number}; without its point it may be at most {MAX_MULTIPLE}"))
    }

    /// Refuses what no value can be.
    pub(super) fn check_ranges(&mut self, fields: &Map<String, Value>) -> Outcome<()> {
        for (least, most) in [
            ("minimum", "maximum"),
            ("minLength", "maxLength"),
            ("minItems", "maxItems"),
            ("minProperties", "maxProperties"),
        ] {
            let number = |name: &str| fields.get(name).and_then(Value::as_f64);
            if let (Some(low), Some(high)) = (number(least), number(most))
                && low > high
            {
                return self.at(least, |walker| walker.unsupported(format!("is {low}, above {most}, {high}")));
            }
        }
        let length = |name: &str| fields.get(name).and_then(whole);
        let (least, most) = (length("minLength").unwrap_or(0), length("maxLength"));
        if least > MAX_LENGTH {
            let problem = format!("is {least}, it may be at most {MAX_LENGTH}");
            return self.at("minLength", |walker| walker.unsupported(problem));
        }
        if least > 0 || most.is_some() {
            let keyword = if most.is_some() { "maxLength" } else { "minLength" };
            let most = most.map(|most| most.min(MAX_LENGTH));
            self.at(keyword, |walker| walker.counts_to(least, most, ""))?;
        }
        Ok(())
    }

    /// Refuses numbers of properties that cannot be kept to: names beyond those of `properties` may repeat, and count only
    /// once.
    pub(super) fn check_counts(&mut self, fields: &Map<String, Value>) -> Outcome<()> {
        let count = |name: &str| fields.get(name).and_then(whole);
        let (least, most) = (count("minProperties").unwrap_or(0), count("maxProperties"));
        let required = Self::required(fields) as u64;
        let (closed, named) = (Self::closed(fields), Self::named(fields));
        let one = closed && least <= 1 && most.is_none_or(|most| most == 1) && required == 0;
        if least > required && !one {
            let problem = format!("is above the number of required properties, {required}");
            return self.at("minProperties", |walker| walker.unsupported(problem));
        }
        if most.is_some() && named > required && !one && !(closed && most >= Some(named)) {
            let problem = "cannot be kept to beside optional properties, unless it is 1 and there are no others";
            return self.at("maxProperties", |walker| walker.unsupported(problem));
        }
        Ok(())
    }
}

/// A whole number, however it is written.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked to be whole and in range
pub(super) fn whole(value: &Value) -> Option<u64> {
    let number = |number: f64| (number.fract() == 0.0 && (0.0..9e15).contains(&number)).then_some(number as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(number))
}

pub(super) fn names(value: Option<&Value>) -> impl Iterator<Item = &str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Whether a schema says nothing.
pub(super) fn is_anything(schema: &Value) -> bool {
    *schema == Value::Bool(true) || schema.as_object().is_some_and(Map::is_empty)
}

/// Whether no value obeys a schema.
pub(super) fn is_nothing(schema: &Value) -> bool {
    *schema == Value::Bool(false) || schema.get("not").is_some_and(is_anything)
}

/// Whether every string obeys a schema, as names do in any case.
pub(super) fn is_any_string(schema: &Value) -> bool {
    let annotation = |name: &str| matches!(name, "title" | "description" | "$comment" | "default" | "examples");
    let string =
        |value: &Value| *value == "string" || value.as_array().is_some_and(|types| types.contains(&"string".into()));
    is_anything(schema)
        || schema.as_object().is_some_and(|fields| {
            fields.iter().all(|(name, value)| annotation(name) || (name == "type" && string(value)))
        })
}

/// A value as it is quoted.
pub(super) fn short(value: &Value) -> String {
    let mut text = value.to_string();
    if text.len() > 60 {
        text.truncate(text.floor_char_boundary(60));
        text.push('…');
    }
    text
}
