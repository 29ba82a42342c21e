//! Reads the body of a call into memory, as much as is allowed and no more.

use std::{pin::Pin, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;

use crate::{
    frame::{HEAD_BYTES, Head, Parts},
    room::{Granted, NoRoom, Reader, Room, Share},
};

/// How long any body may take to arrive: its head, too, which says how much there is to come.
const ARRIVES_WITHIN: Duration = Duration::from_secs(5);
/// How many bytes of it must arrive in each second beyond that: less than any network of a broker and its workers carries,
/// so that the largest request of the default configuration has 9 s.
const BYTES_PER_SECOND_MIN: u64 = 1024 * 1024;

/// The one message of a call, still in its frame.
#[derive(Debug)]
pub(crate) struct Gathered {
    body: Bytes,
    room: Granted,
}

/// Why a body is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Its message is, or says that it is, larger than allowed.
    TooLarge,
    /// The bodies of all calls, or those of its connection, take all the memory they may take; or it gave way to others.
    NoRoom,
    /// It comes too slowly.
    Slow,
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

/// Reads one message of at most `limit` bytes, within `time_max`. Whatever is read takes its bytes from `room` first: as soon
/// as a message is too large or too slow, or there is no room, nothing more of it is read.
pub(crate) async fn gather(
    body: Body,
    limit: usize,
    time_max: Duration,
    room: &Room,
    share: Share,
) -> Result<Gathered, Trouble> {
    let reader = room.enter(share);
    let gives_way = reader.token();
    let reading = read(body, limit, time_max, reader);
    gives_way.run_until_cancelled(reading).await.unwrap_or(Err(Trouble::NoRoom))
}

async fn read(mut body: Body, limit: usize, time_max: Duration, mut reader: Reader<'_>) -> Result<Gathered, Trouble> {
    let began = now();
    let mut read = Buffer::default();
    let arrives = |read: &Buffer| began + time_max.min(time_for(read.bytes()));
    while let Some(data) = timeout_at(arrives(&read), next(&mut body)).await.map_err(|_elapsed| Trouble::Slow)?? {
        let taking = timeout_at(arrives(&read), reader.take(data.len()));
        taking.await.map_err(|_elapsed| Trouble::NoRoom)?.map_err(|NoRoom| Trouble::NoRoom)?;
        read.push(data);
        check(read.bytes(), limit)?;
    }
    match Head::read(read.bytes()) {
        Some(Head { compressed: false, length }) if read.bytes().len() == HEAD_BYTES.saturating_add(length) => {
            Ok(Gathered { body: read.into_bytes(), room: reader.whole() })
        }
        _ => Err(Trouble::Malformed),
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a client takes is real time")]
fn now() -> Instant {
    Instant::now()
}

/// How long a body that begins like this may take to arrive.
fn time_for(read: &[u8]) -> Duration {
    let bytes = Head::read(read).map_or(0, |head| head.length as u64);
    ARRIVES_WITHIN + Duration::from_secs(bytes / BYTES_PER_SECOND_MIN)
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
    use futures::StreamExt;

    use super::*;

    const TIME_MAX: Duration = Duration::from_secs(30);

    async fn read(parts: &[&[u8]], limit: usize, room: &Room) -> Result<Gathered, Trouble> {
        let parts: Vec<Bytes> = parts.iter().map(|part| Bytes::copy_from_slice(part)).collect();
        gather(Body::new(Parts::new(parts)), limit, TIME_MAX, room, Share::of(1000)).await
    }

    async fn message(parts: &[&[u8]]) -> Result<Vec<u8>, Trouble> {
        read(parts, 4, &Room::new(1000)).await.map(|gathered| gathered.message().to_vec())
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
        let room = Room::new(16);
        let whole: &[u8] = &[0, 0, 0, 0, 3, 7, 8, 9];
        let first = read(&[whole], 4, &room).await.unwrap();
        let second = read(&[whole], 4, &room).await.unwrap();
        assert_eq!(read(&[whole], 4, &room).await.unwrap_err(), Trouble::NoRoom);
        drop(first);
        assert!(read(&[whole], 4, &room).await.is_ok());
        drop(second.into_body());
        assert!(read(&[whole], 4, &room).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_refused() {
        let broken = futures::stream::iter([Err::<http_body::Frame<Bytes>, _>(std::io::Error::other("reset"))]);
        let body = Body::new(StreamBody(broken));
        let gathered = gather(body, 4, TIME_MAX, &Room::new(16), Share::of(16)).await;
        assert_eq!(gathered.unwrap_err(), Trouble::Broken);
    }

    /// A body that begins like this and never ends.
    fn endless(begin: &'static [u8]) -> Body {
        let begin = futures::stream::iter([Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from_static(begin)))]);
        Body::new(StreamBody(begin.chain(futures::stream::pending())))
    }

    #[test]
    fn a_body_has_the_time_that_its_size_needs() {
        assert_eq!(time_for(&[]).as_secs(), 5);
        assert_eq!(time_for(&[0, 0, 0, 0, 3, 7]).as_secs(), 5);
        assert_eq!(time_for(&[0, 0, 0x40, 0, 0]).as_secs(), 9, "4 MiB");
    }

    #[tokio::test]
    async fn a_body_that_comes_too_slowly_is_not_waited_for() {
        let (room, time_max) = (Room::new(16), Duration::from_millis(20));
        let gathered = gather(endless(&[0, 0, 0, 0, 3, 7]), 16, time_max, &room, Share::of(64)).await;
        assert_eq!(gathered.unwrap_err(), Trouble::Slow);
        assert!(read(&[&[0, 0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9]], 16, &room).await.is_ok(), "its room is free");
    }

    #[tokio::test]
    async fn a_body_that_never_ends_gives_way_to_one_that_is_there() {
        let room = Room::new(16);
        let slow = gather(endless(&[0, 0, 0, 0, 9, 1, 2, 3, 4, 5]), 16, TIME_MAX, &room, Share::of(64));
        let whole = async { read(&[&[0, 0, 0, 0, 3, 7, 8, 9]], 16, &room).await };
        let (slow, whole) = futures::join!(slow, whole);
        assert_eq!(slow.unwrap_err(), Trouble::NoRoom);
        assert_eq!(whole.unwrap().message(), [7, 8, 9]);
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
