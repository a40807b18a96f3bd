//! What can go wrong with a request, and how it is said over gRPC. `docs/errors.md` has the table; a test holds it against
//! this file.

use std::{collections::HashMap, time::Duration};

use hotpath_contract::{ERROR_DOMAIN, ErrorReason, reason_name};
use hotpath_encoding::{Failure, Full};
use hotpath_fairness::turnstile;
use hotpath_formats as formats;
use hotpath_generation as generation;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// A model that is not ready, or a process that goes away, is worth another look after this long: `current` is looked at
/// every second, and a balancer finds another process within one.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Most bytes of an error's message. In a header each may become three.
const LONGEST_MESSAGE: usize = 1000;

/// Why a request was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("`{field}` is required")]
    MissingField { field: &'static str },
    #[error("`{field}` {problem}")]
    InvalidValue { field: String, problem: String },
    #[error("the request message {problem}")]
    BadMessage { problem: &'static str },
    #[error("there is no model \"{model}\"")]
    ModelNotFound { model: String },
    #[error("model \"{model}\" {problem}")]
    ModelTaskMismatch { model: String, problem: &'static str },
    #[error("`{field}` is empty")]
    EmptyInput { field: String },
    /// A text that is far too long is not counted to its end.
    #[error("`{field}` has {} tokens, the model takes at most {limit}", or_too_many(*actual))]
    InputTooLong { field: String, actual: Option<usize>, limit: usize },
    #[error("`{field}` brings the request beyond {limit} {unit}, the most that it may have")]
    BeyondRequest { field: String, unit: &'static str, limit: usize },
    #[error("`{field}` has more than {limit} bytes that follow each other without white space or punctuation")]
    Unbroken { field: String, limit: usize },
    #[error("`{field}` has {prompt} tokens and `max_tokens` is {max_tokens}; together they may be at most {limit}")]
    PromptTooLong { field: &'static str, prompt: usize, max_tokens: usize, limit: usize },
    #[error("`{field}` has {actual} entries, a request may have at most {limit}")]
    TooManyInputs { field: &'static str, actual: usize, limit: usize },
    #[error("`{field}`: the id at place {place} is {actual}, the vocabulary's ids are below {limit}")]
    TokenIdOutOfRange { field: String, place: usize, actual: u32, limit: u32 },
    #[error("`dimensions` is {actual}, the model has vectors of {supported:?}")]
    DimensionsUnsupported { actual: u32, supported: Vec<u32> },
    #[error("the request may come to {actual} tokens, {limit} may be charged")]
    ChargeTooHigh { actual: usize, limit: usize },
    /// `waiting` is how long what the fairness key has waiting takes, if nothing else runs; zero where that is not known.
    #[error("the queue is full; retry in {} ms", retry_after.as_millis())]
    QueueFull { retry_after: Duration, waiting: Duration },
    #[error("the request waited too long in the queue; retry in {} ms", retry_after.as_millis())]
    WaitedTooLong { retry_after: Duration },
    #[error("the deadline passed before the request was done")]
    DeadlineExceeded,
    #[error("the stream was not read for longer than the limit")]
    SlowReader,
    #[error("this process is shutting down")]
    ShuttingDown,
    #[error("model \"{model}\" is not ready")]
    ModelNotReady { model: String },
    #[error("the caller is gone")]
    Cancelled,
    /// The cause is for the log alone.
    #[error("internal error; the log has its cause under the request id")]
    Internal { cause: String },
}

/// The gRPC code of each reason.
#[must_use]
pub fn grpc_code(reason: ErrorReason) -> Code {
    match reason {
        ErrorReason::InvalidValue
        | ErrorReason::MissingField
        | ErrorReason::EmptyInput
        | ErrorReason::InputTooLong
        | ErrorReason::TooManyInputs
        | ErrorReason::TokenIdOutOfRange
        | ErrorReason::DimensionsUnsupported => Code::InvalidArgument,
        ErrorReason::ModelNotFound => Code::NotFound,
        ErrorReason::ModelTaskMismatch => Code::FailedPrecondition,
        ErrorReason::ChargeTooHigh => Code::ResourceExhausted,
        ErrorReason::QueueFull | ErrorReason::HotpathUnavailable | ErrorReason::ModelNotReady => Code::Unavailable,
        ErrorReason::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorReason::Cancelled => Code::Cancelled,
        ErrorReason::SlowReader => Code::Aborted,
        ErrorReason::Unspecified | ErrorReason::Internal => Code::Internal,
    }
}

impl Error {
    /// A field with a value that it may not have; `problem` continues a sentence that the field begins.
    pub fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::InvalidValue { field: field.into(), problem: problem.into() }
    }

    /// The reason's name, as docs/errors.md has it.
    #[must_use]
    pub fn reason_name(&self) -> &'static str {
        reason_name(self.reason())
    }

    /// The reason in the contract.
    #[must_use]
    pub fn reason(&self) -> ErrorReason {
        match self {
            Self::MissingField { .. } => ErrorReason::MissingField,
            Self::InvalidValue { .. } | Self::BadMessage { .. } => ErrorReason::InvalidValue,
            Self::ModelNotFound { .. } => ErrorReason::ModelNotFound,
            Self::ModelTaskMismatch { .. } => ErrorReason::ModelTaskMismatch,
            Self::EmptyInput { .. } => ErrorReason::EmptyInput,
            Self::InputTooLong { .. }
            | Self::PromptTooLong { .. }
            | Self::BeyondRequest { .. }
            | Self::Unbroken { .. } => ErrorReason::InputTooLong,
            Self::TooManyInputs { .. } => ErrorReason::TooManyInputs,
            Self::TokenIdOutOfRange { .. } => ErrorReason::TokenIdOutOfRange,
            Self::DimensionsUnsupported { .. } => ErrorReason::DimensionsUnsupported,
            Self::ChargeTooHigh { .. } => ErrorReason::ChargeTooHigh,
            Self::QueueFull { .. } | Self::WaitedTooLong { .. } => ErrorReason::QueueFull,
            Self::DeadlineExceeded => ErrorReason::DeadlineExceeded,
            Self::SlowReader => ErrorReason::SlowReader,
            Self::ShuttingDown => ErrorReason::HotpathUnavailable,
            Self::ModelNotReady { .. } => ErrorReason::ModelNotReady,
            Self::Cancelled => ErrorReason::Cancelled,
            Self::Internal { .. } => ErrorReason::Internal,
        }
    }

    /// When a later attempt may succeed; `None` where repeating cannot mend it.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::QueueFull { retry_after, .. } | Self::WaitedTooLong { retry_after } => Some(*retry_after),
            Self::ShuttingDown | Self::ModelNotReady { .. } | Self::Internal { .. } => Some(LOOK_AGAIN),
            _ => None,
        }
    }

    /// The field at fault, and the limit and the actual number where they apply; of a full queue, what the key has in it.
    fn metadata(&self) -> HashMap<String, String> {
        if let Self::QueueFull { waiting, .. } = self
            && !waiting.is_zero()
        {
            return HashMap::from([("waiting_ms".to_owned(), waiting.as_millis().to_string())]);
        }
        let (field, limit, actual) = match self {
            Self::MissingField { field } => (*field, None, None),
            Self::InvalidValue { field, .. } | Self::EmptyInput { field } => (field.as_str(), None, None),
            Self::ModelNotFound { .. } | Self::ModelTaskMismatch { .. } => ("model", None, None),
            Self::InputTooLong { field, actual, limit } => (field.as_str(), Some(*limit), *actual),
            Self::BeyondRequest { field, limit, .. } | Self::Unbroken { field, limit } => {
                (field.as_str(), Some(*limit), None)
            }
            Self::PromptTooLong { field, prompt, max_tokens, limit } => {
                (*field, Some(*limit), Some(prompt.saturating_add(*max_tokens)))
            }
            Self::TooManyInputs { field, actual, limit } => (*field, Some(*limit), Some(*actual)),
            Self::ChargeTooHigh { actual, limit } => ("", Some(*limit), Some(*actual)),
            Self::TokenIdOutOfRange { field, actual, limit, .. } => {
                (field.as_str(), Some(*limit as usize), Some(*actual as usize))
            }
            Self::DimensionsUnsupported { actual, .. } => ("dimensions", None, Some(*actual as usize)),
            _ => ("", None, None),
        };
        let field = Some(field).filter(|field| !field.is_empty()).map(|field| ("field", field.to_owned()));
        let limit = limit.map(|limit| ("limit", limit.to_string()));
        let actual = actual.map(|actual| ("actual", actual.to_string()));
        [field, limit, actual].into_iter().flatten().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        if let Error::Internal { cause } = &error {
            tracing::error!(cause, "request failed");
        }
        let reason = error.reason();
        let mut details = ErrorDetails::new();
        details.set_error_info(reason_name(reason), ERROR_DOMAIN, error.metadata());
        if let Some(delay) = error.retry_after() {
            details.set_retry_info(Some(delay));
        }
        Status::with_error_details(grpc_code(reason), bounded(error.to_string()), details)
    }
}

fn or_too_many(tokens: Option<usize>) -> String {
    tokens.map_or_else(|| "too many".to_owned(), |tokens| tokens.to_string())
}

/// A message that fits into a header. Some quote what was asked, and a header that is too long ends the connection, with
/// every other call on it.
pub(crate) fn bounded(mut message: String) -> String {
    if message.len() > LONGEST_MESSAGE {
        message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
        message.push('…');
    }
    message
}

impl From<Full> for Error {
    fn from(Full { retry_after, waiting }: Full) -> Self {
        Self::QueueFull { retry_after, waiting }
    }
}

impl From<turnstile::Refused> for Error {
    fn from(refused: turnstile::Refused) -> Self {
        match refused {
            turnstile::Refused::Full { retry_after } => Self::QueueFull { retry_after, waiting: Duration::ZERO },
            turnstile::Refused::TooLate { retry_after } => Self::WaitedTooLong { retry_after },
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::DeadlineExceeded => Self::DeadlineExceeded,
            Failure::WaitedTooLong { retry_after } => Self::WaitedTooLong { retry_after },
            Failure::RunFailed { .. } | Failure::Died(_) => Self::Internal { cause: failure.to_string() },
        }
    }
}

impl From<formats::Failure> for Error {
    fn from(failure: formats::Failure) -> Self {
        match failure {
            formats::Failure::Refused(refusal) => {
                Self::invalid("format.json_schema", format!("cannot be kept to: {refusal}"))
            }
            formats::Failure::Full { retry_after } => Self::QueueFull { retry_after, waiting: Duration::ZERO },
            formats::Failure::WaitedTooLong { retry_after } => Self::WaitedTooLong { retry_after },
            formats::Failure::Broken(cause) => Self::Internal { cause },
        }
    }
}

impl From<generation::Failure> for Error {
    fn from(failure: generation::Failure) -> Self {
        match failure {
            generation::Failure::DeadlineExceeded => Self::DeadlineExceeded,
            generation::Failure::WaitedTooLong { retry_after } => Self::WaitedTooLong { retry_after },
            generation::Failure::SlowReader => Self::SlowReader,
            generation::Failure::Format(problem) => Self::invalid("format", format!("cannot be kept to: {problem}")),
            generation::Failure::RunFailed(_) | generation::Failure::Died(_) => {
                Self::Internal { cause: failure.to_string() }
            }
        }
    }
}
