//! Bundles as they should be, and every way of being wrong.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test's panic is its failure")]

mod malformed;
mod sample;

use std::fs;

use hotpath_bundle::{
    Axis, Bundle, ChatPlace, Golden, GoldenPrompt, Manifest, Message, Precision, Refused, Revision, Role, Stamp,
};
use sample::{KINDS, Sample};
use serde_json::{Value, json};

#[test]
fn a_valid_bundle_opens() {
    let sample = Sample::write();
    assert_eq!(Revision::current(&sample.model_folder()).unwrap(), sample.revision);
    let bundle = sample.open().unwrap();
    assert_eq!(bundle.revision, sample.revision);
    assert_eq!(bundle.manifest.graphs[0].precision, Precision::BlockQuantized);
    assert_eq!(bundle.manifest.graphs[0].inputs[1].shape, []);
    assert_eq!(bundle.manifest.graphs[0].outputs[0].shape, [Axis::Symbolic("tokens".to_owned()), Axis::Fixed(2)]);
    assert!(matches!(&bundle.golden, Golden::Embeddings(cases) if cases.len() == 2));
    assert_eq!(fs::read(bundle.path("tokenizer.json")).unwrap(), sample::TOKENIZER);
}

#[test]
fn a_tampered_file_is_refused_by_name() {
    for (file, bytes, field) in [
        ("tokenizer.json", &b"{\"tokenizer\" : 2}"[..], "size_bytes"),
        ("tokenizer.json", b"{\"tokenizer\": 2}", "sha256"),
        ("model.block_quantized.onnx", b"other", "size_bytes"),
    ] {
        let sample = Sample::write();
        fs::write(sample.folder().join(file), bytes).unwrap();
        let refused = sample.open().unwrap_err();
        assert_eq!((refused.file.as_str(), refused.field.as_str()), (file, field), "{refused}");
    }
}

#[test]
fn a_missing_file_is_refused_by_name() {
    for file in ["tokenizer.json", "model.block_quantized.onnx", "golden.json", "bundle.json"] {
        let sample = Sample::write();
        fs::remove_file(sample.folder().join(file)).unwrap();
        assert_eq!(sample.open().unwrap_err().file, file);
    }
}

#[test]
fn a_manifest_that_does_not_give_the_folders_name_is_refused() {
    let sample = Sample::write();
    let path = sample.folder().join("bundle.json");
    let mut json = fs::read(&path).unwrap();
    json.push(b'\n');
    fs::write(path, json).unwrap();
    let refused = sample.open().unwrap_err();
    assert_eq!(refused.file, "bundle.json");
    assert!(refused.problem.contains(sample.revision.as_str()), "{refused}");
}

/// Whatever else an older one has or lacks: that it is older is what helps.
#[test]
fn a_manifest_of_an_older_format_is_refused_as_such() {
    let change = |manifest: &mut Value| {
        manifest["format_version"] = json!(1);
        manifest["graphs"][0].as_object_mut().unwrap().remove("operator_sets");
        manifest["generation"]["max_chunk_tokens"] = json!(32);
    };
    let refused = Sample::write_with(sample::generation(), change, |_| ()).open().unwrap_err();
    assert_eq!(refused.field, "format_version");
    assert!(refused.problem.contains("is 1, this reader knows 2"), "{refused}");
}

#[test]
fn a_manifest_of_another_model_is_refused() {
    let sample = Sample::write_with(sample::embedding(), |manifest| manifest["name"] = json!("another"), |_| ());
    assert_eq!(sample.open().unwrap_err().field, "name");
}

