//! Protobuf's JSON form, read strictly: a field that is unknown, missing, null or there twice is an error, and names are
//! the `.proto` file's own.
//!
//! Protobuf's JSON readers take a missing field for its default; a manifest must say everything. So a first pass holds
//! the names against the message's descriptor, and a second one reads the values.

use std::{collections::BTreeSet, fmt, sync::LazyLock};

use prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::Refused;

/// Fields whose absence says something.
const MAY_BE_MISSING: [&str; 1] = [
    "triptych.bundle.v1.Manifest.tokenizer", // of a head, which uses its encoder's
];

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(hotpath_contract::DESCRIPTORS)
        .expect("the build wrote the descriptors from valid .proto files")
});

/// Reads `json` as the message `full_name`; `file` is named by errors.
pub(crate) fn read<M: Message + Default>(full_name: &str, file: &str, json: &[u8]) -> Result<M, Refused> {
    let message = POOL.get_message_by_name(full_name).expect("callers name messages of this build's contract");
    with_path(file, json, Names(message.clone()))?;
    with_path(file, json, Values(message))?.transcode_to().map_err(|error| Refused::file(file, error))
}

/// Runs `seed` over the whole of `json`; an error says where in the document it was.
fn with_path<'de, S: DeserializeSeed<'de>>(file: &str, json: &'de [u8], seed: S) -> Result<S::Value, Refused> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let mut track = serde_path_to_error::Track::new();
    let value =
        seed.deserialize(serde_path_to_error::Deserializer::new(&mut reader, &mut track)).map_err(
            |error| match track.path().to_string().as_str() {
                "." => Refused::file(file, error),
                path => Refused::field(file, path, error),
            },
        )?;
    reader.end().map_err(|error| Refused::file(file, error))?;
    Ok(value)
}

/// Reads the values of a message.
struct Values(MessageDescriptor);

impl<'de> DeserializeSeed<'de> for Values {
    type Value = DynamicMessage;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<DynamicMessage, D::Error> {
        let strict = DeserializeOptions::new().deny_unknown_fields(true);
        DynamicMessage::deserialize_with_options(self.0, reader, &strict)
    }
}

/// Holds the names in an object against a message.
#[derive(Clone)]
struct Names(MessageDescriptor);

impl<'de> DeserializeSeed<'de> for Names {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Names {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "an object ({})", self.0.name())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(name) = object.next_key::<String>()? {
            let Some(field) = self.0.get_field_by_name(&name) else {
                return Err(A::Error::custom(format!("unknown field \"{name}\"")));
            };
            if !seen.insert(field.number()) {
                return Err(A::Error::custom(format!("field \"{name}\" appears twice")));
            }
            object.next_value_seed(FieldNames(field))?;
        }
        for field in self.0.fields().filter(|field| field.containing_oneof().is_none()) {
            if !seen.contains(&field.number()) && !MAY_BE_MISSING.contains(&field.full_name()) {
                return Err(A::Error::custom(format!("missing field \"{}\"", field.name())));
            }
        }
        for choice in self.0.oneofs() {
            if choice.fields().filter(|field| seen.contains(&field.number())).count() != 1 {
                let names = choice.fields().map(|field| field.name().to_owned()).collect::<Vec<_>>().join("\", \"");
                return Err(A::Error::custom(format!("missing field: exactly one of \"{names}\" must be there")));
            }
        }
        Ok(())
    }
}

/// Goes on into a field's value.
struct FieldNames(FieldDescriptor);

impl<'de> DeserializeSeed<'de> for FieldNames {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        match self.0.kind() {
            Kind::Message(message) if self.0.is_list() => reader.deserialize_seq(ListNames(message)),
            Kind::Message(message) => Names(message).deserialize(reader),
            _ => match <Option<IgnoredAny> as serde::Deserialize>::deserialize(reader)? {
                Some(_) => Ok(()),
                None => Err(D::Error::custom("null is not a value")),
            },
        }
    }
}

/// Goes on into each message of a list.
struct ListNames(MessageDescriptor);

impl<'de> Visitor<'de> for ListNames {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a list of objects ({})", self.0.name())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Names(self.0.clone()))?.is_some() {}
        Ok(())
    }
}
