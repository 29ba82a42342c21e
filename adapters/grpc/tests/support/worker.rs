//! Workers that are pushed to: well-behaved ones by tonic, others by HTTP/2 itself.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use h2::server::SendResponse;
use taskbroker_grpc::{ClientTls, PushGateway, PushOptions, Secrets};
use taskbroker_proto::pb::{
    PushTaskRequest, PushTaskResponse,
    worker_service_server::{WorkerService, WorkerServiceServer},
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// Answers every task alike, and tells what it got.
pub struct Worker {
    pub answer: Result<(), Status>,
    pub got: mpsc::UnboundedSender<Request<PushTaskRequest>>,
}

#[tonic::async_trait]
impl WorkerService for Worker {
    async fn push_task(&self, request: Request<PushTaskRequest>) -> Result<Response<PushTaskResponse>, Status> {
        self.got.send(request).unwrap();
        self.answer.clone().map(|()| Response::new(PushTaskResponse {}))
    }
}

pub type Got = mpsc::UnboundedReceiver<Request<PushTaskRequest>>;

pub async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address whose queue of connections is full: the system lets nobody in, and tells nobody, as long as this is kept.
pub async fn nobody_is_let_in() -> ((TcpListener, Vec<TcpStream>), SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(connected) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        queue.push(connected.unwrap());
    }
    ((listener, queue), address)
}

/// Serves a worker that gives this answer.
pub async fn worker(answer: Result<(), Status>) -> (SocketAddr, Got) {
    let (listener, address) = listener().await;
    (address, serve_worker(Server::builder(), listener, answer))
}

/// The same, by a server and at a port of the test's choice.
pub fn serve_worker(mut server: Server, listener: TcpListener, answer: Result<(), Status>) -> Got {
    let (got, receiver) = mpsc::unbounded_channel();
    let service = WorkerServiceServer::new(Worker { answer, got }).max_decoding_message_size(1 << 20);
    tokio::spawn(server.add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
    receiver
}

/// A worker of one connection that reads each request to its end, and then does something else than to answer.
pub async fn misbehaving<F>(mut act: F) -> SocketAddr
where
    F: FnMut(&mut h2::server::Connection<TcpStream, Bytes>, SendResponse<Bytes>) + Send + 'static,
{
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, respond))) = connection.accept().await {
            act(&mut connection, respond);
        }
    });
    address
}

pub fn options(address: impl std::fmt::Display) -> PushOptions {
    PushOptions {
        workers: BTreeMap::from([("app".to_owned(), format!("http://{address}"))]),
        connections: 1,
        timeout: Duration::from_secs(30),
        message_bytes_max: 1 << 24,
        secrets: Secrets::default(),
        tls: ClientTls::default(),
    }
}

pub fn gateway(address: impl std::fmt::Display) -> PushGateway {
    PushGateway::new(&options(address)).unwrap()
}