#[test]
fn values_out_of_range_are_refused_by_field() {
    let embedding: &[(&str, Value, &str)] = &[
        ("/format_version", json!(1), "format_version"),
        ("/format_version", json!("one"), "format_version"),
        ("/name", json!("Upper"), "name"),
        ("/name", json!("a".repeat(65)), "name"),
        ("/source/sha256", json!("00"), "source.sha256"),
        ("/source/owner", json!(""), "source.owner"),
        ("/files/0/path", json!("../outside"), "files[0].path"),
        ("/files/0/path", json!("zzz"), "files[1].path"),
        ("/files/0/path", json!("bundle.json"), "files[0].path"),
        ("/files/0/size_bytes", json!(-1), "files[0].size_bytes"),
        ("/onnxruntime_version", json!(""), "onnxruntime_version"),
        ("/graphs", json!([]), "graphs"),
        ("/graphs/0/precision", json!("PRECISION_UNSPECIFIED"), "graphs[0].precision"),
        ("/graphs/0/precision", json!("PRECISION_INT4"), "graphs[0].precision"),
        ("/graphs/0/precision", json!(77), "graphs[0].precision"),
        ("/graphs/0/file", json!("elsewhere.onnx"), "graphs[0].file"),
        ("/graphs/0/opset", json!(0), "graphs[0].opset"),
        ("/graphs/0/inputs", json!([]), "graphs[0].inputs"),
        ("/graphs/0/inputs/1/name", json!("input_ids"), "graphs[0].inputs[1].name"),
        ("/graphs/0/inputs/0/shape/0", json!(""), "graphs[0].inputs[0].shape[0]"),
        ("/graphs/0/inputs/0/shape/0", json!("0"), "graphs[0].inputs[0].shape[0]"),
        ("/graphs/0/tolerance/max_abs_error", json!(0), "graphs[0].tolerance.max_abs_error"),
        ("/graphs/0/tolerance/max_abs_error", json!("NaN"), "graphs[0].tolerance.max_abs_error"),
        ("/graphs/0/tolerance/min_cosine", json!(1.5), "graphs[0].tolerance.min_cosine"),
        ("/graphs/0/operator_sets/0/domain", json!(""), "graphs[0].operator_sets[0].domain"),
        ("/graphs/0/operator_sets/0/version", json!(0), "graphs[0].operator_sets[0].version"),
        (
            "/graphs/0/operator_sets",
            json!(vec![json!({"domain": "a", "version": 1}); 2]),
            "graphs[0].operator_sets[1].domain",
        ),
        ("/tokenizer/max_tokens", json!(2), "tokenizer.max_tokens"),
        ("/tokenizer/max_tokens", json!(u32::MAX), "tokenizer.max_tokens"),
        ("/tokenizer/vocabulary_size", json!(0), "tokenizer.vocabulary_size"),
        ("/tokenizer/vocabulary_size", json!(u32::MAX), "tokenizer.vocabulary_size"),
        ("/files/2/size_bytes", json!((128_u64 << 20) + 1), "tokenizer.file"),
        ("/golden_file", json!("absent.json"), "golden_file"),
        ("/embedding/pooling", json!(0), "embedding.pooling"),
        ("/embedding/dimensions", json!([]), "embedding.dimensions"),
        ("/embedding/dimensions", json!([2, 2]), "embedding.dimensions"),
    ];
    let template = "/generation/chat_template";
    let markup = json!({"place": 6, "pieces": [{"text": "a", "control": true}], "trims_message": false});
    let generation: &[(&str, Value, &str)] = &[
        ("/generation/kv_cache/layers", json!(0), "generation.kv_cache.layers"),
        ("/generation/kv_cache/kv_heads", json!(0), "generation.kv_cache.kv_heads"),
        ("/generation/kv_cache/head_dimensions", json!(0), "generation.kv_cache.head_dimensions"),
        ("/generation/kv_cache/layers", json!(1025), "generation.kv_cache.layers"),
        ("/generation/kv_cache/kv_heads", json!(u32::MAX), "generation.kv_cache.kv_heads"),
        ("/generation/kv_cache/head_dimensions", json!(4097), "generation.kv_cache.head_dimensions"),
        ("/generation/stop_token_ids", json!([]), "generation.stop_token_ids"),
        ("/generation/stop_token_ids", json!([1, 1]), "generation.stop_token_ids"),
        ("/generation/stop_token_ids/1", json!(10), "generation.stop_token_ids"),
        (&format!("{template}/0/place"), json!(0), "generation.chat_template[0].place"),
        (&format!("{template}/0/pieces"), json!([]), "generation.chat_template[0].pieces"),
        (&format!("{template}/0/pieces/1/text"), json!(""), "generation.chat_template[0].pieces[1].text"),
        (template, json!([markup, markup]), "generation.chat_template[1].place"),
        (&format!("{template}/0/place"), json!("CHAT_PLACE_REPLY"), "generation.chat_template[0].trims_message"),
    ];
    let label = json!({"name": "rude", "threshold": 0.5, "advisory": true});
    let tokenizer = json!({"file": "tokenizer.json", "vocabulary_size": 10, "max_tokens": 8});
    let classification: &[(&str, Value, &str)] = &[
        ("/classification/encoder", json!("Upper"), "classification.encoder"),
        ("/classification/encoder", json!("sample"), "classification.encoder"),
        ("/classification/encoder_sha256", json!("00"), "classification.encoder_sha256"),
        ("/classification/labels", json!([]), "classification.labels"),
        ("/classification/labels", json!([label, label]), "classification.labels[1].name"),
        ("/classification/labels/1/name", json!(""), "classification.labels[1].name"),
        ("/classification/labels/0/threshold", json!(0), "classification.labels[0].threshold"),
        ("/classification/labels/0/threshold", json!("NaN"), "classification.labels[0].threshold"),
        ("/classification/labels/0/threshold", json!(1.5), "classification.labels[0].threshold"),
        ("/classification/labels/0/advisory", json!("yes"), "classification.labels[0].advisory"),
        ("/tokenizer", tokenizer, "tokenizer"),
    ];
    for (whole, cases) in [
        (sample::embedding().0, embedding),
        (sample::generation().0, generation),
        (sample::classification().0, classification),
    ] {
        for (pointer, value, field) in cases {
            let mut manifest = whole.clone();
            match manifest.pointer_mut(pointer) {
                Some(place) => *place = value.clone(),
                None => manifest[&pointer[1..]] = value.clone(),
            }
            let refused = Manifest::parse(&serde_json::to_vec(&manifest).unwrap()).unwrap_err();
            assert_eq!((refused.file.as_str(), refused.field.as_str()), ("bundle.json", *field), "{value}: {refused}");
        }
    }
}

