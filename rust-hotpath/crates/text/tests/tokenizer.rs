//! The real tokenizer.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test's panic is its failure")]

use std::{fs, sync::LazyLock};

use hotpath_bundle::Bundle;
use hotpath_testing::{bundle, golden_embeddings};
use hotpath_text::Tokenizer;
use proptest::prelude::*;
use serde_json::Value;

static BUNDLE: LazyLock<Bundle> = LazyLock::new(bundle);
static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::load(&BUNDLE).unwrap());

#[test]
fn golden_texts_have_the_golden_ids() {
    for case in golden_embeddings(&BUNDLE) {
        assert_eq!(TOKENIZER.ids(&case.text, usize::MAX).unwrap().tokens, case.token_ids, "{}", case.text);
    }
}

#[test]
fn offsets_are_bytes_of_the_original_text() {
    let text = "Größe 東京🚀 ok";
    let tokens = TOKENIZER.tokens(text, usize::MAX).unwrap().tokens;
    let pieces =
        tokens.byte_starts.iter().zip(&tokens.byte_ends).map(|(start, end)| &text[*start as usize..*end as usize]);
    let pieces: Vec<&str> = pieces.collect();
    assert_eq!((pieces.first(), pieces.last()), (Some(&""), Some(&"")), "special tokens stand for no text");
    assert!(["東", "京", "🚀", "ok"].iter().all(|piece| pieces.contains(piece)), "{pieces:?}");
    assert_eq!(pieces.concat(), "Größe東京🚀ok");
}

/// The library's own truncation, which the service does not use because it says nothing of what it cut.
fn truncated_by_the_library(text: &str, max_length: usize) -> Vec<u32> {
    let mut other = tokenizers::Tokenizer::from_file(BUNDLE.path(&BUNDLE.manifest.tokenizer().unwrap().file)).unwrap();
    let truncation = tokenizers::TruncationParams { max_length, ..Default::default() };
    other.with_padding(None).with_truncation(Some(truncation)).unwrap();
    other.encode_fast(text, true).unwrap().get_ids().to_vec()
}

#[test]
fn truncation_keeps_the_special_tokens() {
    let text = "one two three four five six seven";
    let whole = TOKENIZER.ids(text, usize::MAX).unwrap().tokens;
    for max_tokens in 3..whole.len() + 2 {
        let mut ids = whole.clone();
        TOKENIZER.truncate(&mut ids, max_tokens);
        assert_eq!(ids, truncated_by_the_library(text, max_tokens));
        assert_eq!(ids.last(), whole.last());
    }
    let mut bare = whole[1..whole.len() - 1].to_vec();
    TOKENIZER.truncate(&mut bare, 3);
    assert_eq!(bare, whole[1..4], "ids without special tokens get none");
}

#[test]
fn padding_and_truncation_of_the_file_are_off() {
    let long = "word ".repeat(1000);
    assert_eq!(TOKENIZER.ids(&long, usize::MAX).unwrap().tokens.len(), 1002);
    assert_eq!(TOKENIZER.ids("word", usize::MAX).unwrap().tokens.len(), 3);
    assert_eq!(TOKENIZER.ids(" ", usize::MAX).unwrap().tokens.len(), 2);
}

#[test]
fn a_text_is_looked_at_for_64_kib_or_as_far_as_it_is_of_use() {
    let (counted, longer) = ("word ".repeat(13_000), "word ".repeat(2_000_000));
    assert_eq!(TOKENIZER.ids(&counted, 256).unwrap().tokens.len(), 13_002);
    assert!(TOKENIZER.ids(&counted, 256).unwrap().is_all);
    for most in [256, 100_000] {
        let (ids, tokens) = (TOKENIZER.ids(&longer, most).unwrap(), TOKENIZER.tokens(&longer, most).unwrap());
        assert_eq!((ids.is_all, tokens.is_all), (false, false));
        assert_eq!(ids.tokens, tokens.tokens.ids);
        let words = ids.tokens.len() - 2;
        assert!(words + 2 > most && words <= most.max(64 * 1024 / 5 + 1), "{words}");
        assert_eq!(tokens.tokens.byte_ends[words], u32::try_from(5 * words - 1).unwrap());
    }
    assert!(TOKENIZER.windows(&longer, 256, 4).unwrap().is_none());
}

#[test]
fn a_vocabulary_beyond_the_manifests_is_refused() {
    let mut bundle = BUNDLE.clone();
    bundle.manifest.tokenizer.as_mut().unwrap().vocabulary_size -= 1;
    let refused = Tokenizer::load(&bundle).unwrap_err();
    assert_eq!((refused.file.as_str(), refused.field.as_str()), ("tokenizer.json", "model.vocab"));
    bundle.manifest.tokenizer.as_mut().unwrap().max_tokens = 1;
    bundle.manifest.tokenizer.as_mut().unwrap().vocabulary_size += 1;
    assert_eq!(Tokenizer::load(&bundle).unwrap_err().field, "post_processor");
    bundle.manifest.tokenizer.as_mut().unwrap().file = "golden.json".to_owned();
    assert_eq!(Tokenizer::load(&bundle).unwrap_err().file, "golden.json");
}

#[test]
fn a_file_over_which_the_library_panics_is_refused() {
    let mut bundle = BUNDLE.clone();
    let file = &mut bundle.manifest.tokenizer.as_mut().unwrap().file;
    let sound: Value = serde_json::from_slice(&fs::read(BUNDLE.path(file)).unwrap()).unwrap();
    let written = tempfile::NamedTempFile::new().unwrap();
    written.path().to_str().unwrap().clone_into(file);
    let load = |tokenizer: &Value| {
        fs::write(written.path(), serde_json::to_vec(tokenizer).unwrap()).unwrap();
        Tokenizer::load(&bundle).map(drop)
    };
    load(&sound).unwrap();
    let mut unsound = sound;
    *unsound.pointer_mut("/post_processor/single/0/SpecialToken/id").unwrap() = "[ABSENT]".into();
    assert_eq!(load(&unsound).unwrap_err().problem, "makes the tokenizer library panic");
}

proptest! {
    #[test]
    fn any_text_has_ids_below_the_vocabulary_and_offsets_on_its_characters(text in "\\PC{0,60}|(?s:.{0,60})") {
        let ids = TOKENIZER.ids(&text, usize::MAX).unwrap().tokens;
        let tokens = TOKENIZER.tokens(&text, usize::MAX).unwrap().tokens;
        prop_assert_eq!(&ids, &tokens.ids);
        prop_assert!(ids.iter().all(|id| *id < BUNDLE.manifest.tokenizer().unwrap().vocabulary_size));
        prop_assert_eq!((tokens.byte_starts.len(), tokens.byte_ends.len()), (ids.len(), ids.len()));
        for (start, end) in tokens.byte_starts.iter().zip(&tokens.byte_ends) {
            prop_assert!(start <= end && text.get(*start as usize..*end as usize).is_some(), "{start}..{end}");
        }
    }
}
