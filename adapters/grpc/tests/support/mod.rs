//! A served port, clients for it, and services to stand behind it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test binary uses a part, and fails by panicking"
)]
#![allow(missing_docs, reason = "mockall writes public items")]

pub mod certificates;
pub mod worker;

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use h2::{SendStream, client::ResponseFuture};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use taskbroker_domain::ports::service::{Offer, Report, Reported, TaskService, Unavailable, Wanted};
use taskbroker_grpc::{Drained, GrpcOptions, GrpcServer, ServeError};
use taskbroker_proto::pb::consumer_service_client::ConsumerServiceClient;
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

mockall::mock! {
    pub Tasks {}

    #[async_trait]
    impl TaskService for Tasks {
        async fn fetch(&self, wanted: Wanted) -> Result<Option<Offer>, Unavailable>;
        async fn report(&self, report: Report) -> Result<Reported, Unavailable>;
        async fn report_all(&self, reports: Vec<Report>) -> Result<Vec<Reported>, Unavailable>;
    }
}

pub struct Served {
    pub address: SocketAddr,
    pub serving: watch::Sender<bool>,
    pub shutdown: CancellationToken,
    pub ended: JoinHandle<Result<Drained, ServeError>>,
}

pub fn options() -> GrpcOptions {
    GrpcOptions { host: "127.0.0.1".into(), port: 0, ..GrpcOptions::default() }
}

pub async fn serve(tasks: impl TaskService + 'static) -> Served {
    serve_with(options(), tasks).await
}

pub async fn serve_with(options: GrpcOptions, tasks: impl TaskService + 'static) -> Served {
    let server = GrpcServer::bind(options).await.unwrap();
    let address = server.local_addr();
    let (serving, receiver) = watch::channel(true);
    let shutdown = CancellationToken::new();
    let ended = tokio::spawn(server.serve(Arc::new(tasks), receiver, shutdown.clone()));
    Served { address, serving, shutdown, ended }
}

impl Served {
    pub async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    pub async fn client(&self) -> ConsumerServiceClient<Channel> {
        ConsumerServiceClient::new(self.channel().await)
    }

    pub async fn stop(self) -> Drained {
        self.shutdown.cancel();
        self.ended.await.unwrap().unwrap()
    }
}

/// An offer that tells `put_back` when it was not taken.
pub fn offer(activation: impl Into<Bytes>, put_back: &mpsc::UnboundedSender<()>) -> Offer {
    let put_back = put_back.clone();
    Offer::new(activation.into(), move || put_back.send(()).unwrap_or(()))
}

/// An HTTP/2 connection that lets a test say everything that a well-behaved client would not.
pub struct RawConnection {
    requests: h2::client::SendRequest<Bytes>,
}

/// What came back: the gRPC status and its message.
#[derive(Debug, PartialEq, Eq)]
pub struct RawStatus {
    pub code: String,
    pub message: String,
}

impl RawConnection {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (requests, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self { requests: requests.ready().await.unwrap() }
    }

    /// Sends this body and nothing more, whatever it is.
    pub async fn call(&mut self, method: &str, body: Bytes) -> RawStatus {
        self.call_with(&format!("/sentry_protos.taskbroker.v1.ConsumerService/{method}"), None, body).await
    }

    /// The same, of any path, and with a signature.
    pub async fn call_with(&mut self, path: &str, signature: Option<&str>, body: Bytes) -> RawStatus {
        let (response, mut stream) = self.begin(path, signature);
        stream.send_data(body, true).unwrap();
        status(response).await
    }

    /// Begins a call whose body is still to come.
    pub fn begin(&mut self, path: &str, signature: Option<&str>) -> (ResponseFuture, SendStream<Bytes>) {
        let uri = format!("http://broker{path}");
        let request = http::Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
        let request = match signature {
            Some(signature) => request.header("sentry-signature", signature),
            None => request,
        };
        self.requests.send_request(request.body(()).unwrap(), false).unwrap()
    }
}

/// Waits for the end of a call.
pub async fn status(response: ResponseFuture) -> RawStatus {
    let (head, mut body) = response.await.unwrap().into_parts();
    assert_eq!(head.status, 200, "a refusal is a status of gRPC, not of HTTP");
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data.unwrap().len()).unwrap();
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_default();
    let text = |name: &str| {
        let value = head.headers.get(name).or_else(|| trailers.get(name));
        value.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    };
    RawStatus { code: text("grpc-status"), message: text("grpc-message") }
}

/// The signature of a call.
pub fn sign(secret: &str, path: &str, message: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(&[path.as_bytes(), b":", message].concat());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A gRPC frame with this message.
pub fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], length.as_slice(), message].concat().into()
}