#[test]
fn a_generation_manifest_says_what_it_says() {
    let sample = Sample::write_with(sample::generation(), |_| (), |_| ());
    let bundle = sample.open().unwrap();
    let task = bundle.manifest.generation().unwrap();
    assert_eq!((task.kv_cache.layers, task.kv_cache.kv_heads), (2, 1));
    let template = task.chat_template.as_ref().unwrap();
    assert_eq!(template.at(ChatPlace::BeforeUser).len(), 2);
    assert!(template.at(ChatPlace::AfterUser).is_empty());
    assert!(template.trims_message(ChatPlace::BeforeUser) && !template.trims_message(ChatPlace::BeforeSystem));
    assert_eq!(bundle.manifest.embedding().unwrap_err().field, "embedding");
    let Golden::Generations(golden) = bundle.golden else { panic!("{:?}", bundle.golden) };
    let message = Message { role: Role::User, content: "one more".to_owned() };
    assert_eq!(golden.cases[1].prompt, GoldenPrompt::Conversation(vec![message]));

    let change = |manifest: &mut Value| manifest["generation"]["chat_template"] = json!([]);
    let without = Sample::write_with(sample::generation(), change, |_| ());
    assert_eq!(without.open().unwrap().manifest.generation().unwrap().chat_template, None);
    assert_eq!(Sample::write().open().unwrap().manifest.generation().unwrap_err().field, "generation");
}

#[test]
fn a_head_names_its_encoder_and_has_no_tokenizer() {
    let bundle = Sample::write_with(sample::classification(), |_| (), |_| ()).open().unwrap();
    let task = bundle.manifest.classification().unwrap();
    let labels = task.labels.iter().map(|label| (label.name.as_str(), label.threshold, label.advisory));
    assert_eq!(task.encoder, "another");
    assert!(labels.eq([("rude", 0.5, false), ("kind", 0.75, true)]));
    assert_eq!(bundle.manifest.tokenizer().unwrap_err().field, "tokenizer");
    assert!(matches!(bundle.golden, Golden::Classifications(cases) if cases.len() == 2));
}

