//! The HTTP port for probes and scrapers.

mod listener;

use std::{io, net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderName, StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use serde_json::json;
use tokio::{net::TcpListener, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::listener::Limited;
use crate::{Condition, HealthState, Metrics};

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpOptions {
    /// The host name or IP address (`http_addr`).
    pub host: String,
    /// The port (`http_port`); 0 lets the system choose.
    pub port: u16,
    /// How many connections are open at once; further ones wait. 64: a scraper and an orchestrator keep one each.
    pub connections_max: usize,
    /// How long open requests may take to finish at shutdown. 1 s: they take milliseconds.
    pub drain_time_max: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self { host: "0.0.0.0".to_owned(), port: 9090, connections_max: 64, drain_time_max: Duration::from_secs(1) }
    }
}

/// The port could not be taken.
#[derive(Debug, thiserror::Error)]
#[error("http_addr, http_port: cannot listen on {host}:{port}: {source}")]
pub struct HttpBindError {
    /// The host as configured.
    pub host: String,
    /// The port as configured.
    pub port: u16,
    /// Why.
    pub source: io::Error,
}

/// A bound HTTP port.
#[derive(Debug)]
pub struct HttpServer {
    options: HttpOptions,
    listener: TcpListener,
    local_addr: SocketAddr,
}

impl HttpServer {
    /// Takes the port.
    pub async fn bind(options: HttpOptions) -> Result<Self, HttpBindError> {
        let error = |source| HttpBindError { host: options.host.clone(), port: options.port, source };
        let listener = TcpListener::bind((options.host.as_str(), options.port)).await.map_err(error)?;
        let local_addr = listener.local_addr().map_err(error)?;
        Ok(Self { options, listener, local_addr })
    }

    /// Where it listens, with the port that the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Answers `/metrics`, `/healthz` (alive: work moves) and `/readyz` (ready for clients) until `shutdown` is cancelled,
    /// then lets open requests finish within `drain_time_max`.
    pub async fn serve(self, metrics: Metrics, health: HealthState, shutdown: CancellationToken) -> io::Result<()> {
        info!(address = %self.local_addr, "HTTP is served");
        let listener = Limited::new(self.listener, self.options.connections_max);
        let served =
            axum::serve(listener, router(metrics, health)).with_graceful_shutdown(shutdown.clone().cancelled_owned());
        let time_is_up = async {
            shutdown.cancelled().await;
            sleep(self.options.drain_time_max).await;
        };
        tokio::select! {
            served = served.into_future() => served,
            () = time_is_up => {
                warn!("HTTP requests were left open at shutdown");
                Ok(())
            }
        }
    }
}

fn router(metrics: Metrics, health: HealthState) -> Router {
    let probes = Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(health);
    Router::new().route("/metrics", get(scrape)).with_state(metrics).merge(probes)
}

async fn scrape(State(metrics): State<Metrics>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
}

async fn healthz(State(health): State<HealthState>) -> impl IntoResponse {
    answer(health.live())
}

async fn readyz(State(health): State<HealthState>) -> impl IntoResponse {
    answer(health.ready())
}

/// 200 or 503, and in the body, as JSON, why.
fn answer(condition: Condition) -> (StatusCode, [(HeaderName, &'static str); 1], String) {
    let (code, body) = match condition {
        Condition::Good => (StatusCode::OK, json!({ "status": "ok" })),
        Condition::Bad { reasons } => {
            (StatusCode::SERVICE_UNAVAILABLE, json!({ "status": "unavailable", "reasons": reasons }))
        }
    };
    (code, [(CONTENT_TYPE, "application/json")], body.to_string())
}
