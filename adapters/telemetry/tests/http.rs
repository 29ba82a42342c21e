//! The HTTP port as a scraper and an orchestrator see it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{net::SocketAddr, time::Duration};

use taskbroker_telemetry::{Condition, HealthState, HttpOptions, HttpServer, Metrics};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::OnceCell,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// The recorder is the process's, and so is shared by the tests.
static METRICS: OnceCell<Metrics> = OnceCell::const_new();

struct Served {
    address: SocketAddr,
    health: HealthState,
    shutdown: CancellationToken,
    ended: JoinHandle<std::io::Result<()>>,
}

fn options() -> HttpOptions {
    HttpOptions { host: "127.0.0.1".into(), port: 0, ..HttpOptions::default() }
}

async fn serve(options: HttpOptions) -> Served {
    let metrics = METRICS.get_or_init(|| async { Metrics::install("test", None).unwrap() }).await.clone();
    let server = HttpServer::bind(options).await.unwrap();
    let (address, health, shutdown) = (server.local_addr(), HealthState::new(), CancellationToken::new());
    let ended = tokio::spawn(server.serve(metrics, health.clone(), shutdown.clone()));
    Served { address, health, shutdown, ended }
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: broker\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}

#[tokio::test]
async fn metrics_are_served_as_prometheus_text() {
    let served = serve(options()).await;
    metrics::counter!("taskbroker_things_total").increment(2);
    let response = get(served.address, "/metrics").await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    assert!(response.contains("content-type: text/plain; version=0.0.4"), "{response}");
    assert!(response.contains("taskbroker_things_total 2"), "{response}");
}

#[tokio::test]
async fn healthz_says_whether_work_moves_and_if_not_why() {
    let served = serve(options()).await;
    let response = get(served.address, "/healthz").await;
    assert!(response.starts_with("HTTP/1.1 200 ") && response.ends_with(r#"{"status":"ok"}"#), "{response}");
    served.health.set_live(Condition::bad("a commit has been under way for 31 s"));
    let response = get(served.address, "/healthz").await;
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(response.contains("content-type: application/json"), "{response}");
    assert!(response.contains(r#""reasons":["a commit has been under way for 31 s"]"#), "{response}");
}

#[tokio::test]
async fn readyz_is_apart_from_healthz_and_begins_with_starting() {
    let served = serve(options()).await;
    let response = get(served.address, "/readyz").await;
    assert!(response.starts_with("HTTP/1.1 503 ") && response.contains("the broker is starting"), "{response}");
    served.health.set_ready(Condition::Good);
    served.health.set_live(Condition::bad("stuck"));
    assert!(get(served.address, "/readyz").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn anything_else_is_not_found_and_nonsense_stops_nothing() {
    let served = serve(options()).await;
    assert!(get(served.address, "/").await.starts_with("HTTP/1.1 404 "));
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(&[0xff; 1000]).await.unwrap();
    assert!(get(served.address, "/healthz").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_for_a_place() {
    let served = serve(HttpOptions { connections_max: 1, ..options() }).await;
    let mut first = TcpStream::connect(served.address).await.unwrap();
    first.write_all(b"GET /healthz HTTP/1.1\r\nhost: broker\r\n\r\n").await.unwrap();
    let mut begun = [0; 8];
    first.read_exact(&mut begun).await.unwrap();
    let mut second = Box::pin(get(served.address, "/healthz"));
    assert!(timeout(Duration::from_millis(50), &mut second).await.is_err(), "nobody accepts the connection");
    drop(first);
    assert!(second.await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_client_that_never_finishes() {
    let served = serve(HttpOptions { drain_time_max: Duration::from_millis(20), ..options() }).await;
    let mut stalled = TcpStream::connect(served.address).await.unwrap();
    stalled.write_all(b"GET /metrics HT").await.unwrap();
    assert!(get(served.address, "/healthz").await.starts_with("HTTP/1.1 200 "));
    served.shutdown.cancel();
    served.ended.await.unwrap().unwrap();
    assert!(TcpStream::connect(served.address).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_the_reason() {
    let taken = HttpServer::bind(options()).await.unwrap();
    let port = taken.local_addr().port();
    let error = HttpServer::bind(HttpOptions { port, ..options() }).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("http_addr, http_port: cannot listen on 127.0.0.1:{port}: ")), "{error}");
}
