//! What a JSON Schema asks for, before it is compiled: checked keyword by keyword, and written anew with those alone that a
//! parser keeps to. What cannot be kept to is refused with its path.
//!
//! Whatever is left out, no text gets past: keywords that exclude nothing, annotations, and formats that are notes go; of an
//! `anyOf`, branches that cannot be kept to go, since a text of any other branch is as good.

mod bounds;

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::pattern;
use bounds::{is_any_string, is_anything, is_nothing, names, short, whole};

/// Most bytes of a schema.
pub const MAX_BYTES: usize = 128 * 1024;
/// Most schemas one within the other, references followed: compiling goes as deep.
const MAX_DEPTH: usize = 256;
/// Most schemas in all.
const MAX_SCHEMAS: usize = 10_000;
/// Most optional properties of one object. At each place any of those that are left may come, and a parser follows
/// some two thousand ways at once.
const MAX_OPTIONAL: usize = 400;
/// Most patterns of names of one object: each is compared with each.
const MAX_NAME_PATTERNS: usize = 100;
/// Characters to which the length of a string is counted. A longer `maxLength` is kept to as this one.
const MAX_LENGTH: u64 = 8192;
/// Characters that all strings of different lengths may be counted to. Each takes a parser some three states.
const MAX_CHARACTERS: u64 = 11_000;
/// Most that `multipleOf` may be, without its point: a parser has a state for each remainder.
const MAX_MULTIPLE: u64 = 10_000;

/// The formats that texts are held to. Any other is a note, as the specification has it.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];
const TYPES: [&str; 7] = ["null", "boolean", "number", "integer", "string", "array", "object"];

/// Why a schema is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Where in the schema, as in `properties.price.pattern`; empty for the whole of it.
    pub path: String,
    /// What is wrong there, in words that continue a sentence.
    pub problem: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(out, "`{}` ", self.path)?;
        }
        out.write_str(&self.problem)
    }
}

/// A schema that is understood in full.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Checked {
    /// What a text must obey, in the compiler's keywords.
    pub schema: Value,
    /// Characters that strings are counted to.
    pub characters: u64,
    /// Where `oneOf` stands: whether branches exclude each other is known only when they are compiled.
    pub one_of: Vec<String>,
}

/// Checks a schema.
///
/// # Errors
/// [`Refusal`].
pub(crate) fn check(schema: &str) -> Result<Checked, Refusal> {
    let refused = |problem: String| Refusal { path: String::new(), problem };
    if schema.len() > MAX_BYTES {
        return Err(refused(format!("has {} bytes, it may have at most {MAX_BYTES}", schema.len())));
    }
    let root: Value = serde_json::from_str(schema).map_err(|error| refused(format!("is no JSON: {error}")))?;
    if !root.is_object() {
        return Err(refused("is no JSON object".to_owned()));
    }
    let mut walker = Walker {
        root: &root,
        path: Vec::new(),
        steps: Vec::new(),
        targets: HashMap::new(),
        definitions: Map::new(),
        schemas: 0,
        lengths: HashSet::new(),
        characters: 0,
        one_of: Vec::new(),
    };
    let reference = walker.target("#").map_err(|fault| fault.refusal)?;
    let mut definitions = walker.definitions;
    let schema = json!({"$ref": reference, "$defs": std::mem::take(&mut definitions)});
    Ok(Checked { schema, characters: walker.characters, one_of: walker.one_of })
}

/// A refusal on its way up, and whether another branch of an `anyOf` may stand in.
struct Fault {
    refusal: Refusal,
    avoidable: bool,
}

type Outcome<T> = Result<T, Fault>;

/// How one schema is within another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// As what a reference stands for.
    Target(usize),
    /// For the same value.
    InPlace,
    /// For the same value, or another branch.
    Choice,
    /// For a value that must be within.
    Required,
    /// For one that may be.
    Optional,
}

enum Target {
    Open(usize),
    Done(usize),
    Failed(Refusal, bool),
}

