//! What operators ask over HTTP: metrics, and whether the process lives and is ready.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::IntoResponse,
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    exposition::Format,
    metrics::Metrics,
    models::{Model, Models},
};

/// Connections at a time: others wait in the system's queue. Those who ask here are few, and ask one thing each.
const MOST_CONNECTIONS: usize = 64;

/// Longest time until a request's headers are there, and until its connection is gone.
const HEADERS: Duration = Duration::from_secs(5);
const CONNECTION: Duration = Duration::from_secs(10);

/// After an error of the listener, as when the process has no file left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What the listener tells of.
#[derive(Debug, Clone)]
pub struct Operations {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The models, for their gauges and for readiness.
    pub models: Models,
    /// Once cancelled, the process is not ready any more.
    pub draining: CancellationToken,
}

/// Serves until it is dropped. Each connection is for one request.
pub async fn serve(listener: TcpListener, operations: Operations) {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/readyz", get(ready))
        .route("/livez", get(live))
        .with_state(operations);
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return }; // never: nobody closes it
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let service = TowerToHyperService::new(routes.clone());
        tokio::spawn(async move {
            let _place = place;
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEADERS).keep_alive(false);
            // Who asks may go away or take too long, which is nobody else's matter.
            let _ = timeout(CONNECTION, http.serve_connection(TokioIo::new(stream), service)).await;
        });
    }
}

async fn metrics(State(operations): State<Operations>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Format::asked_for(accept);
    operations.models.measure(&operations.metrics);
    ([(CONTENT_TYPE, format.content_type())], format.write(operations.metrics.text()))
}

/// The process lives as long as it answers: a model that died comes back by itself, so that is no reason to end all others.
async fn live(State(operations): State<Operations>) -> String {
    states(&operations.models)
}

async fn ready(State(operations): State<Operations>) -> (StatusCode, String) {
    let (models, draining) = (&operations.models, operations.draining.is_cancelled());
    let status = if models.are_ready() && !draining { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, if draining { "shutting down\n".to_owned() } else { states(models) })
}

/// A line for each model: its name, its state, and why it is in it where that is not as it should be.
fn states(models: &Models) -> String {
    let line = |model: &Arc<Model>| {
        let now = model.now();
        let state = now.state.as_str_name().trim_start_matches("MODEL_STATE_").to_lowercase();
        let message = if now.message.is_empty() { String::new() } else { format!(": {}", now.message) };
        format!("{}: {state}{message}\n", model.name())
    };
    models.iter().map(line).collect()
}
