//! The generated side of `proto/`: messages, services and descriptors. Nothing else lives here, save how an
//! [`ErrorReason`] is written on the wire.
//!
//! Must not depend on any other crate of this workspace.

#![forbid(unsafe_code)]

/// What a bundle's files say: `triptych.bundle.v1`.
pub mod bundle {
    #[allow(clippy::all, clippy::pedantic, missing_docs, rustdoc::all)]
    pub mod v1 {
        tonic::include_proto!("triptych.bundle.v1");
    }
}

/// What requests and replies say: `triptych.inference.v1`.
pub mod inference {
    #[allow(clippy::all, clippy::pedantic, missing_docs, rustdoc::all)]
    pub mod v1 {
        tonic::include_proto!("triptych.inference.v1");
    }
}

pub use inference::v1::ErrorReason;

/// The encoded `FileDescriptorSet` of everything above, for reflection and for strict JSON.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// `google.rpc.ErrorInfo.domain` of every error that this project makes.
pub const ERROR_DOMAIN: &str = "triptych.dev";

const PREFIX: &str = "ERROR_REASON_";

/// `google.rpc.ErrorInfo.reason` of a reason: the value's name without its prefix.
#[must_use]
pub fn reason_name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix(PREFIX).unwrap_or(name)
}

/// The inverse of [`reason_name`]; `None` for a reason that this build does not know.
#[must_use]
pub fn reason_from_name(name: &str) -> Option<ErrorReason> {
    ErrorReason::from_str_name(&format!("{PREFIX}{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_go_to_their_names_and_back() {
        for number in 0..128 {
            if let Ok(reason) = ErrorReason::try_from(number) {
                assert_eq!(reason_from_name(reason_name(reason)), Some(reason));
                assert!(!reason_name(reason).starts_with(PREFIX));
            }
        }
        assert_eq!(reason_name(ErrorReason::QueueFull), "QUEUE_FULL");
        assert_eq!(reason_from_name("NO_SUCH_REASON"), None);
    }
}