struct Walker<'a> {
    root: &'a Value,
    path: Vec<String>,
    steps: Vec<Step>,
    targets: HashMap<String, Target>,
    definitions: Map<String, Value>,
    schemas: usize,
    /// What strings are counted by: equal ones share their states.
    lengths: HashSet<(u64, Option<u64>, String)>,
    characters: u64,
    one_of: Vec<String>,
}

impl<'a> Walker<'a> {
    fn refusal(&self, problem: impl Into<String>) -> Refusal {
        let mut path = String::new();
        for segment in &self.path {
            let index = segment.starts_with('[');
            path += if path.is_empty() || index { "" } else { "." };
            path += segment;
        }
        Refusal { path, problem: problem.into() }
    }

    /// What is no schema, or costs too much, whatever else there is.
    fn fault<T>(&self, problem: impl Into<String>) -> Outcome<T> {
        Err(Fault { refusal: self.refusal(problem), avoidable: false })
    }

    /// What is a schema, and cannot be kept to.
    fn unsupported<T>(&self, problem: impl Into<String>) -> Outcome<T> {
        Err(Fault { refusal: self.refusal(problem), avoidable: true })
    }

    /// Does something at a path below.
    fn at<T>(&mut self, segment: impl Into<String>, work: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        self.path.push(segment.into());
        let outcome = work(self);
        self.path.pop();
        outcome
    }

    /// A schema within this one.
    fn within(&mut self, segment: impl Into<String>, step: Step, schema: &'a Value) -> Outcome<Value> {
        self.at(segment, |walker| walker.step(step, schema))
    }

    fn step(&mut self, step: Step, schema: &'a Value) -> Outcome<Value> {
        self.steps.push(step);
        let outcome = self.schema(schema);
        self.steps.pop();
        outcome
    }

    fn schema(&mut self, schema: &'a Value) -> Outcome<Value> {
        self.schemas += 1;
        if self.steps.len() > MAX_DEPTH {
            return self.fault(format!("is deeper than {MAX_DEPTH} schemas, one within the other or by reference"));
        }
        if self.schemas > MAX_SCHEMAS {
            return self.fault(format!("is one of more than {MAX_SCHEMAS} schemas"));
        }
        let fields = match schema {
            Value::Bool(_) => return Ok(schema.clone()),
            Value::Object(fields) => fields,
            _ => return self.fault("must be an object, true or false"),
        };
        self.check_ranges(fields)?;
        self.check_counts(fields)?;
        let mut kept = Map::new();
        for (name, value) in fields {
            let keyword = self.at(name, |walker| walker.keyword(fields, name, value))?;
            kept.extend(keyword.map(|(name, value)| (name.to_owned(), value)));
        }
        Ok(Value::Object(kept))
    }

