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

use crate::{metrics::Metrics, models::Models};

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
        .route("/livez", get(StatusCode::OK))
        .with_state(operations);
    axum::serve(listener, routes).await
}

async fn metrics(State(operations): State<Operations>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPEN_METRICS)], operations.metrics.text(&operations.models))
}

async fn ready(State(operations): State<Operations>) -> StatusCode {
    if operations.models.are_ready() && !operations.draining.is_cancelled() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}
