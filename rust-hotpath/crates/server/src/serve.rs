//! The life of a serving process: everything is wired here, and taken apart in order.

use std::{
    future::Future,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::middleware::from_fn_with_state;
use hotpath_contract::{
    DESCRIPTORS,
    inference::v1::{inference_service_server::InferenceServiceServer, model_service_server::ModelServiceServer},
};
use hotpath_cores::Cores;
use tokio::{task::JoinSet, time::timeout};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    service::Routes,
    transport::{self, Server, server::TcpIncoming},
};
use tonic_health::{
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use crate::{
    call::{self, Calls},
    config::Config,
    inference::Inference,
    listeners::Listeners,
    metrics::Metrics,
    metrics_http::{self, Operations},
    model_service::ModelList,
    models::{
        Models,
        health::Health,
        load::Loader,
        sessions::{Compute, Sessions},
        supervise::Supervisor,
    },
    tokenization::Tokenization,
    traces::Tracer,
};

/// Replies may be larger than requests: tokens with offsets take up to six times the bytes of their text.
const MAX_REPLY_BYTES: usize = 256 << 20;

/// HTTP/2 windows: a large request arrives without waiting for window updates, and a connection holds little more.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// A peer that does not answer a ping is gone, and so is its work.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// How many calls of a connection may be taken back before the server has looked at them, which it cannot while it has no
/// processor. Beyond, the connection ends with all calls on it, those of others included. HTTP/2's library lets 20, which is
/// for servers that strangers reach; a call that was taken back is some hundred bytes.
const MAX_TAKEN_BACK: usize = 1 << 16;

/// After the drain: how long calls that were cancelled may take to say so, connections to close, and sessions to end their
/// run; each of them.
const CLOSING: Duration = Duration::from_secs(1);

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    /// An error when a listener failed.
    pub outcome: io::Result<()>,
    /// Whether a session runs or is made still. Then the process must end without its exit handlers, which would tear down ONNX
    /// Runtime beneath it.
    pub sessions_run: bool,
}

/// What runs besides the gRPC server.
struct Running {
    models: Models,
    health: Health,
    supervisors: JoinSet<()>,
    calls: Arc<Calls>,
    sessions: Arc<dyn Sessions>,
    /// Knows every session that is alive.
    alive: TaskTracker,
}

/// Serves until `shutdown`, and then drains: what was accepted is finished, as long as that takes no longer than
/// [`Config::drain`]. What is left then ends with an error that says so.
pub async fn serve(
    config: &Config,
    sessions: Arc<dyn Sessions>,
    metrics: Metrics,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
) -> Ended {
    let metrics = Arc::new(metrics);
    let models = Models::new(&config.model_names);
    let reporter = HealthReporter::new();
    let health = Health::new(reporter.clone(), models.clone()).await;
    let (draining, closing) = (CancellationToken::new(), CancellationToken::new());
    let (tracer, exporting) = config.traces.as_ref().map(|settings| Tracer::start(settings, metrics.clone())).unzip();
    let calls = Arc::new(Calls {
        metrics: metrics.clone(),
        in_flight: TaskTracker::new(),
        draining: draining.clone(),
        stopping: CancellationToken::new(),
        tracer,
    });

    let (supervisors, alive) = (JoinSet::new(), TaskTracker::new());
    let mut running = Running { models, health, supervisors, calls, sessions, alive };
    running.supervise(config);
    let operations = Operations { metrics: metrics.clone(), models: running.models.clone(), draining };
    let metrics_server = tokio::spawn(metrics_http::serve(listeners.metrics, operations));
    let routes = routes(config, &running, metrics, reporter);
    let router = || server(config).add_routes(routes.clone());
    let incoming = TcpIncoming::from(listeners.grpc).with_nodelay(Some(true));
    let by_port = router().serve_with_incoming_shutdown(incoming, closing.clone().cancelled_owned());
    let by_socket = listeners.socket.map(|socket| {
        let incoming = UnixListenerStream::new(socket.listener);
        let serving = router().serve_with_incoming_shutdown(incoming, closing.clone().cancelled_owned());
        (serving, socket.file)
    });
    let mut grpc = tokio::spawn(async {
        let by_socket = async {
            match by_socket {
                Some((serving, _file)) => serving.await,
                None => Ok(()),
            }
        };
        tokio::try_join!(by_port, by_socket).map(|_| ())
    });

    let outcome = tokio::select! {
        () = shutdown => {
            running.drain(config.drain, closing, grpc).await;
            Ok(())
        }
        ended = &mut grpc => ended.map_err(io::Error::other).and_then(|ended| ended.map_err(io::Error::other)),
    };
    let sessions_run = running.end_sessions().await;
    if let Some(exporting) = exporting {
        exporting.end().await;
    }
    metrics_server.abort();
    tracing::info!("stopped");
    Ended { outcome, sessions_run }
}

