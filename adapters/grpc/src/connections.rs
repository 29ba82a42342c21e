//! Accepts connections, no more than a limit at once, and can cut them all.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};
use tracing::{debug, warn};

/// How long to wait after a failure to accept (usually: out of file descriptors), so that it does not spin.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// The connections that come in at `listener`. While `connections_max` are open, further ones wait in the system's queue.
/// When `cut` is cancelled, every connection fails.
pub(crate) fn incoming(
    listener: TcpListener,
    connections_max: usize,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    stream::unfold((listener, places, cut), |(listener, places, cut)| async {
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        let (stream, peer) = accept(&listener).await;
        let connection = Connection::new(stream, peer, place, cut.clone());
        Some((Ok(connection), (listener, places, cut)))
    })
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                warn!(%error, "a gRPC connection could not be accepted");
                sleep(ACCEPT_BACK_OFF).await;
            }
        }
    }
}

/// A connection that keeps its place until it is closed.
pub(crate) struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit, cut: CancellationToken) -> Self {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "a gRPC connection keeps its delay");
        }
        Self { stream, peer, cut: Box::pin(cut.cancelled_owned()), _place: place }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo { local_addr: self.stream.local_addr().ok(), remote_addr: Some(self.peer) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
