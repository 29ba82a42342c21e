//! What comes in: records from the source, rows from the store at start.

use bytes::Bytes;

use super::{
    Ledger, entry,
    entry::{Entry, Flags, Handle, When},
};
use crate::{
    activation::{Activation, ActivationId, OnFailure, Origin, Route, Terms},
    lifecycle::{Event, Outcome, Publication, State},
    ports::store::{FailureCause, Row, StoredState},
    positions::Reading,
    time::Now,
};

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It is in the ledger.
    New,
    /// Its id is in flight, or it is a copy of a retry that was settled: dropped, its offset settled.
    Duplicate,
    /// A report on it came before it: settled.
    SettledEarly,
    /// Its time is over: settled.
    Expired,
}

impl Ledger {
    /// Takes over what the store holds beside rows. Comes first, once.
    pub fn load(&mut self, state: StoredState, now: Now) {
        self.next_key = state.last_key.map_or(1, |key| key.0 + 1);
        self.load_positions(&state, now);
        if !state.closed {
            self.hold_until = now.steady.saturating_add(self.policy.hold_after_crash);
        }
        self.memory.load(state.early_reports);
        for tombstone in state.tombstones {
            self.load_tombstone(tombstone, now);
        }
    }

    /// Takes over a row. It goes on where it was: state, attempts, lease and delay.
    pub fn load_row(&mut self, row: Row, now: Now) {
        let route = self.intern(row.route);
        let group = self.groups.of(&route.application, &route.namespace);
        let lease = row.terms.run_limit.saturating_add(self.policy.lease_grace);
        let origin = row.origin.filter(|origin| self.partitions.knows(origin.slot));
        self.next_key = self.next_key.max(row.key.0 + 1);
        if let Some(origin) = origin {
            self.partitions.row_loaded(origin);
        }
        let handle = self.insert(Entry {
            key: row.key,
            id: row.id,
            route,
            terms: row.terms,
            received_at: row.received_at,
            added_at: row.added_at,
            origin,
            group,
            payload_bytes: row.payload_bytes,
            payload: None,
            lost_leases: row.lost_leases,
            state: entry::resumed(row.state, lease, now),
            commit: 0,
            flags: Flags { marked: row.marked, row: true, stored: true, ..Flags::default() },
        });
        self.groups.counts(group).loaded += 1;
        self.remind_of_expiry(handle);
        self.resume(handle, now);
    }

    fn resume(&mut self, handle: Handle, now: Now) {
        let Some(entry) = self.entry(handle) else { return };
        match &entry.state {
            State::Pending { .. } => self.place(handle, now),
            State::Processing(lease) => {
                let ends = When::Steady(lease.ends);
                self.remind(ends, handle);
            }
            State::Retry { publication: Publication::Parked(_), .. } => self.publishes(handle),
            State::Retry { .. } if entry.terms.at_most_once => self.give_up(handle, FailureCause::InDoubt, now),
            State::Retry { .. } => {
                self.publishes(handle);
                self.outgoing.push_back(handle);
            }
            State::Failed { publication: Publication::Parked(_), .. } | State::Done(_) => {}
            State::Failed { .. } => self.outgoing.push_back(handle),
        }
    }

    /// A record was read; whether it is to be decoded and admitted at all. Known: it is there, settled, or stale.
    pub fn read(&mut self, origin: Origin, leader_epoch: Option<i32>, now: Now) -> Reading {
        let reading = self.partition_read(origin, leader_epoch, now);
        if reading == Reading::Known {
            self.position_changed(origin.slot, now);
        }
        reading
    }

    /// Takes in an activation that was read as new.
    pub fn admit(&mut self, origin: Origin, activation: Activation, now: Now) -> Admitted {
        let group = self.groups.of(&activation.route.application, &activation.route.namespace);
        if self.memory.expects(&activation.id) && self.believes_early(origin, activation.marked) {
            self.settle_early(origin, &activation, group, now);
            return Admitted::SettledEarly;
        }
        if self.is_copy(&activation) {
            self.settle_offset(origin, now);
            return Admitted::Duplicate;
        }
        if activation.terms.expires_at.is_some_and(|at| at <= now.wall) {
            let counts = self.groups.counts(group);
            counts.admitted += 1;
            counts.expired += 1;
            self.settle_offset(origin, now);
            return Admitted::Expired;
        }
        let handle = self.enter(origin, activation, group, now);
        self.place(handle, now);
        Admitted::New
    }

