//! The embedding task of a manifest: what a text's vector is.

use hotpath_contract::bundle::v1::{self as proto, Pooling};

use crate::{
    Refused,
    fields::{check, enumerated},
};

/// A checked `triptych.bundle.v1.EmbeddingTask`. The fields' meaning is documented there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Embedding {
    pub pooling: Pooling,
    pub normalize: bool,
    pub dimensions: Vec<u32>,
}

/// Checks a task.
pub(crate) fn read(proto: proto::EmbeddingTask) -> Result<Embedding, Refused> {
    let at = "embedding.dimensions";
    check(!proto.dimensions.is_empty(), at, || "there must be at least one".to_owned())?;
    let descending = proto.dimensions.windows(2).all(|pair| pair[0] > pair[1]);
    check(descending && !proto.dimensions.contains(&0), at, || {
        format!("{:?} are not above 0, each less than the one before", proto.dimensions)
    })?;
    Ok(Embedding {
        pooling: enumerated(proto.pooling, "embedding.pooling")?,
        normalize: proto.normalize,
        dimensions: proto.dimensions,
    })
}
