//! Commits: what is to become durable, and what its confirmation allows.
//!
//! An entry that changed is put on a list; a commit brings its row to the state it has when the commit is taken. So an entry
//! that came and went within its window is no row at all, and applying a commit twice changes nothing.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use super::{
    Ledger,
    entry::{Entry, Handle},
};
use crate::{
    activation::{Key, Slot},
    lifecycle::{Outcome, Publication, State},
    ports::store::{Commit, NewRow, Position, RowUpdate},
    positions::SPAN_MAX,
    time::{Now, Steady},
};

/// Names the commit that an answer waits for: it is durable once the confirmed number is not smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// When the next commit is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitWanted {
    /// Somebody waits.
    Now,
    /// Nobody waits; not later than after this time.
    In(Duration),
    /// There is nothing to commit.
    No,
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    dirty: Vec<Handle>,
    commit_at: Option<Steady>,
    /// Every entry that was read and had no row then, by the end of its window.
    pub(super) window: VecDeque<(Steady, Handle)>,
    /// Rows whose origin is void.
    pub(super) clear_origin: Vec<Key>,
    /// How many entries have no row.
    pub(super) unwritten: usize,
    taken: Option<Taken>,
    number: u64,
    confirmed: u64,
    /// How many leases were lost in this life.
    pub(super) lost_leases: u64,
}

/// What the commit under way contains, for its confirmation.
#[derive(Debug, Default)]
struct Taken {
    inserted: Vec<Handle>,
    leaving: Vec<Handle>,
    published: Vec<Handle>,
    positions: Vec<Position>,
}

impl Journal {
    /// What the next commit is to bring up to date.
    pub(super) fn changed(&self) -> &[Handle] {
        &self.dirty
    }
}

impl Ledger {
    /// When the next commit is wanted, given that none is under way.
    pub fn commit_wanted(&self, now: Now) -> CommitWanted {
        if self.journal.unwritten > self.policy.unwritten_max / 4 {
            return CommitWanted::Now;
        }
        let window = self.journal.window.front().map(|(due, _)| *due);
        match self.journal.commit_at.into_iter().chain(window).min() {
            None => CommitWanted::No,
            Some(at) if at <= now.steady => CommitWanted::Now,
            Some(at) => CommitWanted::In(at.since(now.steady)),
        }
    }

    /// The number of the last commit that is durable.
    pub fn confirmed(&self) -> u64 {
        self.journal.confirmed
    }

    /// Takes everything that is to become durable. None while a commit is under way, and when there is nothing to do.
    pub fn take_commit(&mut self, now: Now) -> Option<Commit> {
        self.take(now, false)
    }

    /// Takes the last commit of an orderly stop: everything becomes a row, and the store is marked as closed. It stays
    /// marked as open while tasks handed out before a crash or loss are still to be read again: the next start goes on
    /// waiting for the reports on them. None while a commit is under way.
    pub fn take_closing_commit(&mut self, now: Now) -> Option<Commit> {
        self.partitions.flush_all();
        self.undo_untaken(now);
        self.look_behind(now);
        self.take(now, !self.is_catching_up())
    }

    fn take(&mut self, now: Now, closing: bool) -> Option<Commit> {
        if self.journal.taken.is_some() {
            return None;
        }
        self.end_windows(now);
        let mut commit = Commit { number: self.journal.number + 1, closing, ..Commit::default() };
        let mut taken = Taken::default();
        for handle in std::mem::take(&mut self.journal.dirty) {
            self.write(handle, &mut commit, &mut taken, now);
        }
        self.write_positions(&mut commit, &mut taken);
        commit.clear_origin = std::mem::take(&mut self.journal.clear_origin);
        self.memory.write(&mut commit);
        self.journal.commit_at = None;
        self.journal.number += 1;
        if commit.is_empty() && taken.leaving.is_empty() {
            self.journal.confirmed = self.journal.number;
            return None;
        }
        self.journal.taken = Some(taken);
        Some(commit)
    }

