//! Shares the room out among the feeds, so that the flood of one topic cannot take it all from the others.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Who may take how many records.
pub(super) struct Shares(Mutex<State>);

struct State {
    /// What each feed may take at this moment.
    granted: Vec<usize>,
    /// Feeds that asked in vain, in the order in which they did. They ask again.
    waiting: VecDeque<usize>,
}

/// What a feed may take, and who is to ask next.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) records: usize,
    pub(super) next: Option<usize>,
}

impl Shares {
    pub(super) fn new(feeds: usize) -> Self {
        Self(Mutex::new(State { granted: vec![0; feeds], waiting: VecDeque::new() }))
    }

    /// How much of `room` this feed may take. An equal part; but where there was not enough for all, those that wait take
    /// turns, and whoever has had its turn waits behind them.
    pub(super) fn ask(&self, feed: usize, room: usize) -> Share {
        let mut state = self.lock();
        let records = state.share(feed, room);
        if let Some(granted) = state.granted.get_mut(feed) {
            *granted = records;
        }
        // One that was refused rings nobody: whoever waits looks by itself. (Otherwise two could ring each other for ever.)
        let next = state.waiting.front().copied().filter(|_| records > 0 && room > records);
        Share { records, next }
    }

    /// This feed takes a part of its own, which no other can take: it does not wait for a turn.
    pub(super) fn apart(&self, feed: usize, records: usize) {
        let mut state = self.lock();
        state.waiting.retain(|waiting| *waiting != feed);
        if let Some(granted) = state.granted.get_mut(feed) {
            *granted = records;
        }
    }

    /// The feeds that may take more than their part of what is left: they are to ask anew.
    pub(super) fn overdrawn(&self, room: usize) -> Vec<usize> {
        let state = self.lock();
        let part = room / state.granted.len().max(1);
        state.granted.iter().enumerate().filter(|(_, granted)| **granted > part).map(|(feed, _)| feed).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn share(&mut self, feed: usize, room: usize) -> usize {
        let part = room / self.granted.len().max(1);
        if part > 0 && self.waiting.is_empty() {
            return part;
        }
        if !self.waiting.contains(&feed) {
            self.waiting.push_back(feed);
        }
        let turn = self.waiting.front() == Some(&feed);
        if room == 0 || !turn {
            return 0;
        }
        let waiting = self.waiting.len();
        self.waiting.pop_front();
        (room / waiting).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(shares: &Shares, feed: usize, room: usize) -> usize {
        shares.ask(feed, room).records
    }

    #[test]
    fn the_room_is_divided_equally() {
        let shares = Shares::new(3);
        assert_eq!([0, 1, 2].map(|feed| asked(&shares, feed, 300)), [100, 100, 100]);
    }

    #[test]
    fn one_feed_has_it_all() {
        let shares = Shares::new(1);
        assert_eq!([7, 0, 1, 5].map(|room| asked(&shares, 0, room)), [7, 0, 1, 5]);
    }

    #[test]
    fn feeds_that_wait_take_turns() {
        let shares = Shares::new(3);
        assert_eq!(asked(&shares, 0, 0), 0);
        assert_eq!(asked(&shares, 1, 0), 0);
        assert_eq!(shares.ask(1, 8), Share { records: 0, next: None }, "the other asked first");
        assert_eq!(shares.ask(0, 8), Share { records: 4, next: Some(1) });
        assert_eq!(asked(&shares, 0, 4), 0, "it has had its turn");
        assert_eq!(shares.ask(1, 4), Share { records: 2, next: Some(0) });
        assert_eq!(asked(&shares, 0, 2), 2);
        assert_eq!(asked(&shares, 1, 30), 10, "nobody waits any more");
    }

    #[test]
    fn a_feed_that_never_asks_is_not_waited_for() {
        let shares = Shares::new(8);
        assert!((0..100).all(|_| asked(&shares, 3, 1) == 1));
    }

    #[test]
    fn a_part_that_was_given_is_called_back_when_the_room_is_gone() {
        let shares = Shares::new(2);
        asked(&shares, 0, 200);
        asked(&shares, 1, 200);
        assert!(shares.overdrawn(200).is_empty());
        assert_eq!(shares.overdrawn(100), [0, 1]);
        asked(&shares, 0, 0);
        assert_eq!(shares.overdrawn(0), [1]);
    }

    #[test]
    fn a_feed_with_a_part_of_its_own_holds_up_nobody() {
        let shares = Shares::new(2);
        assert_eq!(asked(&shares, 1, 0), 0);
        shares.apart(1, 100);
        assert_eq!([1, 2, 2048].map(|room| asked(&shares, 0, room)), [1, 1, 1024]);
    }
}
