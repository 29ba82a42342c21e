//! What comes in: records from the source, rows from the store at start.

use bytes::Bytes;

use super::{
    Ledger, entry,
    entry::{Entry, Flags, Handle, When},
};
use crate::{
    activation::{Activation, ActivationId, OnFailure, Origin, Route, Terms},
    lifecycle::{Event, Outcome, Publication, State},
    ports::{
        service::Verdict,
        store::{FailureCause, Row, StoredState},
    },
    positions::Reading,
    rules::Fate,
    time::Now,
};

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It is in the ledger.
    New,
    /// Its id is in flight, or it is a copy of a retry that was settled: dropped, its offset settled.
    Duplicate,
    /// A report on it came before it: it ends as that says.
    SettledEarly,
    /// Its time is over: settled.
    Expired,
    /// A rule drops it: settled.
    Dropped,
    /// Its namespace is demoted: it is in the ledger, on its way to another topic.
    Forwarding,
}

impl Ledger {
    /// Takes over what the store holds beside rows. Comes first, once.
    pub fn load(&mut self, state: StoredState, now: Now) {
        self.next_key = state.last_key.map_or(1, |key| key.0 + 1);
        self.load_positions(&state, now);
        self.unclean = !state.closed;
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
        let origin = row.origin.filter(|origin| self.partitions.knows(origin.slot));
        self.next_key = self.next_key.max(row.key.0 + 1);
        if let Some(origin) = origin {
            self.partitions.row_loaded(origin);
        }
        let topic = self.topic_of(origin);
        // What is to run at most once waits only if it was never handed out: its claim is durable first.
        let earlier = self.unclean && !row.terms.at_most_once;
        let handle = self.insert(Entry {
            key: row.key,
            id: row.id,
            route,
            terms: row.terms.into(),
            received_at: row.received_at,
            added_at: row.added_at,
            origin: origin.into(),
            group,
            topic,
            payload_bytes: row.payload_bytes,
            payload: None,
            lost_leases: row.lost_leases,
            state: entry::resumed(row.state, &row.terms, &self.policy, now),
            commit: 0,
            flags: Flags { marked: row.marked, row: true, stored: true, earlier, ..Flags::default() },
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
            State::Retry { publication: Publication::Begun, .. }
            | State::Forward { publication: Publication::Begun } => {
                self.give_up(handle, FailureCause::InDoubt, now);
            }
            State::Retry { publication: Publication::Parked(_), .. } => self.publishes(handle),
            State::Retry { .. } => {
                self.publishes(handle);
                self.outgoing.push_back(handle);
            }
            State::Forward { publication: Publication::Parked(_) }
            | State::Failed { publication: Publication::Parked(_), .. }
            | State::Done(_) => {}
            State::Forward { .. } | State::Failed { .. } => self.outgoing.push_back(handle),
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

    /// Takes in an activation that was read as new. What the rules say of it counts only where nothing else ends it.
    pub fn admit(&mut self, origin: Origin, activation: Activation, fate: Fate, now: Now) -> Admitted {
        let route = self.intern(activation.route);
        let group = self.groups.of(&route.application, &route.namespace);
        let activation = Activation { route, ..activation };
        if let Some(verdict) = self.memory.expected(&activation.id)
            && self.believes_early(origin, activation.marked)
        {
            self.settle_early(origin, activation, verdict, group, now);
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
        match fate {
            Fate::Keep => {
                let handle = self.enter(Some(origin), activation, group, now);
                self.place(handle, now);
                Admitted::New
            }
            Fate::Forward => {
                let handle = self.enter(Some(origin), activation, group, now);
                self.demote(handle, true);
                self.place(handle, now);
                Admitted::Forwarding
            }
            Fate::Drop => {
                let counts = self.groups.counts(group);
                counts.admitted += 1;
                counts.dropped += 1;
                self.settle_offset(origin, now);
                Admitted::Dropped
            }
        }
    }

    /// Takes in an activation that came from nowhere but here. It is durable once the store was written next; nobody waits.
    pub fn admit_own(&mut self, activation: Activation, now: Now) {
        let route = self.intern(activation.route);
        let group = self.groups.of(&route.application, &route.namespace);
        let handle = self.enter(None, Activation { route, ..activation }, group, now);
        self.mark_soon(handle, now);
        self.place(handle, now);
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
        let handle = self.enter(Some(origin), activation, group, now);
        self.give_up(handle, FailureCause::Undecodable(reason.into()), now);
    }

    /// A copy of something that is here, or that was ours and is buried. A retry of ours that waits for its removal counts
    /// as here; of others, a new one may use the id again as soon as the old one is settled. What was forwarded, or may have
    /// been, does not count: its copy may come home.
    fn is_copy(&self, activation: &Activation) -> bool {
        let present = self.find(&activation.id).and_then(|handle| self.entry(handle));
        match present {
            Some(entry) if entry.may_be_forwarded() => false,
            Some(entry) if matches!(entry.state, State::Done(_)) => activation.marked,
            Some(_) => true,
            None => activation.marked && self.memory.is_buried(&activation.id),
        }
    }

    /// The report is forgotten in the commit that has what it says.
    fn settle_early(&mut self, origin: Origin, activation: Activation, verdict: Verdict, group: u32, now: Now) {
        self.memory.fulfil(&activation.id);
        let handle = self.enter(Some(origin), activation, group, now);
        self.end_as(handle, Event::Remembered(verdict), now);
    }

    fn enter(&mut self, origin: Option<Origin>, activation: Activation, group: u32, now: Now) -> Handle {
        let Activation { id, route, terms, received_at, marked, payload } = activation;
        let ready_at = terms.delayed_until.map_or(now.wall, |at| at.max(now.wall));
        let was_read = origin.is_some_and(|origin| self.partitions.may_have_been_handed_out(origin));
        let earlier = was_read && !terms.at_most_once;
        let evict = self.resident_bytes + payload.len() as u64 > self.policy.payload_memory_bytes;
        let entry = Entry {
            key: self.give_key(),
            id,
            route,
            terms: terms.into(),
            received_at,
            added_at: now.wall,
            origin: origin.into(),
            group,
            topic: self.topic_of(origin),
            payload_bytes: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            payload: Some(payload),
            lost_leases: 0,
            state: State::Pending { ready_at },
            commit: 0,
            flags: Flags { marked, evict, earlier, ..Flags::default() },
        };
        let outlives_window = ready_at > now.wall.saturating_add(self.policy.window);
        let handle = self.insert(entry);
        self.groups.counts(group).admitted += 1;
        self.journal.unwritten += 1;
        self.journal.window.push_back((now.steady.saturating_add(self.policy.window), handle));
        self.remind_of_expiry(handle);
        if let Some(origin) = origin.filter(|_| terms.at_most_once) {
            self.write_through(origin, now);
        } else if evict || outlives_window {
            self.mark_soon(handle, now);
        }
        handle
    }

    fn topic_of(&mut self, origin: Option<Origin>) -> u16 {
        let name = origin.and_then(|origin| self.partition_name(origin.slot));
        name.map_or(0, |partition| self.depths.place(&partition.topic))
    }

    /// Puts a pending entry where it belongs: ready, or waiting for its time, for its Kafka position, or for the reports
    /// that may come after a crash.
    pub(super) fn place(&mut self, handle: Handle, now: Now) {
        let hold_until = self.hold_until;
        let Some(entry) = self.entries.get_mut(handle.index as usize).filter(|entry| entry.key == handle.key()) else {
            return;
        };
        let State::Pending { ready_at } = entry.state else { return };
        let (group, origin) = (entry.group, entry.origin.get());
        let (at_most_once, written, demoted) = (entry.terms.at_most_once(), entry.flags.row, entry.flags.demoted);
        if demoted && !at_most_once {
            self.end_as(handle, Event::Forward, now);
            return;
        }
        if ready_at > now.wall {
            self.depths.leave(entry);
            entry.flags.delayed = true;
            self.depths.enter(entry);
            return self.remind(When::Wall(ready_at), handle);
        }
        match origin {
            Some(origin) if at_most_once && !(written && self.partitions.is_acknowledged(origin)) => {
                self.partitions.block(origin, handle);
            }
            // What is never handed out twice is forwarded only when no other broker can read it any more.
            Some(_) | None if demoted => {
                self.end_as(handle, Event::Forward, now);
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
        self.end_as(handle, Event::GiveUp(cause), now);
    }

    /// Something ends an entry's waiting that nobody waits to hear of. Returns whether it did.
    pub(super) fn end_as(&mut self, handle: Handle, event: Event, now: Now) -> bool {
        let ended = self.apply(handle, event, now).is_ok();
        if ended {
            self.mark_soon(handle, now);
        }
        ended
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
            Outcome::Forwarded => counts.forwarded += 1,
            Outcome::Dropped => counts.dropped += 1,
        }
    }
}
