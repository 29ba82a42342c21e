//! Accepts connections, no more than a limit at once, writes their answers together, and can cut them all.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, stream};
use http::Extensions;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TlsConnectInfo};
use tracing::{debug, warn};

use crate::{
    gives_way::{Calls, GivesWay},
    room::Share,
};

/// How long to wait after a failure to accept (usually: out of file descriptors), so that it does not spin.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// The connections that come in at `listener`. While `connections_max` are open, further ones wait in the system's queue.
/// When `cut` is cancelled, every connection fails. Each has a share in the room of `room_size` bytes for unverified bodies.
pub(crate) fn incoming(
    listener: TcpListener,
    connections_max: usize,
    room_size: usize,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    stream::unfold((listener, places, cut), move |(listener, places, cut)| async move {
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        let stream = accept(&listener).await;
        let connection = Connection::new(stream, Share::of(room_size), place, cut.clone());
        Some((Ok(connection), (listener, places, cut)))
    })
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => return stream,
            Err(error) => {
                warn!(%error, "a gRPC connection could not be accepted");
                sleep(ACCEPT_BACK_OFF).await;
            }
        }
    }
}

/// A connection that keeps its place until it is closed.
pub(crate) struct Connection {
    stream: GivesWay<TcpStream>,
    peer: Peer,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, unverified: Share, place: OwnedSemaphorePermit, cut: CancellationToken) -> Self {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "a gRPC connection keeps its delay");
        }
        let peer = Peer { unverified, calls: Calls::default() };
        let stream = GivesWay::answering(stream, peer.calls.clone());
        Self { stream, peer, cut: Box::pin(cut.cancelled_owned()), _place: place }
    }
}

/// What every call of a connection can learn of it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// What it may have of the memory for unverified bodies.
    pub(crate) unverified: Share,
    /// Those it has made and that are not answered.
    pub(crate) calls: Calls,
}

impl Peer {
    /// Whoever made the call with these extensions.
    pub(crate) fn of(extensions: &Extensions) -> Option<&Self> {
        let of_tls = || extensions.get::<TlsConnectInfo<Self>>().map(TlsConnectInfo::get_ref);
        extensions.get::<Self>().or_else(of_tls)
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
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

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
