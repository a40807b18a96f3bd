//! The command line. Each setting is a flag and a variable of the environment; its text says what follows from it.
//!
//! Values are taken as text, so that [`crate::config`] can report every fault at once.

use clap::{Args, CommandFactory, Parser, Subcommand};

/// The hot path: tokenizes, schedules and runs ONNX models behind gRPC.
#[derive(Debug, Parser)]
#[command(name = "hotpath", version, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve until SIGTERM or SIGINT.
    Serve(Box<Serve>),
    /// Ask a serving process on this machine whether it is healthy; exit with 0 if so.
    Healthcheck(Listen),
    /// Print the settings as a Markdown table.
    ConfigDocs,
    /// Try schemas out for a serving process, which starts this by itself.
    #[command(name = hotpath_formats::SUBCOMMAND, hide = true)]
    FormatWorker,
}

/// Where gRPC listens.
#[derive(Debug, Clone, Args)]
pub struct Listen {
    /// Where gRPC listens; port 0 takes a free one. Whoever reaches it may use every model: keep it on loopback or on a
    /// private network.
    #[arg(long, env = "HOTPATH_GRPC_ADDRESS", default_value = "127.0.0.1:50051", value_name = "ADDRESS:PORT")]
    pub grpc_address: String,
}

/// What `serve` takes.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// Check the settings, print every fault, and exit with 0 or 64.
    #[arg(long)]
    pub check_config: bool,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub listen: Listen,

    /// Unix socket where gRPC listens too, for a gateway on this machine: a call takes less time than by a port, and only this
    /// user can connect. Empty: none.
    #[arg(long, env = "HOTPATH_GRPC_SOCKET", default_value = "", value_name = "PATH")]
    pub grpc_socket: String,

    /// Where /metrics, /livez and /readyz are served over HTTP; port 0 takes a free one. A listener of its own, so that
    /// it need not be open to those who send requests.
    #[arg(long, env = "HOTPATH_METRICS_ADDRESS", default_value = "127.0.0.1:9465", value_name = "ADDRESS:PORT")]
    pub metrics_address: String,

    /// Folder of the models, one folder in it for each. Only read.
    #[arg(long, env = "HOTPATH_MODELS", default_value = "models", value_name = "PATH")]
    pub models: String,

    /// Names of the models to serve, separated by commas. Empty: every folder that is there at the start. A name without
    /// a folder is listed as failed until a bundle appears.
    #[arg(long, env = "HOTPATH_MODEL_NAMES", default_value = "", value_name = "NAMES")]
    pub model_names: String,

    /// The ONNX Runtime library: the file in the onnxruntime wheel of the version that the bundles were checked with.
    /// Required, so that nothing is loaded that happens to lie around.
    #[arg(long, env = "HOTPATH_ONNXRUNTIME_LIBRARY", default_value = "", value_name = "PATH")]
    pub onnxruntime_library: String,

    /// SHA-256 of the library. Empty: that of a wheel that this program knows. Set it to run another build, on your own
    /// word that it is good.
    #[arg(long, env = "HOTPATH_ONNXRUNTIME_SHA256", default_value = "", value_name = "HEX")]
    pub onnxruntime_sha256: String,

    /// By which instructions our own operators run: "auto" takes the fastest that the processor has; "scalar", "avx2",
    /// "avx512_vnni", "neon" or "neon_dotprod" that one, and it is refused where the processor lacks it. The results are the same
    /// to the last bit.
    #[arg(long, env = "HOTPATH_KERNELS", default_value = "auto", value_name = "INSTRUCTIONS")]
    pub kernels: String,

    /// Sessions for each embedding model, each on a thread of its own; 0 takes the number of processors. Each holds the weights
    /// once in memory.
    #[arg(long, env = "HOTPATH_WORKERS", default_value = "0", value_name = "THREADS")]
    pub workers: String,

    /// Threads of all models' sessions that run at the same time; 0 takes the number of processors. What finds none free
    /// waits: batch work of any model for interactive work of any, unless it has waited for a tenth of a second. More than
    /// there are processors makes every run slower.
    #[arg(long, env = "HOTPATH_COMPUTE_THREADS", default_value = "0", value_name = "THREADS")]
    pub compute_threads: String,

    /// Threads that move messages and tokenize short texts; 0 takes one for every four sessions. They need a tenth of the
    /// sessions' time, and each one more is one more to wake up.
    #[arg(long, env = "HOTPATH_ASYNC_THREADS", default_value = "0", value_name = "THREADS")]
    pub async_threads: String,

    /// A batch takes inputs until so many tokens; a longer input goes alone. More makes short texts a little cheaper and
    /// every text wait longer.
    #[arg(long, env = "HOTPATH_BATCH_TOKENS", default_value = "112", value_name = "TOKENS")]
    pub batch_tokens: String,

    /// Most tokens of one class that wait at a model. A fairness key may have up to four times of it what it leaves free;
    /// beyond, its requests are refused with QUEUE_FULL. One that has nothing waiting is always let in, whatever it sends.
    /// The default is a few seconds' work for two processors.
    #[arg(long, env = "HOTPATH_MAX_QUEUE_TOKENS", default_value = "65536", value_name = "TOKENS")]
    pub max_queue_tokens: String,

    /// Most bytes of texts of one class that wait for a thread to be tokenized, or are at work. A fairness key may have up to
    /// four times of it what it leaves free; beyond, its requests are refused with QUEUE_FULL. One that has nothing here may
    /// always bring 64 KiB. It bounds memory: a text is held once, and what is at work takes some megabytes more.
    #[arg(long, env = "HOTPATH_MAX_TEXT_BYTES", default_value = "67108864", value_name = "BYTES")]
    pub max_text_bytes: String,

    /// Longest wait of a request until its first input runs, and of a long text until it is tokenized. Beyond, it is refused
    /// with QUEUE_FULL.
    #[arg(long, env = "HOTPATH_MAX_QUEUE_MS", default_value = "10000", value_name = "MILLISECONDS")]
    pub max_queue_ms: String,

    /// Most inputs of one request. Beyond, it is refused with TOO_MANY_INPUTS. The texts of a classification that are longer
    /// than the encoder takes are run in windows, of which there may be as many; beyond, with INPUT_TOO_LONG.
    #[arg(long, env = "HOTPATH_MAX_INPUTS", default_value = "2048", value_name = "INPUTS")]
    pub max_inputs: String,

    /// Most bytes of one request. It bounds what one caller can make this process hold and tokenize.
    #[arg(long, env = "HOTPATH_MAX_MESSAGE_BYTES", default_value = "16777216", value_name = "BYTES")]
    pub max_message_bytes: String,

    /// A connection is asked to close after so long, and its calls finish; 0 keeps it for as long as it is used. A caller that
    /// balances by connections, as behind a name with several addresses, finds a new process only when it connects anew; one
    /// that keeps a connection to each, as the gateway does, gains nothing.
    #[arg(long, env = "HOTPATH_MAX_CONNECTION_AGE_MS", default_value = "0", value_name = "MILLISECONDS")]
    pub max_connection_age_ms: String,

    /// Most calls at a time on one connection. Further ones wait at the caller.
    #[arg(long, env = "HOTPATH_MAX_STREAMS", default_value = "1024", value_name = "CALLS")]
    pub max_streams: String,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub generation: Generation,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub formats: Formats,

    /// How often the promoted revision of each model, and its health, are looked at.
    #[arg(long, env = "HOTPATH_WATCH_MS", default_value = "1000", value_name = "MILLISECONDS")]
    pub watch_ms: String,

    /// After so long without a successful inference a model makes one of its own.
    #[arg(long, env = "HOTPATH_PROBE_MS", default_value = "5000", value_name = "MILLISECONDS")]
    pub probe_ms: String,

    /// A model is ready for so long after an inference succeeded, and one that is under way may take as long; then it is
    /// failed until one succeeds. Above the time between probes, and above the longest run.
    #[arg(long, env = "HOTPATH_READY_MS", default_value = "15000", value_name = "MILLISECONDS")]
    pub ready_ms: String,

    /// How long accepted requests may take to finish after SIGTERM or SIGINT; what is left then ends with HOTPATH_UNAVAILABLE. A
    /// second signal waits for nothing. Less by some seconds than what the supervisor of the process waits before it kills;
    /// below the time that a generation may take, long streams are lost.
    #[arg(long, env = "HOTPATH_DRAIN_MS", default_value = "300000", value_name = "MILLISECONDS")]
    pub drain_ms: String,

    /// A collector that takes traces by OTLP over gRPC, as "http://127.0.0.1:4317", without TLS. A call whose "traceparent" says that it
    /// is sampled is recorded, and no other: the gateway decides. Empty: nothing is recorded.
    #[arg(long, env = "HOTPATH_OTLP_ENDPOINT", default_value = "", value_name = "URL")]
    pub otlp_endpoint: String,

    /// Spans that wait to be sent at most, of about 1 KiB each. Beyond, they are dropped, as hotpath_trace_spans_dropped_total
    /// counts. No call waits for them.
    #[arg(long, env = "HOTPATH_TRACE_QUEUE", default_value = "4096", value_name = "SPANS")]
    pub trace_queue: String,

    /// Time for the collector to take a batch of spans; when the process ends, for all that wait. Then they are dropped.
    #[arg(long, env = "HOTPATH_OTLP_TIMEOUT_MS", default_value = "5000", value_name = "MILLISECONDS")]
    pub otlp_timeout_ms: String,

    /// Least severe level of what is logged: "error", "warn", "info", "debug" or "trace". No level logs texts.
    #[arg(long, env = "HOTPATH_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    pub log_level: String,
}

