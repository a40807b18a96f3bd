//! What each subcommand does.

use std::{error::Error, future::Future, sync::Arc};

use hotpath_runtime::{Library, exit_now, processor};

use crate::{
    args::{Command, table},
    config::{Config, grpc_address},
    healthcheck,
    listeners::Listeners,
    metrics::Metrics,
    serve::serve,
    signals::Signals,
    telemetry,
};

/// Runs a subcommand to its end.
///
/// # Errors
/// [`Faults`](crate::config::Faults) where the settings are wrong; any other error is a failure of the run.
pub fn execute(command: Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::ConfigDocs => print!("{}", table()),
        Command::FormatWorker => hotpath_formats::worker::run()?,
        Command::Healthcheck(listen) => {
            telemetry::start(tracing::Level::INFO);
            block_on(1, healthcheck::check(grpc_address(&listen)?))?;
        }
        Command::Serve(args) => {
            let config = Config::check(&args)?;
            if !args.check_config {
                run(&config)?;
            }
        }
    }
    Ok(())
}

fn run(config: &Config) -> Result<(), Box<dyn Error>> {
    telemetry::start(config.log_level);
    let library = Library::load(&config.onnxruntime_library, config.onnxruntime_sha256.as_deref())?;
    let library = library.with_kernels(config.kernels);
    tracing::info!(
        processor = processor(),
        kernels = config.kernels.name(),
        onnxruntime = library.version(),
        "starting"
    );
    let metrics = Metrics::new(library.version());
    let ended = block_on(config.async_threads, async {
        let signals = Signals::catch()?;
        let listeners = Listeners::bind(config).await?;
        Ok(serve(config, Arc::new(library), metrics, listeners, shutdown(signals)).await)
    })?;
    if ended.sessions_run {
        exit_now(match ended.outcome {
            Ok(()) => 0,
            Err(error) => {
                tracing::error!(%error, "failed");
                1
            }
        });
    }
    Ok(ended.outcome?)
}

/// Ends with the first signal. The second one does not wait for the drain that the first began.
async fn shutdown(mut signals: Signals) {
    signals.next().await;
    tokio::spawn(async move {
        let status = signals.next().await;
        tracing::warn!(status, "a second signal: stopped at once");
        exit_now(status);
    });
}

fn block_on<T>(threads: usize, work: impl Future<Output = Result<T, Box<dyn Error>>>) -> Result<T, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background(); // a drain that took too long leaves work behind, which must not hold the process
    outcome
}