    /// What a keyword becomes; nothing where it excludes nothing.
    fn keyword(
        &mut self,
        fields: &'a Map<String, Value>,
        name: &'a str,
        value: &'a Value,
    ) -> Outcome<Option<(&'a str, Value)>> {
        let kept = |value: Value| Ok(Some((name, value)));
        match name {
            "type" => self.types(value).and_then(kept),
            "enum" if value.as_array().is_none_or(Vec::is_empty) => {
                self.fault("must be an array of at least one value")
            }
            "properties" => self.properties(fields, value).and_then(kept),
            "patternProperties" => self.name_patterns(value).and_then(kept),
            "additionalProperties" => self.step(Step::Optional, value).and_then(kept),
            "required" => self.strings(value).map(|()| Some((name, value.clone()))),
            "items" if value.is_array() => Ok(Some(("prefixItems", self.prefix(fields, value)?))),
            "items" => {
                let prefix = fields.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
                self.step(Self::needed(fields, prefix), value).and_then(kept)
            }
            "prefixItems" => self.prefix(fields, value).and_then(kept),
            "additionalItems" if fields.get("items").is_some_and(Value::is_array) => {
                Ok(Some(("items", self.step(Step::Optional, value)?)))
            }
            "minItems" | "maxItems" | "minLength" | "maxProperties" | "minProperties" => {
                let count = self.count(value)?;
                let idle = match name {
                    "minProperties" => count <= Self::required(fields) as u64, // they are counted in any case
                    "maxProperties" => Self::closed(fields) && count >= Self::named(fields), // there are no more
                    _ => false,
                };
                if idle { Ok(None) } else { kept(count.into()) }
            }
            "maxLength" => kept(self.count(value)?.min(MAX_LENGTH).into()),
            "pattern" => {
                self.pattern(value)?;
                kept(value.clone())
            }
            "format" => {
                let Some(format) = value.as_str() else { return self.fault("must be a string") };
                if FORMATS.contains(&format) { kept(value.clone()) } else { Ok(None) }
            }
            "minimum" | "maximum" if !value.is_number() => self.fault("must be a number"),
            "exclusiveMinimum" | "exclusiveMaximum" if !(value.is_number() || value.is_boolean()) => {
                self.fault("must be a number")
            }
            "const" | "enum" | "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => kept(value.clone()),
            "multipleOf" => self.multiple(value).map(|()| Some((name, value.clone()))),
            "allOf" => {
                let branches = self.branches(value)?.iter().enumerate();
                let branches = branches.map(|(i, branch)| self.within(format!("[{i}]"), Step::InPlace, branch));
                kept(branches.collect::<Outcome<Vec<Value>>>()?.into())
            }
            "anyOf" => self.any_of(value).and_then(kept),
            "oneOf" => {
                let branches = self.branches(value)?.iter().enumerate();
                let branches = branches.map(|(i, branch)| self.within(format!("[{i}]"), Step::Choice, branch));
                let branches = branches.collect::<Outcome<Vec<Value>>>()?;
                self.one_of.push(self.refusal("").path);
                kept(branches.into())
            }
            "$ref" => match value.as_str() {
                Some(reference) => self.target(reference).and_then(kept),
                None => self.fault("must be a string"),
            },
            "unevaluatedProperties" => self.unevaluated(fields, value, "additionalProperties"),
            "unevaluatedItems" => self.unevaluated(fields, value, "items"),
            _ => self.idle(fields, name, value).map(|()| None),
        }
    }

    /// Passes by what excludes nothing, and refuses what does and is not understood.
    fn idle(&self, fields: &Map<String, Value>, name: &str, value: &Value) -> Outcome<()> {
        let none = |value: &Value| match value {
            Value::Object(entries) => entries.values().all(is_anything),
            _ => false,
        };
        let required: HashSet<&str> = names(fields.get("required")).collect();
        let implied = |value: &Value| match value {
            Value::Object(entries) => entries.values().all(|value| match value {
                Value::Array(_) => names(Some(value)).all(|name| required.contains(name)),
                schema => is_anything(schema),
            }),
            _ => false,
        };
        let one_item = fields.get("maxItems").and_then(whole).is_some_and(|most| most <= 1);
        let nothing = match name {
            "propertyNames" => is_any_string(value),
            "not" => is_nothing(value),
            "if" => ["then", "else"].iter().all(|branch| fields.get(*branch).is_none_or(is_anything)),
            "then" | "else" => !fields.contains_key("if") || is_anything(value),
            "uniqueItems" => *value == Value::Bool(false) || one_item,
            "contains" => fields.get("minContains").and_then(whole) == Some(0) && !fields.contains_key("maxContains"),
            "dependentSchemas" => none(value),
            "dependentRequired" | "dependencies" => implied(value),
            "$dynamicRef" | "$recursiveRef" => false,
            // An annotation, or no keyword at all; or one that says nothing without another, which is refused.
            _ => return Ok(()),
        };
        if nothing { Ok(()) } else { self.unsupported("is not supported, and would restrict the text") }
    }