/// How generation models are served.
#[derive(Debug, Clone, Args)]
pub struct Generation {
    /// Threads of each generation model's session; 0 takes the number of processors.
    #[arg(long, env = "HOTPATH_GENERATION_THREADS", default_value = "0", value_name = "THREADS")]
    pub generation_threads: String,

    /// For how long those threads burn their processor while they wait for each other, before they sleep; 0 for not at all.
    /// Where they have their processors to themselves, a stream is up to half faster; where not, it is a fifth slower, and
    /// slower still if they wait for longer.
    #[arg(long, env = "HOTPATH_GENERATION_SPIN_US", default_value = "50", value_name = "MICROSECONDS")]
    pub generation_spin_us: String,

    /// Longest wait of a generation until its prompt is read. Beyond, it is refused with QUEUE_FULL. Generations take seconds,
    /// so they wait longer than texts for vectors; but for less than who waits for them, as the gateway's
    /// --generation-timeout.
    #[arg(long, env = "HOTPATH_GENERATION_MAX_QUEUE_MS", default_value = "60000", value_name = "MILLISECONDS")]
    pub generation_max_queue_ms: String,

    /// Most memory for the keys and values of each generation model, beside its weights. A request is admitted once there
    /// is room for the longest that it may become. An eighth is a reserve for small requests of fairness keys that have no
    /// other; one that is longer than the rest, choices together, is refused with INPUT_TOO_LONG. While a new revision takes
    /// over there are two: the old one's weights stay, and its cache shrinks as its streams end.
    #[arg(long, env = "HOTPATH_CACHE_BYTES", default_value = "1073741824", value_name = "BYTES")]
    pub cache_bytes: String,

