//! The program itself: its exit statuses, its logs, its signals.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use hotpath_contract::inference::v1::inference_service_client::InferenceServiceClient;
use hotpath_testing::{GENERATION_MODEL, MODEL, library_path, models_dir};
use serde_json::Value;
use tonic::{Status, transport::Endpoint};

use crate::support::{embed, eventually, http_get, ids, reason, request};

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
        "--log-level=loud",
        "--onnxruntime-sha256=00",
        "--model-names=Upper",
        "--kernels=abacus",
        "--generation-spin-us=maybe",
        "--cache-bytes=1",
        "--chunk-tokens=0",
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
        "log-level",
        "onnxruntime-library",
        "model-names",
        "kernels",
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

/// A process and what it logs.
struct Logging {
    process: Running,
    lines: Box<dyn Iterator<Item = Value>>,
    seen: Vec<Value>,
}

impl Logging {
    fn start(arguments: &[&str]) -> Self {
        let mut process = Running(serve(arguments).stderr(Stdio::piped()).spawn().unwrap());
        let stderr = BufReader::new(process.0.stderr.take().unwrap());
        let lines = stderr.lines().map(|line| serde_json::from_str(&line.unwrap()).expect("a JSON object a line"));
        Self { process, lines: Box::new(lines), seen: Vec::new() }
    }

    fn wait_for(&mut self, message: &str, field: &str, value: &str) -> Value {
        loop {
            let line = self.lines.next().unwrap_or_else(|| panic!("no {message} {value} in {:?}", self.seen));
            let found = line["message"] == message && (field.is_empty() || line[field] == value);
            self.seen.push(line.clone());
            if found {
                return line;
            }
        }
    }

    fn address(&mut self) -> String {
        self.wait_for("listening", "listener", "grpc")["address"].as_str().unwrap().to_owned()
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("kill").args([signal, &self.process.0.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }

    /// Reads the rest of the log, and gives the exit status.
    fn end(&mut self) -> Option<i32> {
        self.seen.extend(&mut self.lines);
        self.process.0.wait().unwrap().code()
    }

    fn said(&self, message: &str) -> bool {
        self.seen.iter().any(|line| line["message"] == message)
    }
}

#[test]
fn a_process_says_where_it_listens_is_healthy_and_ends_on_sigterm() {
    let mut process = Logging::start(&[&format!("--model-names={MODEL}")]);
    process.wait_for("starting", "processor", &hotpath_runtime::processor());
    let address = process.address();
    assert!(!address.ends_with(":0"), "{address}");
    process.wait_for("listening", "listener", "metrics");
    let loaded = process.wait_for("model loaded and verified", "model", MODEL);
    assert!(loaded["because"].as_str().unwrap().contains("processor"), "{loaded}");
    process.wait_for("model state", "state", "MODEL_STATE_READY");
    assert_eq!(run(&["healthcheck", &format!("--grpc-address={address}")]).status.code(), Some(0));

    process.signal("-TERM");
    assert_eq!(process.end(), Some(0));
    assert_eq!(process.seen.last().unwrap()["message"], "stopped");
    for line in &process.seen {
        assert!(["timestamp", "level", "message"].iter().all(|key| line.get(key).is_some()), "{line}");
    }
    let output = run(&["healthcheck", &format!("--grpc-address={address}")]);
    assert_eq!(output.status.code(), Some(1), "nobody listens there any more");
}

/// Gives a process more to do than it does in a minute, and waits until it is at work.
fn busy(process: &mut Logging) -> (tokio::runtime::Runtime, tokio::task::JoinHandle<Result<(), Status>>) {
    let address = process.address();
    let metrics = process.wait_for("listening", "listener", "metrics")["address"].as_str().unwrap().to_owned();
    process.wait_for("model state", "state", "MODEL_STATE_READY");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let channel =
        runtime.block_on(async { Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy() });
    let client = InferenceServiceClient::new(channel);
    let embedding = runtime.spawn(async move {
        let many = (0..2048).map(|_| ids(&[101; 256])).collect();
        embed(&client, request(many)).await.map(drop)
    });
    runtime.block_on(eventually("the call being there", || async {
        let text = http_get(&metrics, "/metrics").await.1;
        let queued = text.lines().find(|line| line.starts_with("hotpath_queued_tokens{"))?;
        (!queued.ends_with(" 0")).then_some(())
    }));
    (runtime, embedding)
}

#[test]
fn a_second_signal_stops_at_once() {
    for (signal, status) in [("-TERM", 143), ("-INT", 130)] {
        let mut process = Logging::start(&[&format!("--model-names={MODEL}")]);
        let (_runtime, _embedding) = busy(&mut process);
        process.signal("-TERM");
        process.wait_for("draining", "", "");
        process.signal(signal);
        assert_eq!(process.end(), Some(status));
        assert!(!process.said("stopped"));
    }
}

#[test]
fn a_drain_that_takes_too_long_ends_with_a_reason_and_with_0() {
    let mut process = Logging::start(&[&format!("--model-names={MODEL}"), "--drain-ms=100"]);
    let (runtime, embedding) = busy(&mut process);
    process.signal("-TERM");
    let status = runtime.block_on(embedding).unwrap().unwrap_err();
    assert_eq!(reason(&status).0, "HOTPATH_UNAVAILABLE");
    assert_eq!(process.end(), Some(0), "{:?}", process.seen);
    assert!(process.said("stopped") && !process.said("a session did not end its run"), "{:?}", process.seen);
}

#[test]
fn a_process_that_loads_ends_on_sigterm_all_the_same() {
    let mut process = Logging::start(&[&format!("--model-names={GENERATION_MODEL}")]);
    process.wait_for("listening", "listener", "metrics");
    let began = Instant::now();
    process.signal("-TERM");
    assert_eq!(process.end(), Some(0), "{:?}", process.seen);
    assert!(process.said("stopped") && !process.said("model loaded and verified"), "{:?}", process.seen);
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
}