    /// Puts on the list whatever has been without a row for a whole window, and all of partitions that are to be written.
    fn end_windows(&mut self, now: Now) {
        let mut excess = self.journal.unwritten.saturating_sub(self.policy.unwritten_max / 4);
        while let Some((due, handle)) = self.journal.window.front().copied() {
            if due > now.steady && excess == 0 {
                break;
            }
            self.journal.window.pop_front();
            excess = excess.saturating_sub(usize::from(self.end_window(handle)));
        }
        let flush = self.partitions.take_flushes(SPAN_MAX);
        if flush.is_empty() {
            return;
        }
        let window = std::mem::take(&mut self.journal.window);
        let (flushed, kept) = window.into_iter().partition(|(_, handle)| self.is_of(*handle, &flush));
        self.journal.window = kept;
        let flushed: VecDeque<(Steady, Handle)> = flushed;
        for (_, handle) in flushed {
            self.end_window(handle);
        }
    }

    /// Puts an entry that has no row on the list. Returns whether it will have one.
    fn end_window(&mut self, handle: Handle) -> bool {
        let Some(entry) = self.entry_mut(handle) else { return false };
        if entry.flags.row {
            return false;
        }
        if !std::mem::replace(&mut entry.flags.dirty, true) {
            self.journal.dirty.push(handle);
        }
        true
    }

    fn is_of(&self, handle: Handle, slots: &BTreeSet<Slot>) -> bool {
        self.entry(handle).and_then(|entry| entry.origin.get()).is_none_or(|origin| slots.contains(&origin.slot))
    }

    fn write(&mut self, handle: Handle, commit: &mut Commit, taken: &mut Taken, now: Now) {
        let Some(entry) = self.entries.get_mut(handle.index as usize).filter(|entry| entry.key == handle.key()) else {
            return;
        };
        entry.flags.dirty = false;
        entry.commit = commit.number;
        let state = entry.row_state();
        if publishes_next(entry) {
            taken.published.push(handle);
        }
        match (state, entry.flags.row) {
            (None, row) => {
                if row {
                    commit.delete.push(entry.key);
                }
                taken.leaving.push(handle);
                let lives_on = entry.state == State::Done(Outcome::Forwarded);
                let (origin, buried) =
                    (entry.origin.get(), (entry.flags.marked && !lives_on).then(|| entry.id.clone()));
                if let Some(origin) = origin {
                    self.partitions.settle(origin);
                    if let Some(id) = buried {
                        self.bury(id, origin.slot, now);
                    }
                }
            }
            (Some(state), true) => {
                commit.update.push(RowUpdate { key: entry.key, lost_leases: entry.lost_leases, state });
            }
            (Some(state), false) => {
                let payload = entry.payload.clone().unwrap_or_default();
                entry.flags.row = true;
                self.journal.unwritten = self.journal.unwritten.saturating_sub(1);
                commit.insert.push(NewRow { row: entry.row(state), payload });
                taken.inserted.push(handle);
                if let Some(origin) = entry.origin.get() {
                    self.partitions.write(origin);
                }
            }
        }
    }

    fn write_positions(&mut self, commit: &mut Commit, taken: &mut Taken) {
        commit.drop_positions = self.partitions.take_dropped();
        commit.positions = self.partitions.take_positions();
        taken.positions.clone_from(&commit.positions);
    }

    /// The commit that was taken is durable. Entries that it removes leave; what waits for durability goes on.
    pub fn confirm(&mut self, now: Now) {
        let Some(taken) = self.journal.taken.take() else { return };
        self.journal.confirmed = self.journal.number;
        for handle in taken.inserted {
            self.stored(handle);
        }
        for handle in taken.published {
            self.publish_if_waiting(handle);
        }
        for handle in taken.leaving {
            self.left(handle, now);
        }
        for position in taken.positions {
            self.position_confirmed(&position, now);
        }
        self.starts_confirmed();
    }