    /// Most continuations of interactive requests, and as many of batch requests, that decode in one run; others wait. One
    /// fairness key alone has up to four fifths of them. Beside them an eighth as many, at least one, is a reserve for keys
    /// that have no other. More say more tokens together, and each its own more slowly.
    #[arg(long, env = "HOTPATH_MAX_ROWS", default_value = "32", value_name = "ROWS")]
    pub max_rows: String,

    /// Most tokens of prompts in a run, 1 to 1024. Beside streams it is as many as make a run about three times as long as it is
    /// without, as measured, and 8 at least: so much later comes a stream's next token while prompts are read. More read prompts
    /// a little faster where no stream waits.
    #[arg(long, env = "HOTPATH_CHUNK_TOKENS", default_value = "64", value_name = "TOKENS")]
    pub chunk_tokens: String,

    /// Most tokens of a stream that are drafted, from what followed the same words earlier in its text, and verified in one run; 0
    /// for none. What is said is the same to the last bit. Where a text repeats itself, as code, quotations and lists do, a stream is
    /// faster; drafts are made beside three other streams at most, and seldom where they were wrong. Of a text with a format, what is
    /// drafted are the tokens of which that leaves no choice.
    #[arg(long, env = "HOTPATH_DRAFT_TOKENS", default_value = "8", value_name = "TOKENS")]
    pub draft_tokens: String,