#[test]
fn golden_cases_out_of_range_are_refused_by_field() {
    let embeddings: &[(&str, Value, &str)] = &[
        ("/embeddings/0/token_ids", json!([]), "embeddings[0].token_ids"),
        ("/embeddings/1/token_ids/0", json!(10), "embeddings[1].token_ids"),
        ("/embeddings/1/vector", json!([1.0]), "embeddings[1].vector"),
        ("/embeddings/1/vector/0", json!("Infinity"), "embeddings[1].vector"),
        ("/embeddings/1/graphs", json!([{"values": [1.0, 0.0]}, {"values": [1.0, 0.0]}]), "embeddings[1].graphs"),
        ("/embeddings/1/graphs/0/values", json!([1.0]), "embeddings[1].graphs"),
        ("/embeddings/1/graphs/0/values/0", json!("NaN"), "embeddings[1].graphs"),
        ("/embeddings/1/token_ids", json!([1, 2]), "embeddings"),
        ("/embeddings", json!([]), "embeddings"),
        (
            "/embeddings",
            json!(vec![
                json!({"text": "a", "token_ids": [1], "vector": [0.6, 0.8], "graphs": [{"values": [0.6, 0.8]}]});
                1025
            ]),
            "embeddings",
        ),
        ("/embeddings/0/text", json!("a".repeat(1 << 20)), "embeddings"),
    ];
    let role = "conversation.messages[0].role";
    let generations: &[(&str, Value, &str)] = &[
        ("/generations/0/prompt_ids", json!([]), "generations[0].prompt_ids"),
        ("/generations/1/prompt_ids", json!([1, 2]), "generations"),
        ("/generations/1/conversation/messages", json!([]), "generations[1].conversation.messages"),
        ("/generations/1/conversation/messages/0/role", json!("tool"), &format!("generations[1].{role}")),
        ("/generations/0/logit_ids/1", json!(10), "generations[0].logit_ids"),
        ("/generations/0/reference/next_token_logits", json!([1.0]), "generations[0].reference.next_token_logits"),
        ("/generations/0/reference/next_token_logits/0", json!("NaN"), "generations[0].reference.next_token_logits"),
        ("/generations/0/reference/token_ids", json!([]), "generations[0].reference.token_ids"),
        ("/generations/0/graphs/0/token_ids", json!(vec![1; 7]), "generations[0].graphs[0].token_ids"),
        ("/generations/0/graphs/0/margins/0", json!(-0.5), "generations[0].graphs[0].margins"),
        ("/generations/0/graphs", json!([]), "generations[0].graphs"),
        ("/clear_margin", json!(0), "clear_margin"),
        ("/clear_margin", json!("NaN"), "clear_margin"),
    ];
    let classifications: &[(&str, Value, &str)] = &[
        ("/classifications/0/scores", json!([0.5]), "classifications[0]"),
        ("/classifications/1/scores/0", json!(1.5), "classifications[1]"),
        ("/classifications/1/scores/0", json!("NaN"), "classifications[1]"),
        ("/classifications/1/text", json!(""), "classifications[1]"),
        ("/classifications/1/text", json!("a".repeat(1 << 20)), "classifications"),
        ("/classifications", json!([{"text": "one", "scores": [0.5, 0.5]}]), "classifications"),
    ];
    for (kind, cases) in [(KINDS[0], embeddings), (KINDS[1], generations), (KINDS[2], classifications)] {
        for (pointer, value, field) in cases {
            let change = |golden: &mut Value| *golden.pointer_mut(pointer).unwrap() = value.clone();
            let refused = Sample::write_with(kind(), |_| (), change).open().unwrap_err();
            assert_eq!((refused.file.as_str(), refused.field.as_str()), ("golden.json", *field), "{value}: {refused}");
        }
    }
}

#[test]
fn a_file_that_is_read_as_a_whole_has_a_bound() {
    let sample = Sample::write();
    for file in ["golden.json", "bundle.json"] {
        // A file of holes: it takes no room, and would take this much memory.
        fs::OpenOptions::new().write(true).open(sample.folder().join(file)).unwrap().set_len(1 << 40).unwrap();
    }
    let refused = sample.open().unwrap_err();
    assert_eq!(refused.file, "bundle.json");
    assert!(refused.problem.contains("more than"), "{refused}");
}

/// A device gives bytes without end, and a pipe none until somebody writes.
#[test]
fn what_is_no_regular_file_is_refused_unread() {
    for file in ["model.block_quantized.onnx", "golden.json", "bundle.json"] {
        let sample = Sample::write();
        let place = sample.folder().join(file);
        fs::remove_file(&place).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &place).unwrap();
        let refused = sample.open().unwrap_err();
        assert_eq!(refused.file, file);
        assert!(refused.problem.contains("not a regular file"), "{refused}");
    }
}

#[test]
fn current_is_read_strictly() {
    for (json, field) in [
        ("", ""),
        ("[]", ""),
        (r#"{"revision": "0123456789abcdef"}"#, ""),
        (r#"{"revision": "0123456789abcdef", "history": [], "more": 1}"#, ""),
        (r#"{"revision": "../../etc", "history": []}"#, "revision"),
        (r#"{"revision": "0123456789ABCDEF", "history": []}"#, "revision"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("current"), json).unwrap();
        let refused = Revision::current(folder.path()).unwrap_err();
        assert_eq!((refused.file.as_str(), refused.field.as_str()), ("current", field), "{json}");
    }
}

#[test]
fn a_stamp_changes_with_the_files_and_only_with_them() {
    let sample = Sample::write();
    let before = Stamp::of(&sample.model_folder());
    assert_eq!(before, Stamp::of(&sample.model_folder()));
    fs::write(sample.folder().join("tokenizer.json"), b"longer than it was before").unwrap();
    assert_ne!(before, Stamp::of(&sample.model_folder()));
    assert_eq!(Stamp::of(&sample.model_folder().join("absent")), Stamp::default());
}

#[test]
fn an_error_reads_as_file_field_problem() {
    let mut manifest = sample::embedding().0;
    manifest["graphs"][0].as_object_mut().unwrap().remove("opset");
    let refused: Refused = Manifest::parse(&serde_json::to_vec(&manifest).unwrap()).unwrap_err();
    let text = refused.to_string();
    assert!(text.starts_with("bundle.json: graphs[0]: missing field \"opset\""), "{text}");
    assert!(Bundle::open(std::path::Path::new("/nowhere"), &Revision::of(b"")).is_err());
}
