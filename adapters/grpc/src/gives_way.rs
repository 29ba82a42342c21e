//! Connections on which many calls share a write.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::ready;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection that, before it writes, lets other calls of its own go first.
///
/// One commit answers, or offers, many tasks, each in a task of the runtime that wakes the one that writes; woken last, that
/// one runs next, and so would make a call of the system for each. When it gives way once, what the others have to say
/// gathers in the buffer of HTTP/2, and goes in one.
#[derive(Debug)]
pub(crate) struct GivesWay<S> {
    stream: S,
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

impl<S> GivesWay<S> {
    /// The side that answers: a call that is answered is not under way, so any that is may be the next.
    pub(crate) fn answering(stream: S, calls: Calls) -> Self {
        Self { stream, calls, calls_min: 1, gave_way: false }
    }

    /// The side that calls: the call to be written is under way itself.
    pub(crate) fn calling(stream: S, calls: Calls) -> Self {
        Self { stream, calls, calls_min: 2, gave_way: false }
    }

    /// Lets everything that is ready to run go first, once for each write. Ready when it may be written.
    fn give_way(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.gave_way || self.calls.count() < self.calls_min {
            self.gave_way = false;
            return Poll::Ready(());
        }
        self.gave_way = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GivesWay<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GivesWay<S> {
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

    /// Not in parts: HTTP/2 then copies bodies of up to 1 KiB into its buffer, and only then do several messages fit in it.
    fn is_write_vectored(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    async fn is_written_at_once(connection: &mut GivesWay<DuplexStream>) -> bool {
        poll!(pin!(connection.write(b"-"))).is_ready()
    }

    #[tokio::test]
    async fn a_write_lets_other_calls_of_its_connection_go_first_once() {
        let calls = Calls::default();
        let (ours, _theirs) = duplex(1024);
        let mut connection = GivesWay::answering(ours, calls.clone());
        assert!(is_written_at_once(&mut connection).await, "no call is under way");
        let call = calls.begin();
        for _ in 0..3 {
            assert!(!is_written_at_once(&mut connection).await, "another call may be answered in the same write");
            assert!(is_written_at_once(&mut connection).await, "it had its turn");
        }
        drop(call);
        assert!(is_written_at_once(&mut connection).await, "it was answered");
    }

    #[tokio::test]
    async fn a_call_does_not_wait_for_itself() {
        let calls = Calls::default();
        let (ours, _theirs) = duplex(1024);
        let mut connection = GivesWay::calling(ours, calls.clone());
        let _call = calls.begin();
        assert!(is_written_at_once(&mut connection).await, "it is the only one");
        let _another = calls.begin();
        assert!(!is_written_at_once(&mut connection).await, "the other may be sent in the same write");
    }

    #[tokio::test]
    async fn what_gives_way_is_written_without_anything_else_happening() {
        let calls = Calls::default();
        let (ours, mut theirs) = duplex(1024);
        let mut connection = GivesWay::answering(ours, calls.clone());
        let _never_answered = calls.begin();
        for _ in 0..3 {
            connection.write_all(b"answer").await.unwrap();
        }
        let mut read = [0; 18];
        theirs.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"answeransweranswer");
    }
}