    /// Most choices of one request. Beyond, it is refused with INVALID_VALUE. Not above --max-rows.
    #[arg(long, env = "HOTPATH_MAX_CHOICES", default_value = "8", value_name = "CHOICES")]
    pub max_choices: String,

    /// Most tokens of a continuation where the request does not say. Each request holds room for as many as it may say.
    #[arg(long, env = "HOTPATH_DEFAULT_MAX_TOKENS", default_value = "512", value_name = "TOKENS")]
    pub default_max_tokens: String,

    /// How long a stream's reader may keep its continuations waiting. Then the stream ends with SLOW_READER.
    #[arg(long, env = "HOTPATH_SLOW_READER_MS", default_value = "10000", value_name = "MILLISECONDS")]
    pub slow_reader_ms: String,

    /// Whether what was computed for one fairness key, prompts and replies, is reused for prompts of others that begin alike.
    /// Then a prompt's time tells whether another tenant has such a text.
    #[arg(long, env = "HOTPATH_SHARE_PREFIXES", default_value = "false", value_name = "BOOLEAN")]
    pub share_prefixes: String,
}

/// How JSON Schemas are compiled, and followed.
#[derive(Debug, Clone, Args)]
pub struct Formats {
    /// Most processes in which JSON Schemas are tried out before they are used, started when the first one comes. Each may
    /// use a processor for 2 s and 256 MiB for one schema, beside some 60 MB; fewer let a schema that nobody has sent lately
    /// wait for longer.
    #[arg(long, env = "HOTPATH_FORMAT_WORKERS", default_value = "2", value_name = "PROCESSES")]
    pub format_workers: String,

    /// Most memory for compiled schemas, so that one that comes again begins at once. The one that was used last stays longest.
    #[arg(long, env = "HOTPATH_FORMAT_CACHE_BYTES", default_value = "67108864", value_name = "BYTES")]
    pub format_cache_bytes: String,

    /// Most memory that texts which follow a format may come to, as they are admitted: 5 MB for each as a rule, 45 MB where strings of
    /// bounded length or patterns take much to follow. Beyond, requests with a format are refused with QUEUE_FULL, a key that
    /// has many of them first.
    #[arg(long, env = "HOTPATH_FORMAT_TEXT_BYTES", default_value = "536870912", value_name = "BYTES")]
    pub format_text_bytes: String,
}

/// The settings as a Markdown table, from the same texts as `--help`.
#[must_use]
pub fn table() -> String {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").expect("`serve` is declared above");
    let mut table = "| flag | environment | default | unit | what it does, and what follows |\n".to_owned();
    table += "|---|---|---|---|---|\n";
    for argument in serve.get_arguments() {
        let (Some(flag), Some(variable)) = (argument.get_long(), argument.get_env()) else { continue };
        let default: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let default = Some(default.concat()).filter(|default| !default.is_empty());
        let default = default.map_or_else(|| "(empty)".to_owned(), |default| format!("`{default}`"));
        let unit = argument.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
        let text =
            argument.get_long_help().or_else(|| argument.get_help()).map(ToString::to_string).unwrap_or_default();
        let (variable, unit, text) = (variable.to_string_lossy(), unit.to_lowercase(), text.replace('\n', " "));
        table += &format!("| `--{flag}` | `{variable}` | {default} | {unit} | {} |\n", text.trim_end_matches('.'));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_is_in_the_table_with_its_variable() {
        let (table, command) = (table(), Cli::command());
        let serve = command.find_subcommand("serve").unwrap();
        let flags = serve.get_arguments().filter_map(clap::Arg::get_long).filter(|flag| *flag != "check-config");
        let flags: Vec<_> = flags.filter(|flag| *flag != "help").collect();
        assert!(flags.len() > 15);
        for flag in flags {
            let variable = format!("HOTPATH_{}", flag.to_uppercase().replace('-', "_"));
            assert!(table.contains(&format!("| `--{flag}` | `{variable}` |")), "{flag}");
        }
    }
}