impl Running {
    fn supervise(&mut self, config: &Config) {
        let loader = Arc::new(Loader {
            models: config.models.clone(),
            kernels: config.kernels,
            limits: config.limits,
            generation: config.generation,
            formats: hotpath_formats::Service::new(&config.formats, self.calls.metrics.clone()),
            compute: Compute {
                sessions: self.sessions.clone(),
                cores: Arc::new(Cores::new(config.compute_threads)),
                alive: self.alive.clone(),
            },
            metrics: self.calls.metrics.clone(),
            served: self.models.clone(),
        });
        for model in self.models.iter() {
            let supervisor = Supervisor::new(model.clone(), loader.clone(), self.health.clone(), config.timing);
            self.supervisors.spawn(supervisor.run());
        }
    }

    /// Takes no new work, finishes the accepted, cancels what is left at the limit, and closes the connections.
    async fn drain(
        &mut self,
        limit: Duration,
        closing: CancellationToken,
        grpc: tokio::task::JoinHandle<Result<(), transport::Error>>,
    ) {
        let began = Instant::now();
        self.supervisors.shutdown().await;
        self.health.nothing_serves().await;
        let in_flight = &self.calls.in_flight;
        self.calls.draining.cancel();
        in_flight.close();
        tracing::info!(in_flight = in_flight.len(), "draining");
        if timeout(limit, in_flight.wait()).await.is_err() {
            tracing::warn!(in_flight = in_flight.len(), "drain took too long, requests are cancelled");
            self.calls.stopping.cancel();
            if timeout(CLOSING, in_flight.wait()).await.is_err() {
                tracing::warn!(in_flight = in_flight.len(), "requests were not told that they are cancelled");
            }
        }
        self.health.clone().end().await;
        closing.cancel();
        let abort = grpc.abort_handle();
        if timeout(CLOSING, grpc).await.is_err() {
            abort.abort();
        }
        tracing::info!(took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX), "drained");
    }

    /// Ends every run, and lets go of the sessions. Says whether one is left.
    async fn end_sessions(&mut self) -> bool {
        self.supervisors.shutdown().await;
        self.models.forget();
        self.sessions.terminate();
        self.alive.close();
        let left = timeout(CLOSING, self.alive.wait()).await.is_err();
        if left {
            tracing::warn!("a session did not end its run");
        }
        left
    }
}

fn server(config: &Config) -> Server {
    let server = Server::builder();
    let server = match config.max_connection_age {
        Some(age) => server.max_connection_age(age),
        None => server,
    };
    server
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(config.max_streams)
        .http2_max_pending_accept_reset_streams(Some(MAX_TAKEN_BACK))
}

fn routes(config: &Config, running: &Running, metrics: Arc<Metrics>, reporter: HealthReporter) -> Routes {
    let inference = Inference {
        models: running.models.clone(),
        tokenization: Tokenization::new(config.tokenization),
        max_inputs: config.max_inputs,
        metrics,
    };
    let inference = InferenceServiceServer::new(inference)
        .max_decoding_message_size(config.max_message_bytes)
        .max_encoding_message_size(MAX_REPLY_BYTES);
    let (models, draining) = (running.models.clone(), running.calls.draining.clone());
    let models = ModelServiceServer::new(ModelList { models, max_inputs: config.max_inputs, draining });
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let sound = "the build wrote the descriptors from valid .proto files";
    let routes = Routes::new(inference)
        .add_service(models)
        .add_service(HealthServer::new(HealthService::from_health_reporter(reporter)))
        .add_service(reflection().build_v1().expect(sound))
        .add_service(reflection().build_v1alpha().expect(sound)); // older clients know only this one
    routes.into_axum_router().layer(from_fn_with_state(running.calls.clone(), call::middleware)).into()
}
