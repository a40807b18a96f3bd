//! The program itself: its exit statuses, its logs, its signals.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
};

use hotpath_testing::{MODEL, library_path, models_dir};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hotpath");

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).env_clear().output().unwrap()
}

/// `serve` with what it needs, on free ports unless `arguments` say otherwise.
fn serve(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.env_clear().env("HOTPATH_GRPC_ADDRESS", "127.0.0.1:0").env("HOTPATH_METRICS_ADDRESS", "127.0.0.1:0");
    command.arg("serve");
    command.arg(format!("--models={}", models_dir().display()));
    command.arg(format!("--onnxruntime-library={}", library_path().display())).args(arguments);
    command
}

/// Ends the process when the test fails before it does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn sound_settings_exit_with_0_and_bind_nothing() {
    let output = serve(&["--check-config"]).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{output:?}");
}

#[test]
fn every_fault_of_the_settings_is_told_at_once() {
    let output = serve(&[
        "--check-config",
        "--grpc-address=nowhere",
        "--workers=many",
        "--batch-tokens=0",
        "--precision=int4",
        "--log-level=loud",
        "--onnxruntime-sha256=00",
        "--model-names=Upper",
        "--generation-precision=int4",
        "--generation-spin-us=maybe",
        "--cache-bytes=1",
        "--chunk-tokens=200",
        "--max-rows=2",
        "--max-choices=3",
        "--ready-ms=",
    ])
    .env("HOTPATH_MAX_INPUTS", "-1")
    .output()
    .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{said}");
    let flags = [
        "grpc-address",
        "workers",
        "batch-tokens",
        "precision",
        "log-level",
        "onnxruntime-library",
        "model-names",
        "generation-precision",
        "generation-spin-us",
        "cache-bytes",
        "chunk-tokens",
        "max-choices",
        "ready-ms",
        "max-inputs",
    ];
    for flag in flags {
        let variable = flag.to_uppercase().replace('-', "_");
        assert!(said.contains(&format!("--{flag} (HOTPATH_{variable}): ")), "{flag} in\n{said}");
    }
    assert_eq!(said.lines().count(), flags.len(), "{said}");
}

#[test]
fn the_library_is_required_and_unknown_flags_are_refused() {
    let output = run(&["serve", "--check-config", &format!("--models={}", models_dir().display())]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--onnxruntime-library (HOTPATH_ONNXRUNTIME_LIBRARY): is required"), "{said}");
    assert_eq!(output.status.code(), Some(64));
    assert_eq!(run(&["serve", "--no-such-flag"]).status.code(), Some(64));
    assert_eq!(run(&["--version"]).status.code(), Some(0));
}

#[test]
fn settings_are_documented_as_a_table() {
    let table = String::from_utf8(run(&["config-docs"]).stdout).unwrap();
    assert!(table.starts_with("| flag | environment | default | unit |"), "{table}");
    assert!(table.contains("| `--batch-tokens` | `HOTPATH_BATCH_TOKENS` | `112` | tokens |"), "{table}");
}

#[test]
fn a_process_says_where_it_listens_is_healthy_and_ends_on_sigterm() {
    let mut process = Running(serve(&[&format!("--model-names={MODEL}")]).stderr(Stdio::piped()).spawn().unwrap());
    let stderr = BufReader::new(process.0.stderr.take().unwrap());
    let mut lines =
        stderr.lines().map(|line| serde_json::from_str::<Value>(&line.unwrap()).expect("a JSON object a line"));
    let mut seen = Vec::new();
    let mut wait_for = |message: &str, field: &str, value: &str| loop {
        let line = lines.next().unwrap_or_else(|| panic!("no {message} {value} in {seen:?}"));
        let found = line["message"] == message && line[field] == value;
        seen.push(line);
        if found {
            return seen.last().unwrap().clone();
        }
    };
    let address = wait_for("listening", "listener", "grpc")["address"].as_str().unwrap().to_owned();
    assert!(!address.ends_with(":0"), "{address}");
    wait_for("listening", "listener", "metrics");
    wait_for("model state", "state", "MODEL_STATE_READY");
    assert_eq!(run(&["healthcheck", &format!("--grpc-address={address}")]).status.code(), Some(0));

    let kill = Command::new("kill").args(["-TERM", &process.0.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let rest: Vec<Value> = lines.collect();
    assert_eq!(rest.last().unwrap()["message"], "stopped");
    assert_eq!(process.0.wait().unwrap().code(), Some(0));
    for line in seen.iter().chain(&rest) {
        assert!(["timestamp", "level", "message"].iter().all(|key| line.get(key).is_some()), "{line}");
    }
    let output = run(&["healthcheck", &format!("--grpc-address={address}")]);
    assert_eq!(output.status.code(), Some(1), "nobody listens there any more");
}
