//! Every graph serves on every processor, and what is chosen is what a processor runs well. With models so small that an
//! emulated processor runs them too.

use std::{fs, os::unix::fs::symlink};

use hotpath_bundle::{Bundle, CpuFeature, Precision};
use hotpath_contract::inference::v1::ModelState;
use hotpath_runtime::cpu_has;
use hotpath_testing::{tiny_decoder, tiny_encoder};

use crate::support::{TestServer, config, eventually};

/// Serves both models until their golden cases came out, alone and in a batch; gives the precisions, each with its reason, decoder first.
async fn precisions(encoder: Option<Precision>, decoder: Option<Precision>) -> Vec<(String, String)> {
    let models = tempfile::tempdir().unwrap();
    let mut config = config();
    let link = |bundle: &Bundle| {
        let folder = fs::canonicalize(bundle.path("bundle.json")).unwrap().ancestors().nth(2).unwrap().to_owned();
        symlink(folder, models.path().join(&bundle.manifest.name)).unwrap();
        bundle.manifest.name.clone()
    };
    config.model_names = [tiny_decoder(), tiny_encoder()].iter().map(link).collect();
    models.path().clone_into(&mut config.models);
    (config.precision, config.generation.precision) = (encoder, decoder);
    let server = TestServer::start(config).await;
    let ready = eventually("both models being ready", || async {
        let models = server.models().await;
        for model in &models {
            assert_ne!(model.state(), ModelState::Failed, "{}: {}", model.name, model.status_message);
        }
        models.iter().all(|model| model.state() == ModelState::Ready).then_some(models)
    });
    ready.await.into_iter().map(|model| (model.precision, model.precision_reason)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_is_given_graphs_whose_bits_it_keeps() {
    let (expected, because) = if cpu_has(CpuFeature::Int8DotProduct) {
        (["int8", "int8"], "the processor has an int8 dot product")
    } else {
        (["int8_block", "fp32"], "the processor has no int8 dot product, and this runs well without")
    };
    assert_eq!(precisions(None, None).await, expected.map(|precision| (precision.to_owned(), because.to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_keeps_the_bits_of_other_graphs_that_are_asked_for() {
    let (encoder, decoder, expected) = if cpu_has(CpuFeature::Int8DotProduct) {
        (Precision::Fp32, Precision::Int8Block, ["int8_block", "fp32"])
    } else {
        (Precision::Int8, Precision::Int8, ["int8", "int8"])
    };
    let because = "a setting asks for it";
    let expected = expected.map(|precision| (precision.to_owned(), because.to_owned()));
    assert_eq!(precisions(Some(encoder), Some(decoder)).await, expected);
}
