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
use tokio::{net::TcpListener, task::JoinSet, time::timeout};
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
    health::Health,
    inference::Inference,
    metrics::Metrics,
    metrics_http::{self, Operations},
    model_service::ModelList,
    models::{
        Models,
        load::{Loader, Sessions},
        supervise::Supervisor,
    },
    tokenization::Tokenization,
};

/// Replies may be larger than requests: tokens with offsets take up to six times the bytes of their text.
const MAX_REPLY_BYTES: usize = 256 << 20;

/// HTTP/2 windows: a large request arrives without waiting for window updates, and a connection holds little more.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// A peer that does not answer a ping is gone, and so is its work.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// After the drain: how long connections may take to close, and sessions to end their run.
const CLOSING: Duration = Duration::from_secs(2);

/// The bound sockets.
#[derive(Debug)]
pub struct Listeners {
    /// For gRPC.
    pub grpc: TcpListener,
    /// For metrics.
    pub metrics: TcpListener,
}

impl Listeners {
    /// Binds both, and logs where.
    ///
    /// # Errors
    /// When an address is taken.
    pub async fn bind(config: &Config) -> io::Result<Self> {
        let grpc = TcpListener::bind(config.grpc_address).await?;
        let metrics = TcpListener::bind(config.metrics_address).await?;
        for (name, listener) in [("grpc", &grpc), ("metrics", &metrics)] {
            tracing::info!(listener = name, address = %listener.local_addr()?, "listening");
        }
        Ok(Self { grpc, metrics })
    }
}

/// What runs besides the gRPC server.
struct Running {
    models: Models,
    health: Health,
    supervisors: JoinSet<()>,
    calls: Arc<Calls>,
    /// Knows every session that is alive.
    sessions: TaskTracker,
}

/// Serves until `shutdown`, and then drains: what was accepted is finished, as long as that takes no longer than
/// [`Config::drain`].
///
/// # Errors
/// When a listener fails.
pub async fn serve(
    config: &Config,
    sessions: Arc<dyn Sessions>,
    metrics: Metrics,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let metrics = Arc::new(metrics);
    let models = Models::new(&config.model_names);
    let reporter = HealthReporter::new();
    let health = Health::new(reporter.clone(), models.clone()).await;
    let (draining, closing) = (CancellationToken::new(), CancellationToken::new());
    let calls = Arc::new(Calls { metrics: metrics.clone(), in_flight: TaskTracker::new(), draining: draining.clone() });

    let mut running = Running { models, health, supervisors: JoinSet::new(), calls, sessions: TaskTracker::new() };
    running.supervise(config, sessions);
    let operations = Operations { metrics: metrics.clone(), models: running.models.clone(), draining };
    let metrics_server = tokio::spawn(metrics_http::serve(listeners.metrics, operations));
    let router = server(config).add_routes(routes(config, &running, metrics, reporter));
    let incoming = TcpIncoming::from(listeners.grpc).with_nodelay(Some(true));
    let mut grpc = tokio::spawn(router.serve_with_incoming_shutdown(incoming, closing.clone().cancelled_owned()));

    let ended_early = tokio::select! {
        () = shutdown => None,
        ended = &mut grpc => Some(ended),
    };
    if let Some(ended) = ended_early {
        ended?.map_err(io::Error::other)?;
    } else {
        running.drain(config.drain, closing, grpc).await;
    }
    metrics_server.abort();
    tracing::info!("stopped");
    Ok(())
}

impl Running {
    fn supervise(&mut self, config: &Config, sessions: Arc<dyn Sessions>) {
        let loader = Arc::new(Loader {
            models: config.models.clone(),
            precision: config.precision,
            limits: config.limits,
            sessions,
            generation: config.generation,
            cores: Arc::new(Cores::new(config.compute_threads)),
            metrics: self.calls.metrics.clone(),
            served: self.models.clone(),
            alive: self.sessions.clone(),
        });
        for model in self.models.iter() {
            let supervisor = Supervisor::new(model.clone(), loader.clone(), self.health.clone(), config.timing);
            self.supervisors.spawn(supervisor.run());
        }
    }

    /// Takes no new work, finishes the accepted, closes the connections, and lets go of the sessions.
    async fn drain(
        mut self,
        limit: Duration,
        closing: CancellationToken,
        grpc: tokio::task::JoinHandle<Result<(), transport::Error>>,
    ) {
        let began = Instant::now();
        self.supervisors.shutdown().await;
        self.health.nothing_serves().await;
        self.calls.draining.cancel();
        self.calls.in_flight.close();
        tracing::info!(in_flight = self.calls.in_flight.len(), "draining");
        if timeout(limit, self.calls.in_flight.wait()).await.is_err() {
            tracing::warn!(in_flight = self.calls.in_flight.len(), "drain took too long, requests are dropped");
        }
        self.health.end().await;
        closing.cancel();
        let abort = grpc.abort_handle();
        if timeout(CLOSING, grpc).await.is_err() {
            abort.abort();
        }
        self.models.forget();
        self.sessions.close();
        if timeout(CLOSING, self.sessions.wait()).await.is_err() {
            tracing::warn!("a session did not end its run");
        }
        tracing::info!(took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX), "drained");
    }
}

fn server(config: &Config) -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(config.max_streams)
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
    let models = ModelServiceServer::new(ModelList { models: running.models.clone(), max_inputs: config.max_inputs });
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
    routes.into_axum_router().layer(from_fn_with_state(running.calls.clone(), call::through)).into()
}
