//! Fields that are missing, unknown, null or there twice, wherever they stand; and bytes that are anything at all.

use std::fs;

use hotpath_bundle::{Manifest, Revision};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::sample::{self, KINDS, Sample};

/// JSON pointers of every object in a document.
fn objects(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.push(at.to_owned());
            fields.iter().for_each(|(name, value)| objects(value, &format!("{at}/{name}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| objects(item, &format!("{at}/{i}"), found));
        }
        _ => (),
    }
}

/// Every (object, field) of a document.
fn fields(document: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    objects(document, "", &mut found);
    let names = |at: &String| document.pointer(at).unwrap().as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    found.iter().flat_map(|at| names(at).into_iter().map(|name| (at.clone(), name))).collect()
}

/// Changes one object of the manifest, and of the golden file, and gives what the reader says to each.
fn each_field_changed(change: impl Fn(&mut serde_json::Map<String, Value>, &str)) -> Vec<(String, String)> {
    let mut said = Vec::new();
    for kind in KINDS {
        let (whole, golden) = kind();
        for (at, name) in fields(&whole) {
            let mut manifest = whole.clone();
            change(manifest.pointer_mut(&at).unwrap().as_object_mut().unwrap(), &name);
            let refused = Manifest::parse(&serde_json::to_vec(&manifest).unwrap()).expect_err(&name);
            assert_eq!(refused.file, "bundle.json");
            said.push((name, refused.to_string()));
        }
        for (at, name) in fields(&golden) {
            let change = |golden: &mut Value| change(golden.pointer_mut(&at).unwrap().as_object_mut().unwrap(), &name);
            let refused = Sample::write_with(kind(), |_| (), change).open().expect_err(&name);
            assert_eq!(refused.file, "golden.json");
            said.push((name, refused.to_string()));
        }
    }
    assert!(said.len() > 120, "the walk found only {} fields", said.len());
    said
}

#[test]
fn every_missing_field_is_refused_by_name() {
    for (name, said) in each_field_changed(|object, name| drop(object.remove(name))) {
        assert!(said.contains("missing field") && said.contains(&format!("\"{name}\"")), "{name}: {said}");
    }
}

#[test]
fn every_null_is_refused_by_name() {
    for (name, said) in each_field_changed(|object, name| object[name] = Value::Null) {
        assert!(said.contains(&name) && said.contains("null"), "{name}: {said}");
    }
}

#[test]
fn an_unknown_field_is_refused_in_every_object() {
    for (_, said) in each_field_changed(|object, _| drop(object.insert("surprise".to_owned(), json!(1)))) {
        assert!(said.contains("unknown field \"surprise\""), "{said}");
    }
}

#[test]
fn another_spelling_of_a_name_is_refused() {
    let mut manifest = sample::embedding().0;
    let fields = manifest.as_object_mut().unwrap();
    let value = fields.remove("format_version").unwrap();
    fields.insert("formatVersion".to_owned(), value);
    let refused = Manifest::parse(&serde_json::to_vec(&manifest).unwrap()).unwrap_err();
    assert!(refused.problem.contains("formatVersion"), "{refused}");
}

#[test]
fn a_field_that_is_there_twice_is_refused() {
    let json = serde_json::to_string(&sample::embedding().0).unwrap();
    let twice = json.replacen("\"name\":\"sample\"", "\"name\":\"sample\",\"name\":\"sample\"", 1);
    assert_ne!(json, twice);
    let refused = Manifest::parse(twice.as_bytes()).unwrap_err();
    assert!(refused.problem.contains("\"name\" appears twice"), "{refused}");
}

#[test]
fn bytes_after_the_document_are_refused() {
    let mut json = serde_json::to_vec(&sample::embedding().0).unwrap();
    json.extend_from_slice(b" {}");
    assert!(Manifest::parse(&json).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Manifest::parse(&bytes).is_err());
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("current"), &bytes).unwrap();
        prop_assert!(Revision::current(folder.path()).is_err());
    }

    /// Random bytes hardly get past the first brace; a valid document with a few bytes changed goes deep.
    #[test]
    fn a_damaged_manifest_never_panics(
        kind in prop::sample::select(&KINDS[..]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut json = serde_json::to_vec(&kind().0).unwrap();
        for (place, byte) in damage {
            let place = place.index(json.len());
            json[place] = byte;
        }
        if let Some(cut) = cut {
            json.truncate(cut.index(json.len()));
            prop_assert!(Manifest::parse(&json).is_err());
        } else {
            let _ = Manifest::parse(&json); // may be valid still, as with another digit in a hash
        }
    }

    #[test]
    fn a_damaged_golden_file_never_panics(
        kind in prop::sample::select(&KINDS[..]),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let (manifest, golden) = kind();
        let mut golden = serde_json::to_vec(&golden).unwrap();
        let place = place.index(golden.len());
        golden[place] = byte;
        if let Err(refused) = Sample::write_bytes(manifest, &golden).open() {
            prop_assert_eq!(refused.file, "golden.json");
        }
    }
}
