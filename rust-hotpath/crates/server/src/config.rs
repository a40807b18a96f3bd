//! The settings, checked. Every fault is found before any port is bound.

use std::{
    env,
    fmt::{self, Display},
    fs,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
    thread,
    time::Duration,
};

use axum::http::Uri;
use hotpath_bundle::is_model_name;
use hotpath_encoding::Limits;
use hotpath_runtime::{Kernels, Library, Threads};
use tracing::Level;

use crate::{
    args::{Formats, Generation, Listen, Serve},
    models::{supervise::Timing, tasks::generation::GenerationSettings},
    tokenization, traces,
};

/// What a process serves, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where gRPC listens.
    pub grpc_address: SocketAddr,
    /// And the Unix socket, if any.
    pub grpc_socket: Option<PathBuf>,
    /// Where metrics are served.
    pub metrics_address: SocketAddr,
    /// Folder of the models.
    pub models: PathBuf,
    /// Their names.
    pub model_names: Vec<String>,
    /// ONNX Runtime.
    pub onnxruntime_library: PathBuf,
    /// Its hash, where it is not a known one.
    pub onnxruntime_sha256: Option<String>,
    /// By which instructions our own operators run.
    pub kernels: Kernels,
    /// The schedulers' bounds.
    pub limits: Limits,
    /// How texts are tokenized that take long.
    pub tokenization: tokenization::Settings,
    /// How generation models are served.
    pub generation: GenerationSettings,
    /// How schemas are compiled.
    pub formats: hotpath_formats::Settings,
    /// Threads of sessions that run at the same time.
    pub compute_threads: usize,
    /// Threads that move messages.
    pub async_threads: usize,
    /// Most inputs of a request.
    pub max_inputs: usize,
    /// Most bytes of a request.
    pub max_message_bytes: usize,
    /// How long a connection is kept; `None` for as long as it is used.
    pub max_connection_age: Option<Duration>,
    /// Most calls at a time on a connection.
    pub max_streams: u32,
    /// How often models are looked at.
    pub timing: Timing,
    /// How long a drain may take.
    pub drain: Duration,
    /// Where traces are sent; `None` for nowhere.
    pub traces: Option<traces::Settings>,
    /// Least severe level of what is logged.
    pub log_level: Level,
}

/// What died is loaded again after this: short enough that one accident is hardly seen.
const RETRY: Duration = Duration::from_secs(1);

/// A session's texts cost the asynchronous threads about a tenth of what they cost the session (docs/benchmarks.md).
const SESSIONS_PER_ASYNC_THREAD: usize = 4;

/// Everything that is wrong with the settings.
#[derive(Debug, Default, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Faults(Vec<String>);

impl Display for Faults {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0.join("\n"))
    }
}

/// Checks where a process listens.
///
/// # Errors
/// [`Faults`].
pub fn grpc_address(listen: &Listen) -> Result<SocketAddr, Faults> {
    let mut faults = Faults::default();
    let address = faults.parse("grpc-address", &listen.grpc_address, "an address and a port", UNUSED);
    if faults.0.is_empty() { Ok(address) } else { Err(faults) }
}

/// Stands for an address that could not be read; it never leaves this module, because a fault does instead.
const UNUSED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

