//! Connections on which many calls share a write.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::{Buf, BytesMut};
use futures::ready;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is kept until it is flushed, in bytes; HTTP/2 hands over as much at once. Larger pieces are written as they come.
const HELD_MAX: usize = 16 * 1024;

/// A connection that, before it writes, lets other calls of its own go first.
///
/// One commit answers, or offers, many tasks, each in a task of the runtime that wakes the one that writes; woken last, that
/// one runs next, and so would make a call of the system for each. When it gives way once, what the others have to say
/// comes in time to go in one.
#[derive(Debug)]
pub(crate) struct GivesWay<S: AsyncWrite + Unpin> {
    stream: S,
    /// Not written yet.
    held: BytesMut,
    calls: Calls,
    /// While fewer calls than this are under way there is nothing to wait for.
    calls_min: usize,
    /// The others had their turn since the last write.
    gave_way: bool,
}

/// How many calls of a connection are under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls(Arc<AtomicUsize>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay(Arc<AtomicUsize>);

impl Calls {
    /// One begins.
    pub(crate) fn begin(&self) -> UnderWay {
        self.0.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(&self.0))
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S: AsyncWrite + Unpin> GivesWay<S> {
    /// The side that answers: a call that is answered is not under way, so any that is may be the next.
    pub(crate) fn answering(stream: S, calls: Calls) -> Self {
        Self::new(stream, calls, 1)
    }

    /// The side that calls: the call to be written is under way itself.
    pub(crate) fn calling(stream: S, calls: Calls) -> Self {
        Self::new(stream, calls, 2)
    }

    fn new(stream: S, calls: Calls, calls_min: usize) -> Self {
        Self { stream, held: BytesMut::new(), calls, calls_min, gave_way: false }
    }

    /// Lets everything that is ready to run go first, once for each write. Ready when it may be written.
    fn give_way(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.gave_way || self.calls.count() < self.calls_min {
            return Poll::Ready(());
        }
        self.gave_way = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what is held and of `more` what goes with it. Returns how much of `more` went, which is all or some of it.
    fn poll_write_out(&mut self, context: &mut Context<'_>, more: &[u8]) -> Poll<io::Result<usize>> {
        while !(self.held.is_empty() && more.is_empty()) {
            let parts = [IoSlice::new(&self.held), IoSlice::new(more)];
            let written = match ready!(Pin::new(&mut self.stream).poll_write_vectored(context, &parts))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => written,
            };
            let of_held = written.min(self.held.len());
            self.held.advance(of_held);
            if written > of_held {
                return Poll::Ready(Ok(written - of_held));
            }
        }
        self.gave_way = false;
        Poll::Ready(Ok(0))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for GivesWay<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GivesWay<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.held.len() + buf.len() > HELD_MAX {
            return self.poll_write_out(context, buf);
        }
        self.held.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.held.is_empty() {
            ready!(self.give_way(context));
            ready!(self.poll_write_out(context, &[]))?;
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_out(context, &[]))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    /// Not in parts: HTTP/2 then hands over bodies of up to 1 KiB together with what is around them.
    fn is_write_vectored(&self) -> bool {
        false
    }
}

/// TLS says why it refuses a connection, and lets go of it without flushing: what can be written at once still goes.
impl<S: AsyncWrite + Unpin> Drop for GivesWay<S> {
    fn drop(&mut self) {
        let mut nobody = Context::from_waker(Waker::noop());
        // Whatever comes of it, nobody is left to hear.
        drop(self.poll_write_out(&mut nobody, &[]));
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    async fn goes_at_once(connection: &mut GivesWay<DuplexStream>) -> bool {
        assert!(poll!(pin!(connection.write(b"-"))).is_ready());
        poll!(pin!(connection.flush())).is_ready()
    }

    #[tokio::test]
    async fn a_write_lets_other_calls_of_its_connection_go_first_once() {
        let calls = Calls::default();
        let (ours, _theirs) = duplex(1024);
        let mut connection = GivesWay::answering(ours, calls.clone());
        assert!(goes_at_once(&mut connection).await, "no call is under way");
        let call = calls.begin();
        for _ in 0..3 {
            assert!(!goes_at_once(&mut connection).await, "another call may be answered in the same write");
            assert!(goes_at_once(&mut connection).await, "it had its turn");
        }
        drop(call);
        assert!(goes_at_once(&mut connection).await, "it was answered");
    }

    #[tokio::test]
    async fn a_call_does_not_wait_for_itself() {
        let calls = Calls::default();
        let (ours, _theirs) = duplex(1024);
        let mut connection = GivesWay::calling(ours, calls.clone());
        let _call = calls.begin();
        assert!(goes_at_once(&mut connection).await, "it is the only one");
        let _another = calls.begin();
        assert!(!goes_at_once(&mut connection).await, "the other may be sent in the same write");
    }

    #[tokio::test]
    async fn what_comes_while_it_gives_way_goes_in_the_same_write() {
        let calls = Calls::default();
        let (ours, mut theirs) = duplex(1024);
        let mut connection = GivesWay::answering(ours, calls.clone());
        let call = calls.begin();
        assert!(!goes_at_once(&mut connection).await);
        drop(call);
        connection.write_all(b"another").await.unwrap();
        connection.flush().await.unwrap();
        let mut read = [0; 1024];
        assert_eq!(theirs.read(&mut read).await.unwrap(), b"-another".len());
    }

    #[tokio::test]
    async fn what_is_held_is_written_before_the_end() {
        let (ours, mut theirs) = duplex(1024);
        let mut connection = GivesWay::answering(ours, Calls::default());
        connection.write_all(b"the last").await.unwrap();
        connection.shutdown().await.unwrap();
        let mut read = Vec::new();
        theirs.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"the last");
    }

    #[tokio::test]
    async fn what_is_held_is_written_when_it_is_let_go_of() {
        let (ours, mut theirs) = duplex(1024);
        let mut connection = GivesWay::answering(ours, Calls::default());
        connection.write_all(b"why").await.unwrap();
        drop(connection);
        let mut read = Vec::new();
        theirs.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"why");
    }

    proptest! {
        /// Pieces around the sizes that matter, through a pipe that takes them in pieces of its own, calls being under way or not.
        #[test]
        fn everything_arrives_in_order(
            sizes in prop::collection::vec(prop_oneof![0..40_usize, HELD_MAX - 3..HELD_MAX + 3, 0..3 * HELD_MAX], 1..12),
            flushed in any::<u16>(),
            pipe in 1..2 * HELD_MAX,
            busy: bool,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let sent: Vec<u8> = (0..sizes.iter().sum()).map(|place: usize| u8::try_from(place % 251).unwrap()).collect();
            let arrived = runtime.block_on(async {
                let (calls, (ours, mut theirs)) = (Calls::default(), duplex(pipe));
                let _call = busy.then(|| calls.begin());
                let mut connection = GivesWay::answering(ours, calls);
                let write = async {
                    let mut left = sent.as_slice();
                    for (number, size) in sizes.iter().enumerate() {
                        let (piece, rest) = left.split_at(*size);
                        connection.write_all(piece).await.unwrap();
                        if flushed >> number & 1 == 1 {
                            connection.flush().await.unwrap();
                        }
                        left = rest;
                    }
                    connection.shutdown().await.unwrap();
                };
                let mut arrived = Vec::new();
                let (read, ()) = tokio::join!(theirs.read_to_end(&mut arrived), write);
                read.unwrap();
                arrived
            });
            prop_assert!(arrived == sent);
        }
    }
}
