//! What operators ask over HTTP: metrics, and whether the process lives and is ready.

use std::{io, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::Metrics,
    models::{Model, Models},
};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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

/// Serves until the process ends.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, operations: Operations) -> io::Result<()> {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/readyz", get(ready))
        .route("/livez", get(live))
        .with_state(operations);
    axum::serve(listener, routes).await
}

async fn metrics(State(operations): State<Operations>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPEN_METRICS)], operations.metrics.text(&operations.models))
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