impl Config {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Faults`] names every setting at fault.
    pub fn check(args: &Serve) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let models = PathBuf::from(&args.models);
        let workers = faults.threads("workers", &args.workers);
        let max_wait = faults.milliseconds("max-queue-ms", &args.max_queue_ms);
        let mut config = Self {
            grpc_address: faults.parse("grpc-address", &args.listen.grpc_address, "an address and a port", UNUSED),
            grpc_socket: Some(PathBuf::from(&args.grpc_socket)).filter(|path| !path.as_os_str().is_empty()),
            metrics_address: faults.parse("metrics-address", &args.metrics_address, "an address and a port", UNUSED),
            model_names: faults.model_names(&models, &args.model_names),
            models,
            onnxruntime_sha256: Some(args.onnxruntime_sha256.clone()).filter(|sha256| !sha256.is_empty()),
            onnxruntime_library: faults.library(&args.onnxruntime_library, &args.onnxruntime_sha256),
            kernels: faults.kernels(&args.kernels),
            limits: Limits {
                workers,
                batch_tokens: faults.number("batch-tokens", &args.batch_tokens, 1..=65_536),
                max_queued_tokens: faults.number("max-queue-tokens", &args.max_queue_tokens, 1..=1_000_000_000),
                max_wait,
            },
            tokenization: tokenization::Settings {
                threads: workers,
                max_bytes: faults.number("max-text-bytes", &args.max_text_bytes, 1024..=1 << 40),
                max_wait,
            },
            generation: faults.generation(&args.generation),
            formats: faults.formats(&args.formats, max_wait),
            compute_threads: faults.threads("compute-threads", &args.compute_threads),
            async_threads: match faults.number("async-threads", &args.async_threads, 0..=256) {
                0 => workers.div_ceil(SESSIONS_PER_ASYNC_THREAD),
                threads => threads,
            },
            max_inputs: faults.number("max-inputs", &args.max_inputs, 1..=65_536),
            max_message_bytes: faults.number("max-message-bytes", &args.max_message_bytes, 1024..=1 << 30),
            max_connection_age: Some(faults.number(
                "max-connection-age-ms",
                &args.max_connection_age_ms,
                0..=86_400_000,
            ))
            .filter(|age| *age > 0)
            .map(Duration::from_millis),
            max_streams: faults.number("max-streams", &args.max_streams, 1..=1_000_000),
            timing: Timing {
                watch: faults.milliseconds("watch-ms", &args.watch_ms),
                probe: faults.milliseconds("probe-ms", &args.probe_ms),
                ready: faults.milliseconds("ready-ms", &args.ready_ms),
                retry: RETRY,
            },
            drain: faults.milliseconds("drain-ms", &args.drain_ms),
            traces: faults.traces(args),
            log_level: faults.parse("log-level", &args.log_level, "error, warn, info, debug or trace", Level::INFO),
        };
        // A session's threads run together or not at all.
        config.generation.threads.count = config.generation.threads.count.min(config.compute_threads);
        if config.timing.ready <= config.timing.probe && faults.0.is_empty() {
            faults.add("ready-ms", "must be above --probe-ms, or an idle model would fail between two probes");
        }
        if config.tokenization.max_bytes / 5 * 4 < config.max_message_bytes && faults.0.is_empty() {
            faults.add("max-text-bytes", "must be above five fourths of --max-message-bytes, or its texts never fit");
        }
        if faults.0.is_empty() { Ok(config) } else { Err(faults) }
    }
}

impl Faults {
    fn add(&mut self, flag: &str, problem: impl Display) {
        let variable = flag.to_uppercase().replace('-', "_");
        self.0.push(format!("--{flag} (HOTPATH_{variable}): {problem}"));
    }

    /// Reads a value; takes note of a fault and gives a placeholder, so that the next setting is looked at too.
    fn parse<T: FromStr>(&mut self, flag: &str, value: &str, what: &str, placeholder: T) -> T {
        value.parse().unwrap_or_else(|_| {
            self.add(flag, format!("\"{value}\" is not {what}"));
            placeholder
        })
    }

    fn number<T: FromStr + PartialOrd + Display + Copy>(
        &mut self,
        flag: &str,
        value: &str,
        range: RangeInclusive<T>,
    ) -> T {
        match value.parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                let (least, most) = range.into_inner();
                self.add(flag, format!("\"{value}\" is not a whole number from {least} to {most}"));
                least
            }
        }
    }

    fn milliseconds(&mut self, flag: &str, value: &str) -> Duration {
        Duration::from_millis(self.number(flag, value, 1..=86_400_000))
    }

    /// A number of threads; 0 stands for that of processors.
    fn threads(&mut self, flag: &str, value: &str) -> usize {
        match self.number(flag, value, 0..=1024) {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }

    fn kernels(&mut self, name: &str) -> Kernels {
        if name == "auto" {
            return Kernels::best();
        }
        Kernels::named(name).unwrap_or_else(|problem| {
            self.add("kernels", problem);
            Kernels::best()
        })
    }

    fn generation(&mut self, args: &Generation) -> GenerationSettings {
        let max_rows = self.number("max-rows", &args.max_rows, 1..=1024);
        GenerationSettings {
            threads: Threads {
                count: self.threads("generation-threads", &args.generation_threads),
                spin: Duration::from_micros(self.number("generation-spin-us", &args.generation_spin_us, 0..=1_000_000)),
            },
            max_wait: self.milliseconds("generation-max-queue-ms", &args.generation_max_queue_ms),
            cache_bytes: self.number("cache-bytes", &args.cache_bytes, 1 << 20..=1 << 40),
            max_rows,
            chunk_tokens: self.number("chunk-tokens", &args.chunk_tokens, 1..=1024),
            draft_tokens: self.number("draft-tokens", &args.draft_tokens, 0..=64),
            max_choices: self.number("max-choices", &args.max_choices, 1..=max_rows),
            default_max_tokens: self.number("default-max-tokens", &args.default_max_tokens, 1..=1_000_000),
            slow_reader: self.milliseconds("slow-reader-ms", &args.slow_reader_ms),
            share_prefixes: self.parse("share-prefixes", &args.share_prefixes, "true or false", false),
        }
    }

    fn formats(&mut self, args: &Formats, max_wait: Duration) -> hotpath_formats::Settings {
        hotpath_formats::Settings {
            program: env::current_exe().unwrap_or_else(|error| {
                self.add("format-workers", format!("the path of this program is not known: {error}"));
                PathBuf::new()
            }),
            workers: self.number("format-workers", &args.format_workers, 1..=64),
            cache_bytes: self.number("format-cache-bytes", &args.format_cache_bytes, 1 << 20..=1 << 40),
            text_bytes: self.number("format-text-bytes", &args.format_text_bytes, 64 << 20..=1 << 40),
            max_wait,
        }
    }

    fn traces(&mut self, args: &Serve) -> Option<traces::Settings> {
        let endpoint = args.otlp_endpoint.clone();
        let (queue, timeout) = (
            self.number("trace-queue", &args.trace_queue, 1..=1 << 20),
            self.milliseconds("otlp-timeout-ms", &args.otlp_timeout_ms),
        );
        if endpoint.is_empty() {
            return None;
        }
        let is_address = endpoint.parse::<Uri>().is_ok_and(|uri| {
            uri.scheme_str() == Some("http")
                && uri.authority().is_some()
                && matches!(uri.path(), "" | "/")
                && uri.query().is_none()
        });
        if !is_address {
            self.add("otlp-endpoint", format!("\"{endpoint}\" is not an address as http://127.0.0.1:4317"));
        }
        Some(traces::Settings { endpoint, queue, timeout })
    }

    fn library(&mut self, path: &str, sha256: &str) -> PathBuf {
        if path.is_empty() {
            self.add("onnxruntime-library", "is required");
        } else if let Err(error) = Library::check(Path::new(path), Some(sha256).filter(|sha256| !sha256.is_empty())) {
            self.add("onnxruntime-library", error);
        }
        PathBuf::from(path)
    }

    fn model_names(&mut self, folder: &Path, names: &str) -> Vec<String> {
        if names.is_empty() {
            return self.model_folders(folder);
        }
        let names: Vec<String> = names.split(',').map(|name| name.trim().to_owned()).collect();
        for name in names.iter().filter(|name| !is_model_name(name)) {
            self.add("model-names", format!("\"{name}\" cannot name a model"));
        }
        names
    }

    fn model_folders(&mut self, folder: &Path) -> Vec<String> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                self.add("models", format!("{}: {error}", folder.display()));
                return Vec::new();
            }
        };
        let folders = entries.flatten().filter(|entry| entry.path().is_dir());
        let names = folders.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let names: Vec<String> = names.filter(|name| is_model_name(name)).collect();
        if names.is_empty() {
            self.add(
                "models",
                format!("{} holds no model; name one in --model-names to wait for it", folder.display()),
            );
        }
        names
    }
}
