//! Reads the body of a call into memory, as much as is allowed and no more.

use std::{pin::Pin, sync::Arc};

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;

use crate::frame::{HEAD_BYTES, Head, Parts};

/// The one message of a call, still in its frame.
#[derive(Debug)]
pub(crate) struct Gathered {
    body: Bytes,
    room: Option<OwnedSemaphorePermit>,
}

/// Why a body is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Its message is, or says that it is, larger than allowed.
    TooLarge,
    /// The bodies of all calls take all the memory they may take.
    NoRoom,
    /// It is not one whole, uncompressed message.
    Malformed,
    /// The connection failed.
    Broken,
}

impl Gathered {
    pub(crate) fn message(&self) -> &[u8] {
        self.body.get(HEAD_BYTES..).unwrap_or_default()
    }

    pub(crate) fn into_body(self) -> Body {
        Body::new(Parts::within(self.body, self.room))
    }
}

/// Reads one message of at most `limit` bytes. Whatever is read takes its bytes from `room` first: as soon as a message is
/// too large, or there is no room, nothing more of it is read.
pub(crate) async fn gather(mut body: Body, limit: usize, room: &Arc<Semaphore>) -> Result<Gathered, Trouble> {
    let mut read = Buffer::default();
    let mut granted: Option<OwnedSemaphorePermit> = None;
    while let Some(data) = next(&mut body).await? {
        let more = grant(room, data.len())?;
        match &mut granted {
            Some(granted) => granted.merge(more),
            None => granted = Some(more),
        }
        read.push(data);
        check(read.bytes(), limit)?;
    }
    match Head::read(read.bytes()) {
        Some(Head { compressed: false, length }) if read.bytes().len() == HEAD_BYTES.saturating_add(length) => {
            Ok(Gathered { body: read.into_bytes(), room: granted })
        }
        _ => Err(Trouble::Malformed),
    }
}

/// Judges by what has been read so far.
fn check(read: &[u8], limit: usize) -> Result<(), Trouble> {
    match Head::read(read) {
        None => Ok(()),
        Some(head) if head.length > limit => Err(Trouble::TooLarge),
        Some(head) if head.compressed || read.len() > HEAD_BYTES.saturating_add(head.length) => Err(Trouble::Malformed),
        Some(_) => Ok(()),
    }
}

fn grant(room: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Trouble> {
    let bytes = u32::try_from(bytes).map_err(|_| Trouble::TooLarge)?;
    Arc::clone(room).try_acquire_many_owned(bytes).map_err(|_| Trouble::NoRoom)
}

async fn next(body: &mut Body) -> Result<Option<Bytes>, Trouble> {
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(Trouble::Broken),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// What was read. Mostly that is one piece, which is not copied; many are put together, so that small ones take no more
/// memory than they have bytes.
#[derive(Debug, Default)]
struct Buffer {
    first: Bytes,
    all: BytesMut,
}

impl Buffer {
    fn push(&mut self, data: Bytes) {
        if self.bytes().is_empty() {
            self.first = data;
        } else {
            let first = std::mem::take(&mut self.first);
            self.all.extend_from_slice(&first);
            self.all.extend_from_slice(&data);
        }
    }

    fn bytes(&self) -> &[u8] {
        if self.all.is_empty() { &self.first } else { &self.all }
    }

    fn into_bytes(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(parts: &[&[u8]], limit: usize, room: &Arc<Semaphore>) -> Result<Gathered, Trouble> {
        let parts: Vec<Bytes> = parts.iter().map(|part| Bytes::copy_from_slice(part)).collect();
        gather(Body::new(Parts::new(parts)), limit, room).await
    }

    async fn message(parts: &[&[u8]]) -> Result<Vec<u8>, Trouble> {
        let room = Arc::new(Semaphore::new(1000));
        read(parts, 4, &room).await.map(|gathered| gathered.message().to_vec())
    }

    #[tokio::test]
    async fn a_message_is_read_however_it_comes() {
        let whole: &[u8] = &[0, 0, 0, 0, 3, 7, 8, 9];
        assert_eq!(message(&[whole]).await, Ok(vec![7, 8, 9]));
        let bytes: Vec<&[u8]> = whole.chunks(1).collect();
        assert_eq!(message(&bytes).await, Ok(vec![7, 8, 9]));
        assert_eq!(message(&[&[0, 0, 0, 0, 0]]).await, Ok(vec![]));
    }

    #[tokio::test]
    async fn what_is_not_one_whole_message_is_refused() {
        for malformed in [
            &[][..],
            &[0, 0, 0, 0],
            &[0, 0, 0, 0, 3, 7, 8],
            &[1, 0, 0, 0, 1, 7],
            &[0, 0, 0, 0, 1, 7, 0, 0, 0, 0, 1, 7],
            &[0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(message(&[malformed]).await, Err(Trouble::Malformed), "{malformed:?}");
        }
    }

    #[tokio::test]
    async fn a_message_that_is_too_large_is_refused_by_its_head() {
        assert_eq!(message(&[&[0, 0, 0, 0, 5]]).await, Err(Trouble::TooLarge));
        assert_eq!(message(&[&[0, 0xff, 0xff, 0xff, 0xff, 1]]).await, Err(Trouble::TooLarge));
        assert_eq!(message(&[&[0, 0, 0, 0, 4, 1, 2, 3, 4]]).await, Ok(vec![1, 2, 3, 4]));
    }

    #[tokio::test]
    async fn all_bodies_together_take_no_more_than_their_room_and_give_it_back() {
        let room = Arc::new(Semaphore::new(16));
        let whole: &[u8] = &[0, 0, 0, 0, 3, 7, 8, 9];
        let first = read(&[whole], 4, &room).await.unwrap();
        let second = read(&[whole], 4, &room).await.unwrap();
        assert_eq!(read(&[whole], 4, &room).await.unwrap_err(), Trouble::NoRoom);
        drop(first);
        assert!(read(&[whole], 4, &room).await.is_ok());
        drop(second.into_body());
        assert_eq!(room.available_permits(), 16);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_refused() {
        let broken = futures::stream::iter([Err::<http_body::Frame<Bytes>, _>(std::io::Error::other("reset"))]);
        let body = Body::new(StreamBody(broken));
        let room = Arc::new(Semaphore::new(16));
        assert_eq!(gather(body, 4, &room).await.unwrap_err(), Trouble::Broken);
    }

    struct StreamBody<S>(S);

    impl<S> http_body::Body for StreamBody<S>
    where
        S: futures::Stream<Item = Result<http_body::Frame<Bytes>, std::io::Error>> + Unpin,
    {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
            Pin::new(&mut self.0).poll_next(context)
        }
    }
}
