//! Encoders over the real library: one with random weights, and the default model.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test's panic is its failure")]

use hotpath_bundle::{Axis, Bundle, ElementType, Graph, Tolerance};
use hotpath_runtime::{Encode, Encoder};
use hotpath_testing::{bundle, golden_embeddings, library, tiny_encoder};

fn graph(bundle: &Bundle) -> Graph {
    bundle.manifest.graphs[0].clone()
}

fn encoder(bundle: &Bundle) -> Encoder {
    Encoder::load(&library(), bundle, &graph(bundle)).unwrap()
}

fn assert_near(vector: &[f32], golden: &[f32], tolerance: Tolerance) {
    let largest = vector.iter().zip(golden).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    let cosine: f64 = vector.iter().zip(golden).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    assert!(largest <= tolerance.max_abs_error && cosine >= tolerance.min_cosine, "{largest}, {cosine}: {tolerance:?}");
}

fn golden_cases_alone_and_together(bundle: &Bundle) {
    let tolerance = graph(bundle).tolerance;
    let mut encoder = encoder(bundle);
    let texts: Vec<&[u32]> = golden_embeddings(bundle).iter().map(|case| &*case.token_ids).collect();
    let together = encoder.encode(&texts).unwrap();
    for (case, together) in golden_embeddings(bundle).iter().zip(together) {
        let alone = encoder.encode(&[&case.token_ids]).unwrap().remove(0);
        assert_near(&alone, &case.vector, tolerance);
        assert_eq!(alone, case.graphs[0], "\"{}\" has other bits than where it was exported", case.text);
        assert_eq!(alone, together, "\"{}\" depends on its batch", case.text);
    }
}

#[test]
fn golden_cases_have_the_same_bits_alone_and_together_with_random_weights() {
    golden_cases_alone_and_together(&tiny_encoder());
}

#[test]
fn golden_cases_have_the_same_vectors_alone_and_together_with_the_default_model() {
    golden_cases_alone_and_together(&bundle());
}

#[test]
fn an_id_beyond_the_vocabulary_fails_and_the_session_lives() {
    let bundle = bundle();
    let mut encoder = encoder(&bundle);
    let good = &golden_embeddings(&bundle)[0];
    let before = encoder.encode(&[&good.token_ids]).unwrap();
    let error =
        encoder.encode(&[&good.token_ids, &[bundle.manifest.tokenizer().unwrap().vocabulary_size]]).unwrap_err();
    assert!(error.to_string().contains("is not among"), "{error}");
    assert_eq!(encoder.encode(&[&good.token_ids]).unwrap(), before);
}

#[test]
fn a_graph_that_differs_from_the_manifest_is_refused_by_field() {
    type Change = fn(&mut Graph);
    const FILE: &str = "model.block_quantized.onnx";
    const FIELDS: &str = "graphs: model.block_quantized.onnx";
    let (inputs, outputs) = (format!("{FIELDS}: inputs"), format!("{FIELDS}: outputs"));
    let cases: [(Change, &str, &str); 5] = [
        (|graph| graph.inputs[1].shape = vec![Axis::Fixed(1)], FILE, "inputs[1].shape"),
        (|graph| graph.outputs[0].shape[0] = Axis::Symbolic("rows".to_owned()), FILE, "outputs[0].shape"),
        (|graph| graph.inputs[1].element_type = ElementType::Int32, "bundle.json", &inputs),
        (|graph| graph.inputs.swap(0, 1), "bundle.json", &inputs),
        (|graph| graph.outputs[0].shape[1] = Axis::Fixed(385), "bundle.json", &outputs),
    ];
    let bundle = bundle();
    for (change, file, field) in cases {
        let mut graph = graph(&bundle);
        change(&mut graph);
        let refused = Encoder::load(&library(), &bundle, &graph).unwrap_err();
        assert_eq!((refused.file.as_str(), refused.field.as_str()), (file, field), "{refused}");
    }
}

#[test]
fn another_onnxruntime_than_the_manifests_is_refused() {
    let mut bundle = bundle();
    bundle.manifest.onnxruntime_version = "1.30.0".to_owned();
    let refused = Encoder::load(&library(), &bundle, &bundle.manifest.graphs[0]).unwrap_err();
    assert_eq!((refused.file.as_str(), refused.field.as_str()), ("bundle.json", "onnxruntime_version"));
    assert!(refused.problem.contains("1.30.0") && refused.problem.contains(library().version()), "{refused}");
}

#[test]
fn bytes_that_are_no_graph_are_refused_by_file() {
    let bundle = bundle();
    let mut graph = graph(&bundle);
    graph.file = "tokenizer.json".to_owned();
    assert_eq!(Encoder::load(&library(), &bundle, &graph).unwrap_err().file, "tokenizer.json");
}

#[test]
fn runs_that_are_ended_fail_and_those_of_another_handle_go_on() {
    let (bundle, ended, other) = (bundle(), library(), library());
    let graph = graph(&bundle);
    let mut sessions = [&ended, &other].map(|library| Encoder::load(library, &bundle, &graph).unwrap());
    let text = [101, 102];
    for session in &mut sessions {
        session.encode(&[&text]).unwrap();
    }
    ended.terminate().unwrap();
    assert!(sessions[0].encode(&[&text]).is_err());
    assert!(Encoder::load(&ended, &bundle, &graph).unwrap().encode(&[&text]).is_err());
    sessions[1].encode(&[&text]).unwrap();
}
