//! Every model serves on every processor, by whichever kernels. With models so small that an
//! emulated processor runs them too.

use std::{fs, os::unix::fs::symlink, sync::Arc};

use hotpath_bundle::Bundle;
use hotpath_contract::inference::v1::ModelState;
use hotpath_runtime::Kernels;
use hotpath_testing::{library, tiny_decoder, tiny_encoder};

use crate::support::{TestServer, config, eventually};

/// Serves both models until their golden cases came out, alone and in a batch; gives the precisions, each with its reason, decoder first.
async fn precisions(kernels: Kernels) -> Vec<(String, String)> {
    let models = tempfile::tempdir().unwrap();
    let mut config = config();
    let link = |bundle: &Bundle| {
        let folder = fs::canonicalize(bundle.path("bundle.json")).unwrap().ancestors().nth(2).unwrap().to_owned();
        symlink(folder, models.path().join(&bundle.manifest.name)).unwrap();
        bundle.manifest.name.clone()
    };
    config.model_names = [tiny_decoder(), tiny_encoder()].iter().map(link).collect();
    models.path().clone_into(&mut config.models);
    config.kernels = kernels;
    let server = TestServer::start_with(config, Arc::new(library().with_kernels(kernels))).await;
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
async fn a_processor_keeps_the_bits_by_any_kernels() {
    for kernels in [Kernels::best(), Kernels::named("scalar").unwrap()] {
        let reason = "it is the first in the manifest, and runs well on any processor; its kernels are ";
        let expected = ("block_quantized".to_owned(), reason.to_owned() + kernels.name());
        assert_eq!(precisions(kernels).await, [expected.clone(), expected]);
    }
}
