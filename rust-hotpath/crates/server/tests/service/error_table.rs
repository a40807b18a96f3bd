//! What `docs/errors.md` has the hot path say and the code are the same, in both directions.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use hotpath_contract::{ErrorReason, reason_from_name, reason_name};
use hotpath_server::error::{Error, grpc_code};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A row of the table: its gRPC code, and whether repeating may help.
struct Row {
    code: String,
    retry: bool,
}

fn table() -> BTreeMap<String, Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/errors.md");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split('|').map(str::trim).collect();
        let [reason, code, _, _, _, retry, ..] = cells[..] else { panic!("{line}") };
        assert!(["yes", "no"].contains(&retry), "{line}");
        (code != "–")
            .then(|| (reason.trim_matches('`').to_owned(), Row { code: code.to_owned(), retry: retry == "yes" }))
    });
    rows.collect()
}

fn reasons() -> Vec<ErrorReason> {
    let known = (0..1000).filter_map(|number| ErrorReason::try_from(number).ok());
    known.filter(|reason| *reason != ErrorReason::Unspecified).collect()
}

#[test]
fn every_reason_has_one_row_and_every_row_a_reason() {
    let mut documented: Vec<String> = table().into_keys().collect();
    let mut known: Vec<String> = reasons().into_iter().map(|reason| reason_name(reason).to_owned()).collect();
    documented.sort();
    known.sort();
    assert_eq!(documented, known);
}

#[test]
fn every_reason_has_the_documented_code() {
    for (name, row) in table() {
        let code = grpc_code(reason_from_name(&name).unwrap());
        assert_eq!(format!("{code:?}").to_uppercase(), row.code.replace('_', ""), "{name}");
    }
}

/// One of each error that this service makes.
fn errors() -> Vec<Error> {
    let (field, delay) = (|| "inputs[0]".to_owned(), Duration::from_millis(700));
    vec![
        Error::MissingField { field: "model" },
        Error::invalid("scheduling.priority", ""),
        Error::BadMessage { problem: "cannot be decoded" },
        Error::ModelNotFound { model: String::new() },
        Error::ModelTaskMismatch { model: String::new(), problem: "" },
        Error::EmptyInput { field: field() },
        Error::InputTooLong { field: field(), actual: Some(2), limit: 1 },
        Error::BeyondRequest { field: field(), unit: "tokens", limit: 1 },
        Error::Unbroken { field: field(), limit: 1 },
        Error::PromptTooLong { field: "text", prompt: 2, max_tokens: 1, limit: 2 },
        Error::TooManyInputs { field: "inputs", actual: 2, limit: 1 },
        Error::TokenIdOutOfRange { field: field(), place: 0, actual: 2, limit: 1 },
        Error::DimensionsUnsupported { actual: 2, supported: vec![1] },
        Error::ChargeTooHigh { actual: 2, limit: 1 },
        Error::QueueFull { retry_after: delay, waiting: delay },
        Error::WaitedTooLong { retry_after: delay },
        Error::DeadlineExceeded,
        Error::SlowReader,
        Error::ShuttingDown,
        Error::ModelNotReady { model: String::new() },
        Error::Cancelled,
        Error::Internal { cause: "secret".to_owned() },
    ]
}

#[test]
fn every_error_is_told_with_its_reason_and_retries_as_documented() {
    let table = table();
    for error in errors() {
        let name = reason_name(error.reason());
        let status = Status::from(error.clone());
        let details = status.get_error_details();
        assert_eq!(status.code(), grpc_code(error.reason()), "{name}");
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), (name, "triptych.dev"));
        assert_eq!(details.retry_info().is_some(), table[name].retry, "{name}");
    }
}

#[test]
fn limits_and_delays_are_told_as_numbers() {
    let status = Status::from(Error::InputTooLong { field: "inputs[3]".to_owned(), actual: Some(300), limit: 256 });
    let details = status.get_error_details();
    let metadata = &details.error_info().unwrap().metadata;
    assert_eq!((&*metadata["field"], &*metadata["actual"], &*metadata["limit"]), ("inputs[3]", "300", "256"));
    let full = |waiting| Status::from(Error::QueueFull { retry_after: Duration::from_millis(700), waiting });
    let details = full(Duration::from_micros(2_900_700)).get_error_details();
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_millis(700)));
    assert_eq!(details.error_info().unwrap().metadata["waiting_ms"], "2900");
    let details = full(Duration::ZERO).get_error_details();
    assert!(details.error_info().unwrap().metadata.is_empty(), "it is not known");
}

#[test]
fn a_fault_of_ours_keeps_its_cause_to_itself() {
    let status = Status::from(Error::Internal { cause: "secret".to_owned() });
    assert_eq!(status.code(), Code::Internal);
    assert!(!format!("{status:?}").contains("secret"));
}
