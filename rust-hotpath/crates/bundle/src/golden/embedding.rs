use hotpath_contract::bundle::v1 as proto;

use super::checks::{MOST_BYTES, MOST_TOKENS, check_ids, check_size, differ};
use crate::{Refused, manifest::Manifest, strict_json, tasks::embedding::Embedding};

/// One checked `triptych.bundle.v1.GoldenEmbedding`.
#[derive(Debug, Clone, PartialEq)]
pub struct GoldenEmbedding {
    /// The text.
    pub text: String,
    /// Its ids, special tokens included.
    pub token_ids: Vec<u32>,
    /// The reference's vector in full length.
    pub vector: Vec<f32>,
    /// Each graph's own, in the manifest's order.
    pub graphs: Vec<Vec<f32>>,
}

pub(super) fn parse(json: &[u8], manifest: &Manifest, task: &Embedding) -> Result<Vec<GoldenEmbedding>, Refused> {
    let file = manifest.golden_file.as_str();
    let proto: proto::GoldenFile = strict_json::read("triptych.bundle.v1.GoldenFile", file, json)?;
    let cases = || proto.embeddings.iter();
    check_size(file, "embeddings", cases().map(|case| case.token_ids.len()), "tokens", MOST_TOKENS)?;
    check_size(file, "embeddings", cases().map(|case| case.text.len()), "bytes", MOST_BYTES)?;
    let mut cases = Vec::with_capacity(proto.embeddings.len());
    for (i, case) in proto.embeddings.into_iter().enumerate() {
        let refuse = |field: &str, problem: String| Refused::field(file, format!("embeddings[{i}].{field}"), problem);
        check_ids(&case.token_ids, manifest).map_err(|problem| refuse("token_ids", problem))?;
        let dimensions = task.dimensions[0] as usize;
        let check = |field, vector: &[f32]| {
            if vector.len() == dimensions && vector.iter().all(|x| x.is_finite()) {
                return Ok(());
            }
            let elements = vector.len();
            Err(refuse(field, format!("has {elements} elements, or one that is not finite, for {dimensions}")))
        };
        check("vector", &case.vector)?;
        let graphs: Vec<Vec<f32>> = case.graphs.into_iter().map(|vector| vector.values).collect();
        graphs.iter().try_for_each(|vector| check("graphs", vector))?;
        if graphs.len() != manifest.graphs.len() {
            return Err(refuse("graphs", format!("has {}, for {} graphs", graphs.len(), manifest.graphs.len())));
        }
        cases.push(GoldenEmbedding { text: case.text, token_ids: case.token_ids, vector: case.vector, graphs });
    }
    if !differ(cases.iter().map(|case| case.token_ids.len())) {
        return Err(Refused::field(file, "embeddings", "there must be at least two, of different lengths"));
    }
    Ok(cases)
}