    /// Takes in bytes that are no activation: they wait for the dead-letter topic.
    pub fn admit_undecodable(&mut self, origin: Origin, payload: Bytes, reason: &str, now: Now) {
        let partition = self.partitions.name(origin.slot);
        let activation = Activation {
            id: ActivationId::new(format!("undecodable:{partition}:{}", origin.offset)),
            route: Route::default().into(),
            terms: Terms { on_failure: OnFailure::DeadLetter, ..Terms::default() },
            received_at: now.wall,
            marked: false,
            payload,
        };
        if self.is_copy(&activation) {
            return self.settle_offset(origin, now);
        }
        let group = self.groups.of("", "");
        let handle = self.enter(origin, activation, group, now);
        self.give_up(handle, FailureCause::Undecodable(reason.into()), now);
    }

    /// A copy of something that is here, or that was ours and is buried. A retry of ours that waits for its removal counts
    /// as here; of others, a new one may use the id again as soon as the old one is settled.
    fn is_copy(&self, activation: &Activation) -> bool {
        let present = self.find(&activation.id).and_then(|handle| self.entry(handle));
        match present {
            Some(entry) if matches!(entry.state, State::Done(_)) => activation.marked,
            Some(_) => true,
            None => activation.marked && self.memory.is_buried(&activation.id),
        }
    }

    fn settle_early(&mut self, origin: Origin, activation: &Activation, group: u32, now: Now) {
        let counts = self.groups.counts(group);
        counts.admitted += 1;
        counts.completed += 1;
        self.memory.fulfil(&activation.id);
        self.finished(&activation.id);
        if activation.marked {
            self.bury(activation.id.clone(), origin.slot, now);
        }
        self.settle_offset(origin, now);
    }

    fn enter(&mut self, origin: Origin, activation: Activation, group: u32, now: Now) -> Handle {
        let Activation { id, route, terms, received_at, marked, payload } = activation;
        let ready_at = terms.delayed_until.map_or(now.wall, |at| at.max(now.wall));
        let evict = self.resident_bytes + payload.len() as u64 > self.policy.payload_memory_bytes;
        let entry = Entry {
            key: self.give_key(),
            id,
            route: self.intern(route),
            terms,
            received_at,
            added_at: now.wall,
            origin: Some(origin),
            group,
            payload_bytes: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            payload: Some(payload),
            lost_leases: 0,
            state: State::Pending { ready_at },
            commit: 0,
            flags: Flags { marked, evict, ..Flags::default() },
        };
        let outlives_window = ready_at > now.wall.saturating_add(self.policy.window);
        let handle = self.insert(entry);
        self.groups.counts(group).admitted += 1;
        self.journal.unwritten += 1;
        self.journal.window.push_back((now.steady.saturating_add(self.policy.window), handle));
        self.remind_of_expiry(handle);
        if terms.at_most_once {
            self.write_through(origin, now);
        } else if evict || outlives_window {
            self.mark_soon(handle, now);
        }
        handle
    }

    /// Puts a pending entry where it belongs: ready, or waiting for its time, for its Kafka position, or for the reports
    /// that may come after a crash.
    pub(super) fn place(&mut self, handle: Handle, now: Now) {
        let hold_until = self.hold_until;
        let Some(entry) = self.entries.get_mut(handle.index as usize).filter(|entry| entry.key == handle.key) else {
            return;
        };
        let State::Pending { ready_at } = entry.state else { return };
        let (group, origin) = (entry.group, entry.origin);
        let (at_most_once, written) = (entry.terms.at_most_once, entry.flags.row);
        if ready_at > now.wall {
            super::leave(&mut self.depths, entry);
            entry.flags.delayed = true;
            super::enter(&mut self.depths, entry);
            return self.remind(When::Wall(ready_at), handle);
        }
        match origin {
            Some(origin) if at_most_once && !(written && self.partitions.is_acknowledged(origin)) => {
                self.partitions.block(origin, handle);
            }
            Some(origin) if !written && self.partitions.may_have_been_handed_out(origin) && now.steady < hold_until => {
                entry.flags.held = true;
                self.remind(When::Steady(hold_until), handle);
            }
            Some(origin) if !written && self.partitions.is_beyond_read_limit(origin) => {
                self.partitions.block(origin, handle);
            }
            Some(_) | None => self.groups.push(group, handle),
        }
    }

    pub(super) fn give_up(&mut self, handle: Handle, cause: FailureCause, now: Now) {
        if self.apply(handle, Event::GiveUp(cause), now).is_ok() {
            self.mark_soon(handle, now);
        }
    }

    /// Counts the way an entry left.
    pub(super) fn count(&mut self, group: u32, outcome: Outcome) {
        let counts = self.groups.counts(group);
        match outcome {
            Outcome::Completed => counts.completed += 1,
            Outcome::Discarded => counts.discarded += 1,
            Outcome::DeadLettered => counts.dead_lettered += 1,
            Outcome::Expired => counts.expired += 1,
            Outcome::Retried => counts.retried += 1,
        }
    }
}
