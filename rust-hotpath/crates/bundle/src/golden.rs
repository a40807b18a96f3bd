//! The golden cases: what the reference implementation says of some texts.

use hotpath_contract::bundle::v1 as proto;

use crate::{Manifest, Refused, strict_json};

/// One checked `triptych.bundle.v1.GoldenEmbedding`.
#[derive(Debug, Clone, PartialEq)]
pub struct Golden {
    /// The text.
    pub text: String,
    /// Its ids, special tokens included.
    pub token_ids: Vec<u32>,
    /// Its vector in full length.
    pub vector: Vec<f32>,
}

/// Parses and checks the golden file's bytes against the manifest that they come with.
pub(crate) fn parse(json: &[u8], manifest: &Manifest) -> Result<Vec<Golden>, Refused> {
    let file = manifest.golden_file.as_str();
    let proto: proto::GoldenFile = strict_json::read("triptych.bundle.v1.GoldenFile", file, json)?;
    let mut cases = Vec::with_capacity(proto.embeddings.len());
    for (i, case) in proto.embeddings.into_iter().enumerate() {
        let refuse =
            |field: &str, problem: String| Err(Refused::field(file, format!("embeddings[{i}].{field}"), problem));
        let limits = &manifest.tokenizer;
        if case.token_ids.is_empty() || case.token_ids.len() > limits.max_tokens as usize {
            return refuse("token_ids", format!("{} ids are not 1 to {}", case.token_ids.len(), limits.max_tokens));
        }
        if let Some(id) = case.token_ids.iter().find(|id| **id >= limits.vocabulary_size) {
            return refuse("token_ids", format!("{id} is not below {}", limits.vocabulary_size));
        }
        let dimensions = manifest.embedding.dimensions[0] as usize;
        if case.vector.len() != dimensions || !case.vector.iter().all(|x| x.is_finite()) {
            return refuse(
                "vector",
                format!("has {} elements, or one that is not finite, for {dimensions}", case.vector.len()),
            );
        }
        cases.push(Golden { text: case.text, token_ids: case.token_ids, vector: case.vector });
    }
    let first = cases.first().map(|case| case.token_ids.len());
    if !cases.iter().any(|case| Some(case.token_ids.len()) != first) {
        return Err(Refused::field(file, "embeddings", "there must be at least two, of different lengths"));
    }
    Ok(cases)
}
