use hotpath_contract::bundle::v1 as proto;

use super::checks::{MOST_BYTES, check_size};
use crate::{Refused, manifest::Manifest, strict_json, tasks::classification::Classification};

/// One checked `triptych.bundle.v1.GoldenClassification`.
#[derive(Debug, Clone, PartialEq)]
pub struct GoldenClassification {
    /// The text.
    pub text: String,
    /// Its scores, one for each label.
    pub scores: Vec<f32>,
}

pub(super) fn parse(
    json: &[u8],
    manifest: &Manifest,
    task: &Classification,
) -> Result<Vec<GoldenClassification>, Refused> {
    let file = manifest.golden_file.as_str();
    let proto: proto::ClassificationGoldenFile =
        strict_json::read("triptych.bundle.v1.ClassificationGoldenFile", file, json)?;
    let sizes = proto.classifications.iter().map(|case| case.text.len());
    check_size(file, "classifications", sizes, "bytes", MOST_BYTES)?;
    if proto.classifications.len() < 2 {
        return Err(Refused::field(file, "classifications", "there must be at least two"));
    }
    let labels = task.labels.len();
    let case = |(i, case): (usize, proto::GoldenClassification)| {
        let are_scores = case.scores.len() == labels && case.scores.iter().all(|score| (0.0..=1.0).contains(score));
        if case.text.is_empty() || !are_scores {
            let problem = format!("is empty, or has not one score from 0 to 1 for each of {labels} labels");
            return Err(Refused::field(file, format!("classifications[{i}]"), problem));
        }
        Ok(GoldenClassification { text: case.text, scores: case.scores })
    };
    proto.classifications.into_iter().enumerate().map(case).collect()
}