    /// `false` where nothing else evaluates anything is the plain keyword; where everything is evaluated, it is idle.
    fn unevaluated(
        &mut self,
        fields: &'a Map<String, Value>,
        value: &'a Value,
        plain: &'static str,
    ) -> Outcome<Option<(&'a str, Value)>> {
        let others = ["allOf", "anyOf", "oneOf", "$ref", "if", "dependentSchemas", "contains"];
        if is_anything(value) || fields.contains_key(plain) {
            Ok(None)
        } else if others.iter().any(|name| fields.contains_key(*name)) {
            self.unsupported(format!("is not supported beside schemas for the same value; say `{plain}` in them"))
        } else {
            Ok(Some((plain, self.step(Step::Optional, value)?)))
        }
    }

    fn types(&self, value: &Value) -> Outcome<Value> {
        let known = |name: &Value| name.as_str().is_some_and(|name| TYPES.contains(&name));
        let unknown = match value {
            Value::Array(names) if names.is_empty() => return self.fault("must name a type"),
            Value::Array(names) => names.iter().find(|name| !known(name)),
            name => Some(name).filter(|name| !known(name)),
        };
        match unknown {
            Some(name) => self.fault(format!("must be of {}, not {}", TYPES.join(", "), short(name))),
            None => Ok(value.clone()),
        }
    }