    /// Its payload can be read back from here on, so it need not stay in memory.
    fn stored(&mut self, handle: Handle) {
        let Some(entry) = self.entry_mut(handle) else { return };
        entry.flags.stored = true;
        if entry.flags.evict || !matches!(entry.state, State::Pending { .. }) {
            self.release_payload(handle);
        }
    }

    /// Drops a payload from memory that can be read back: a worker has it, or it only waits to be published. Memory is for
    /// those that wait for a worker.
    pub(super) fn release_payload(&mut self, handle: Handle) {
        let Some(entry) = self.entry_mut(handle).filter(|entry| entry.flags.stored && !entry.flags.wanted) else {
            return;
        };
        let bytes = entry.payload.take().map_or(0, |payload| payload.len() as u64);
        self.resident_bytes = self.resident_bytes.saturating_sub(bytes);
    }

    fn publish_if_waiting(&mut self, handle: Handle) {
        if self.entry(handle).is_some_and(publishes_next) {
            self.release_payload(handle);
            self.outgoing.push_back(handle);
        }
    }

    fn left(&mut self, handle: Handle, now: Now) {
        let Some(entry) = self.remove(handle) else { return };
        if let State::Done(outcome) = entry.state {
            self.count(entry.group, outcome);
        }
        self.no_longer_publishes(&entry, now);
        match entry.state {
            State::Done(Outcome::Forwarded) => self.went_on(&entry.id),
            _ => self.finished(&entry.id),
        }
    }

    /// The entry changed and somebody waits for it: the commit that will have it.
    pub(super) fn mark_now(&mut self, handle: Handle, now: Now) -> Ticket {
        self.mark(handle);
        self.commit_now(now)
    }

    /// The entry changed; nobody waits.
    pub(super) fn mark_soon(&mut self, handle: Handle, now: Now) {
        self.mark(handle);
        self.commit_soon(now);
    }

    fn mark(&mut self, handle: Handle) {
        let Some(entry) = self.entry_mut(handle) else { return };
        if !std::mem::replace(&mut entry.flags.dirty, true) {
            self.journal.dirty.push(handle);
        }
    }

    /// Somebody waits for the next commit: its ticket.
    pub(super) fn commit_now(&mut self, now: Now) -> Ticket {
        self.journal.commit_at = Some(now.steady);
        Ticket(self.journal.number + 1)
    }

    pub(super) fn commit_soon(&mut self, now: Now) {
        let at = now.steady.saturating_add(self.policy.lazy_commit);
        self.journal.commit_at = Some(self.journal.commit_at.map_or(at, |other| other.min(at)));
    }

    /// Whether the journal has the entry as it is.
    pub(super) fn is_durable(&self, handle: Handle) -> bool {
        let confirmed = self.journal.confirmed;
        self.entry(handle).is_some_and(|entry| entry.flags.row && !entry.flags.dirty && entry.commit <= confirmed)
    }

    /// What must be durable before anybody may learn the entry's present state. None: it is already.
    pub(super) fn ticket_of(&mut self, handle: Handle, now: Now) -> Option<Ticket> {
        let confirmed = self.journal.confirmed;
        let entry = self.entry(handle)?;
        match (entry.flags.dirty || !entry.flags.row, entry.commit > confirmed) {
            (false, false) => None,
            (_, true) if !entry.flags.dirty => Some(Ticket(entry.commit)),
            (true, _) => Some(self.mark_now(handle, now)),
            (false, true) => Some(Ticket(entry.commit)),
        }
    }
}

/// Whether it may be published once its state is durable: it waits for that, or its beginning had to be journalled first.
fn publishes_next(entry: &Entry) -> bool {
    match &entry.state {
        State::Retry { publication, .. } | State::Forward { publication } | State::Failed { publication, .. } => {
            match publication {
                Publication::Waiting => true,
                Publication::Begun => entry.journals_beginning(),
                Publication::Parked(_) => false,
            }
        }
        State::Pending { .. } | State::Processing(_) | State::Done(_) => false,
    }
}
