//! The memory for bodies of calls that nobody has vouched for yet.
//!
//! Whoever cannot sign must not keep out those who can: a connection gets a share, and where there is no room for all, the
//! bodies that have been arriving longest give way. A signed call is there at once; what fills the room slowly goes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// How many connections can have their whole share at once.
const SHARES: usize = 4;

/// Room for bodies, in bytes.
#[derive(Debug)]
pub(crate) struct Room {
    bytes: Arc<Semaphore>,
    readers: Mutex<Readers>,
}

#[derive(Debug, Default)]
struct Readers {
    next: u64,
    /// By the order in which they came.
    under_way: BTreeMap<u64, Held>,
}

#[derive(Debug)]
struct Held {
    bytes: usize,
    gives_way: CancellationToken,
}

/// What one connection may have of it.
#[derive(Clone, Debug)]
pub(crate) struct Share(Arc<Semaphore>);

/// A body that is being read.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    room: &'a Room,
    share: Share,
    number: u64,
    gives_way: CancellationToken,
    granted: Granted,
}

/// The room that a body has; given back when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Granted {
    of_room: Option<OwnedSemaphorePermit>,
    of_share: Option<OwnedSemaphorePermit>,
}

/// There is none for this body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// How many bytes a room of at least `bytes` has: a connection's share must hold the largest body.
pub(crate) fn size(bytes: usize, body_bytes_max: usize) -> usize {
    body_bytes_max.saturating_mul(SHARES).max(bytes).clamp(SHARES, Semaphore::MAX_PERMITS)
}

impl Share {
    /// The share of a connection in a room of this size.
    pub(crate) fn of(room_size: usize) -> Self {
        Self(Arc::new(Semaphore::new(room_size / SHARES)))
    }
}

impl Room {
    pub(crate) fn new(size: usize) -> Self {
        Self { bytes: Arc::new(Semaphore::new(size)), readers: Mutex::default() }
    }

    /// A body begins to arrive.
    pub(crate) fn enter(&self, share: Share) -> Reader<'_> {
        let gives_way = CancellationToken::new();
        let mut readers = self.readers();
        let number = readers.next;
        readers.next += 1;
        readers.under_way.insert(number, Held { bytes: 0, gives_way: gives_way.clone() });
        Reader { room: self, share, number, gives_way, granted: Granted::default() }
    }

    /// Has those that came before this one give way, the first first, until they have held so many bytes. Returns whether they did.
    fn clear(&self, number: u64, bytes: usize) -> bool {
        let mut readers = self.readers();
        let (mut cleared, mut going) = (0, Vec::new());
        for (earlier, held) in readers.under_way.range(..number).filter(|(_, held)| held.bytes > 0) {
            if cleared >= bytes {
                break;
            }
            cleared += held.bytes;
            going.push(*earlier);
        }
        if cleared < bytes {
            return false;
        }
        for held in going.iter().filter_map(|number| readers.under_way.remove(number)) {
            held.gives_way.cancel();
        }
        true
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader<'_> {
    /// Cancelled when this body has to give way.
    pub(crate) fn token(&self) -> CancellationToken {
        self.gives_way.clone()
    }

    /// Takes room for so many bytes more; waits for those that give way.
    pub(crate) async fn take(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let count = u32::try_from(bytes).map_err(|_| NoRoom)?;
        let share = Arc::clone(&self.share.0).try_acquire_many_owned(count).map_err(|_| NoRoom)?;
        let room = match Arc::clone(&self.room.bytes).try_acquire_many_owned(count) {
            Ok(room) => room,
            Err(_) => self.wait(bytes, count).await?,
        };
        merge(&mut self.granted.of_share, share);
        merge(&mut self.granted.of_room, room);
        if let Some(held) = self.room.readers().under_way.get_mut(&self.number) {
            held.bytes += bytes;
        }
        Ok(())
    }

    async fn wait(&self, bytes: usize, count: u32) -> Result<OwnedSemaphorePermit, NoRoom> {
        if !self.room.clear(self.number, bytes) {
            return Err(NoRoom);
        }
        Arc::clone(&self.room.bytes).acquire_many_owned(count).await.map_err(|_closed| NoRoom)
    }

    /// The body is whole: from here on it gives way to nobody.
    pub(crate) fn whole(mut self) -> Granted {
        std::mem::take(&mut self.granted)
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.room.readers().under_way.remove(&self.number);
    }
}

fn merge(all: &mut Option<OwnedSemaphorePermit>, more: OwnedSemaphorePermit) {
    match all {
        Some(all) => all.merge(more),
        None => *all = Some(more),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_connection_takes_no_more_than_its_share() {
        let (room, share) = (Room::new(40), Share::of(40));
        let mut first = room.enter(share.clone());
        assert_eq!(first.take(8).await, Ok(()));
        assert_eq!(room.enter(share).take(3).await, Err(NoRoom), "its share is ten");
        assert_eq!(room.enter(Share::of(40)).take(10).await, Ok(()), "others have theirs");
        assert!(!first.token().is_cancelled());
    }

    #[tokio::test]
    async fn where_there_is_no_room_the_body_that_came_first_gives_way() {
        let room = Room::new(40);
        let mut readers: Vec<_> = (0..4).map(|_| room.enter(Share::of(40))).collect();
        for reader in &mut readers {
            reader.take(10).await.unwrap();
        }
        let mut newcomer = room.enter(Share::of(40));
        let mut taking = Box::pin(newcomer.take(5));
        assert!((&mut taking).now_or_never().is_none(), "its room is not free yet");
        assert!(readers[0].token().is_cancelled());
        assert!(!readers[1].token().is_cancelled(), "one is enough");
        drop(readers.remove(0));
        assert_eq!(taking.await, Ok(()));
        drop((readers, newcomer));
        assert_eq!(room.bytes.available_permits(), 40);
    }

    #[tokio::test]
    async fn a_whole_body_gives_way_to_nobody_and_keeps_its_room() {
        let room = Room::new(40);
        let mut granted = Vec::new();
        for _ in 0..4 {
            let mut reader = room.enter(Share::of(40));
            reader.take(10).await.unwrap();
            granted.push(reader.whole());
        }
        assert_eq!(room.enter(Share::of(40)).take(1).await, Err(NoRoom));
        drop(granted.pop());
        assert_eq!(room.enter(Share::of(40)).take(1).await, Ok(()));
    }

    #[tokio::test]
    async fn the_slowest_itself_gets_nothing_at_the_cost_of_those_after_it() {
        let room = Room::new(40);
        let mut slow = room.enter(Share::of(40));
        slow.take(1).await.unwrap();
        let mut readers: Vec<_> = (0..4).map(|_| room.enter(Share::of(40))).collect();
        for (reader, bytes) in readers.iter_mut().zip([10, 10, 10, 9]) {
            reader.take(bytes).await.unwrap();
        }
        assert_eq!(slow.take(1).await, Err(NoRoom));
    }

    #[test]
    fn a_share_holds_the_largest_body() {
        assert_eq!(size(64, 1000), 4000);
        assert_eq!(size(64_000, 1000), 64_000);
    }
}
