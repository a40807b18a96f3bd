//! What OpenTelemetry calls things: of version 1.43.0 of its conventions, where they have a name for it; else ours begin with
//! `triptych`. Those for generative AI are told by the gateway, which knows what was asked for.

use hotpath_generation::ChunkRun;
use opentelemetry::KeyValue;
use tonic::Code;

/// A call, when it ends.
#[must_use]
pub fn call(service: &str, method: &'static str, code: Code) -> Vec<KeyValue> {
    vec![
        KeyValue::new("rpc.system.name", "grpc"),
        KeyValue::new("rpc.method", format!("{service}/{method}")),
        KeyValue::new("rpc.response.status_code", status_name(code)),
    ]
}

/// Whether a status is the server's fault, as the conventions have it: of others it is the caller's.
#[must_use]
pub fn is_our_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// Why something failed: one of a bounded number.
#[must_use]
pub fn error(reason: &'static str) -> KeyValue {
    KeyValue::new("error.type", reason)
}

/// The model.
#[must_use]
pub fn model(name: &str) -> KeyValue {
    KeyValue::new("triptych.model", name.to_owned())
}

/// How many inputs a request has.
#[must_use]
pub fn inputs(inputs: usize) -> KeyValue {
    KeyValue::new("triptych.inputs", number(inputs))
}

/// A run that read a part of a prompt, or several of them: tokens of the prompt, how long it took, and what else was in it.
#[must_use]
pub fn chunk(run: &ChunkRun) -> Vec<KeyValue> {
    let mut attributes = vec![
        tokens(run.tokens),
        KeyValue::new("triptych.seconds", run.took.as_secs_f64()),
        KeyValue::new("triptych.other_tokens", number(run.others)),
    ];
    if run.runs > 1 {
        attributes.push(KeyValue::new("triptych.chunks", number(run.runs)));
    }
    attributes
}

/// How many tokens something has.
#[must_use]
pub fn tokens(tokens: usize) -> KeyValue {
    KeyValue::new("triptych.tokens", number(tokens))
}

/// How many of them were not computed, since that was done before.
#[must_use]
pub fn reused_tokens(tokens: usize) -> KeyValue {
    KeyValue::new("triptych.reused_tokens", number(tokens))
}

/// How many continuations of its prompt a request has.
#[must_use]
pub fn choices(choices: usize) -> KeyValue {
    KeyValue::new("triptych.choices", number(choices))
}

fn number(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

/// gRPC's own names of its codes.
fn status_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
