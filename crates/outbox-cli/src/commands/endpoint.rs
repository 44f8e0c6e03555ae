//! `/metrics` and `/health` of a running relay.

use std::{net::SocketAddr, time::Duration};

use axum::{Json, Router, extract::State, http::StatusCode, http::header, response::IntoResponse, routing::get};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use outbox::relay::RelayHandle;
use serde_json::json;
use tokio::net::TcpListener;

use crate::exit::Failure;

/// How often histograms are folded, lest they grow while nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Seconds that bound the buckets of every histogram: calls and lag, from a millisecond to an hour.
const BUCKETS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 600.0, 3600.0];

/// A bound address, and the recorder behind it.
pub(crate) struct Endpoint {
    listener: TcpListener,
    metrics: PrometheusHandle,
}

impl Endpoint {
    /// Binds `address` and starts recording metrics.
    ///
    /// # Errors
    /// [`Failure`] if the address is taken or not this machine's.
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self, Failure> {
        let listener = TcpListener::bind(address).await.map_err(|error| cannot_listen(address, &error))?;
        let builder = PrometheusBuilder::new().set_buckets(&BUCKETS);
        let recorder =
            builder.map_err(|error| Failure::new("metrics cannot be recorded").because(&error))?.build_recorder();
        let metrics = recorder.handle();
        metrics::set_global_recorder(recorder)
            .map_err(|error| Failure::new("metrics are recorded already").because(&error))?;
        Ok(Self { listener, metrics })
    }

    /// Answers until the process ends.
    pub(crate) fn serve(self, relay: RelayHandle) {
        let folding = self.metrics.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                folding.run_upkeep();
            }
        });
        let router = Router::new()
            .route("/metrics", get(metrics))
            .with_state(self.metrics)
            .merge(Router::new().route("/health", get(health)).with_state(relay));
        tokio::spawn(async move {
            if let Err(error) = axum::serve(self.listener, router).await {
                tracing::error!(%error, "/metrics and /health are no longer answered");
            }
        });
    }
}

/// What `check` and `relay` say of an address that cannot be had.
pub(crate) fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> Failure {
    let help = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "another process has the port, perhaps another relay: stop it, or change `relay.listen`"
        }
        std::io::ErrorKind::AddrNotAvailable => "this machine has no such address: change `relay.listen`",
        std::io::ErrorKind::PermissionDenied => {
            "this user may not listen there: use a port above 1023 in `relay.listen`"
        }
        _ => "change `relay.listen`, or leave it out",
    };
    Failure::new(format!("cannot listen on {address} for /metrics and /health")).because(error).help(help)
}

async fn metrics(State(metrics): State<PrometheusHandle>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
}

/// 200 for as long as the relay runs, standing by included: restarting it mends no sink. 503 once it has stopped and the
/// process is about to end.
async fn health(State(relay): State<RelayHandle>) -> impl IntoResponse {
    let relay = relay.status();
    let (code, status) =
        if relay.stopped.is_some() { (StatusCode::SERVICE_UNAVAILABLE, "stopped") } else { (StatusCode::OK, "ok") };
    (code, Json(json!({ "status": status, "relay": relay })))
}
