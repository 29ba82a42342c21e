//! Accepts connections, no more than a limit at once, writes their answers together, and can cut them all.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, ready, stream};
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

use crate::room::Share;

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
///
/// One commit answers many calls, each of which is a task that wakes the one that writes. So that it does not write after each
/// of them, it lets the others go first when calls of its connection are under way: their answers gather in the buffer of
/// HTTP/2 meanwhile, and are one call of the system. With 64 workers that is a quarter of a task's cost.
pub(crate) struct Connection {
    stream: TcpStream,
    peer: Peer,
    /// The others had their turn since the last write.
    gave_way: bool,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, unverified: Share, place: OwnedSemaphorePermit, cut: CancellationToken) -> Self {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "a gRPC connection keeps its delay");
        }
        let peer = Peer { unverified, under_way: Arc::default() };
        Self { stream, peer, gave_way: false, cut: Box::pin(cut.cancelled_owned()), _place: place }
    }

    /// Lets everything that is ready to run go first, once for each write. Ready when it may be written.
    fn give_way(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.gave_way || self.peer.under_way.load(Ordering::Relaxed) == 0 {
            self.gave_way = false;
            return Poll::Ready(());
        }
        self.gave_way = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// What every call of a connection can learn of it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// What it may have of the memory for unverified bodies.
    pub(crate) unverified: Share,
    under_way: Arc<AtomicUsize>,
}

/// A call that is not answered yet.
#[derive(Debug)]
pub(crate) struct UnderWay(Arc<AtomicUsize>);

impl Peer {
    /// Whoever made the call with these extensions.
    pub(crate) fn of(extensions: &Extensions) -> Option<&Self> {
        let of_tls = || extensions.get::<TlsConnectInfo<Self>>().map(TlsConnectInfo::get_ref);
        extensions.get::<Self>().or_else(of_tls)
    }

    /// A call is under way until what is returned is dropped.
    pub(crate) fn calls(&self) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(&self.under_way))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
        ready!(self.give_way(context));
        Pin::new(&mut self.stream).poll_write(context, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    /// Not in parts: HTTP/2 then copies bodies of up to 1 KiB into its buffer, and only then do several answers fit in it.
    fn is_write_vectored(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn connected() -> (Connection, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let place = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        (Connection::new(accept(&listener).await, Share::of(1024), place, CancellationToken::new()), client)
    }

    async fn is_written_at_once(connection: &mut Connection) -> bool {
        poll!(pin!(connection.write(b"-"))).is_ready()
    }

    #[tokio::test]
    async fn a_write_lets_other_calls_of_its_connection_go_first_once() {
        let (mut connection, _client) = connected().await;
        assert!(is_written_at_once(&mut connection).await, "no call is under way");
        let call = connection.connect_info().calls();
        for _ in 0..3 {
            assert!(!is_written_at_once(&mut connection).await, "another call may be answered in the same write");
            assert!(is_written_at_once(&mut connection).await, "it had its turn");
        }
        drop(call);
        assert!(is_written_at_once(&mut connection).await, "it was answered");
    }

    #[tokio::test]
    async fn what_gives_way_is_written_without_anything_else_happening() {
        let (mut connection, mut client) = connected().await;
        let _never_answered = connection.connect_info().calls();
        for _ in 0..3 {
            connection.write_all(b"answer").await.unwrap();
        }
        let mut read = [0; 18];
        client.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"answeransweranswer");
    }
}
