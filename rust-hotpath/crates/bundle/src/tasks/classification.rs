//! The classification task of a manifest: whose vectors a head takes, and what its scores are of.

use std::collections::BTreeSet;

use hotpath_contract::bundle::v1 as proto;

use crate::{
    Refused,
    fields::{check, is_model_name, sha256, text},
};

/// A checked `triptych.bundle.v1.ClassificationTask`. The fields' meaning is documented there.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Classification {
    pub encoder: String,
    pub encoder_sha256: String,
    pub labels: Vec<ClassLabel>,
}

/// Something that a text may be.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassLabel {
    /// Its name.
    pub name: String,
    /// A text is said to be it from this score on.
    pub threshold: f64,
    /// Whether that is no more than a hint.
    pub advisory: bool,
}

/// Checks a task of the model `name`.
pub(crate) fn read(proto: proto::ClassificationTask, name: &str) -> Result<Classification, Refused> {
    let encoder = proto.encoder;
    check(is_model_name(&encoder) && encoder != name, "classification.encoder", || {
        format!("\"{encoder}\" cannot be another model's name")
    })?;
    check(!proto.labels.is_empty(), "classification.labels", || "there must be at least one".to_owned())?;
    let mut names = BTreeSet::new();
    let mut labels = Vec::with_capacity(proto.labels.len());
    for (i, label) in proto.labels.into_iter().enumerate() {
        let at = |field: &str| format!("classification.labels[{i}].{field}");
        let name = text(label.name, &at("name"))?;
        check(names.insert(name.clone()), &at("name"), || format!("\"{name}\" is there twice"))?;
        let threshold = label.threshold;
        check(threshold > 0.0 && threshold <= 1.0, &at("threshold"), || {
            format!("{threshold} is not above 0 and at most 1")
        })?;
        labels.push(ClassLabel { name, threshold, advisory: label.advisory });
    }
    let encoder_sha256 = sha256(proto.encoder_sha256, "classification.encoder_sha256")?;
    Ok(Classification { encoder, encoder_sha256, labels })
}