    fn entries(&self, value: &'a Value) -> Outcome<&'a Map<String, Value>> {
        match value.as_object() {
            Some(entries) => Ok(entries),
            None => self.fault("must be an object of schemas"),
        }
    }

    fn branches(&self, value: &'a Value) -> Outcome<&'a [Value]> {
        match value.as_array() {
            Some(branches) if !branches.is_empty() => Ok(branches),
            _ => self.fault("must be an array of at least one schema"),
        }
    }

    fn strings(&self, value: &Value) -> Outcome<()> {
        let are = value.as_array().is_some_and(|entries| entries.iter().all(Value::is_string));
        if are { Ok(()) } else { self.fault("must be an array of strings") }
    }

    /// A whole number by value: 16.0 is 16.
    fn count(&self, value: &Value) -> Outcome<u64> {
        match whole(value) {
            Some(count) => Ok(count),
            None => self.fault(format!("must be a whole number of at least 0, not {}", short(value))),
        }
    }

    fn required(fields: &Map<String, Value>) -> usize {
        names(fields.get("required")).collect::<HashSet<_>>().len()
    }

    /// Whether there are no properties but those that are named.
    fn closed(fields: &Map<String, Value>) -> bool {
        fields.get("additionalProperties").is_some_and(is_nothing) && !fields.contains_key("patternProperties")
    }

    fn named(fields: &Map<String, Value>) -> u64 {
        fields.get("properties").and_then(Value::as_object).map_or(0, Map::len) as u64
    }

    fn properties(&mut self, fields: &Map<String, Value>, value: &'a Value) -> Outcome<Value> {
        let entries = self.entries(value)?;
        let required: HashSet<&str> = names(fields.get("required")).collect();
        let optional = entries.keys().filter(|name| !required.contains(name.as_str())).count();
        if optional > MAX_OPTIONAL {
            let problem = "optional properties, it may have at most";
            return self.fault(format!("has {optional} {problem} {MAX_OPTIONAL}; others must be in `required`"));
        }
        let mut kept = Map::new();
        for (name, schema) in entries {
            let step = if required.contains(name.as_str()) { Step::Required } else { Step::Optional };
            kept.insert(name.clone(), self.within(name, step, schema)?);
        }
        Ok(kept.into())
    }

    fn name_patterns(&mut self, value: &'a Value) -> Outcome<Value> {
        let entries = self.entries(value)?;
        if entries.len() > MAX_NAME_PATTERNS {
            return self.fault(format!("has {} patterns, it may have at most {MAX_NAME_PATTERNS}", entries.len()));
        }
        let mut kept = Map::new();
        for (pattern, schema) in entries {
            self.at(pattern, |walker| walker.one_pattern(pattern))?;
            kept.insert(pattern.clone(), self.within(pattern, Step::Optional, schema)?);
        }
        Ok(kept.into())
    }

    fn prefix(&mut self, fields: &Map<String, Value>, value: &'a Value) -> Outcome<Value> {
        let items = self.branches(value)?.iter().enumerate();
        let items = items.map(|(i, item)| self.within(format!("[{i}]"), Self::needed(fields, i), item));
        Ok(items.collect::<Outcome<Vec<Value>>>()?.into())
    }

    /// Whether there must be an item of this index.
    fn needed(fields: &Map<String, Value>, index: usize) -> Step {
        let least = fields.get("minItems").and_then(whole).unwrap_or(0);
        if least > index as u64 { Step::Required } else { Step::Optional }
    }

    /// The branches that can be kept to: a text of one of them is as good as any.
    fn any_of(&mut self, value: &'a Value) -> Outcome<Value> {
        let (mut kept, mut avoided) = (Vec::new(), None);
        for (i, branch) in self.branches(value)?.iter().enumerate() {
            match self.within(format!("[{i}]"), Step::Choice, branch) {
                Ok(branch) => kept.push(branch),
                Err(fault) if fault.avoidable => avoided = avoided.or(Some(fault)),
                Err(fault) => return Err(fault),
            }
        }
        match avoided {
            Some(fault) if kept.is_empty() => Err(fault),
            _ => Ok(kept.into()),
        }
    }

    /// Where in the result stands what a reference refers to.
    fn target(&mut self, reference: &str) -> Outcome<Value> {
        let Some(pointer) = reference.strip_prefix('#').filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
            return self.unsupported(format!("must refer to this schema, as in #/$defs/name, not to {reference:?}"));
        };
        let pointer = pointer.trim_end_matches('/');
        let number = match self.targets.get(pointer) {
            Some(Target::Done(number)) => *number,
            Some(Target::Open(number)) => {
                let number = *number;
                self.check_end(number)?;
                number
            }
            Some(Target::Failed(refusal, avoidable)) => {
                return Err(Fault { refusal: refusal.clone(), avoidable: *avoidable });
            }
            None => self.open(pointer, reference)?,
        };
        Ok(format!("#/$defs/{number}").into())
    }

    fn open(&mut self, pointer: &str, reference: &str) -> Outcome<usize> {
        let root: &'a Value = self.root;
        let Some(schema) = root.pointer(pointer) else {
            return self.fault(format!("refers to {reference:?}, where there is nothing"));
        };
        let number = self.targets.len();
        self.targets.insert(pointer.to_owned(), Target::Open(number));
        let segments = pointer.split('/').skip(1).map(|segment| segment.replace("~1", "/").replace("~0", "~"));
        let from = std::mem::replace(&mut self.path, segments.collect());
        let outcome = self.step(Step::Target(number), schema);
        self.path = from;
        let outcome = outcome.map(|schema| self.definitions.insert(number.to_string(), schema));
        let (target, outcome) = match outcome {
            Ok(_) => (Target::Done(number), Ok(number)),
            Err(fault) => (Target::Failed(fault.refusal.clone(), fault.avoidable), Err(fault)),
        };
        self.targets.insert(pointer.to_owned(), target);
        outcome
    }

    /// Refuses a reference to a schema that this one is within, if no value can come to an end.
    fn check_end(&self, number: usize) -> Outcome<()> {
        let back = self.steps.iter().rev().take_while(|step| **step != Step::Target(number));
        let (mut in_place, mut must) = (true, true);
        for step in back {
            in_place &= matches!(step, Step::Target(_) | Step::InPlace | Step::Choice);
            must &= matches!(step, Step::Target(_) | Step::InPlace | Step::Required);
        }
        if in_place {
            return self.unsupported("refers to itself, with nothing in between that a text could consist of");
        }
        if must { self.unsupported("requires itself again and again: no text can come to an end") } else { Ok(()) }
    }
}
