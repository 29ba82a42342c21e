//! The ledger: every activation in flight at this broker, and every decision about it.
//!
//! Single writer, no I/O: each input is a method with the present moment as an argument. What is to become durable is
//! collected and taken as a [`Commit`] by [`Ledger::take_commit`]; when the store has it, [`Ledger::confirm`] says so. A
//! [`Ticket`] names the commit that an answer has to wait for.
//!
//! | file | story |
//! |---|---|
//! | `admit` | what comes in, from the source or, at start, from the store |
//! | `claim` | what workers get, and payloads read back for them |
//! | `settle` | what workers report |
//! | `tick` | what time does: leases, delays, expiry |
//! | `outgoing` | what leaves through Kafka |
//! | `journal` | commits: taking them, and what their confirmation allows |
//! | `partitions` | what is known of each partition |
//! | `assignment` | how a partition comes: where it starts, and what that voids |
//! | `take_over` | positions that the existing system left |
//! | `reading` | what is read of it, and whether it is read up |
//! | `group_commits` | what the source is told, and what the group acknowledges |
//! | `departure` | how it goes: revoked or lost |
//! | `remember` | early reports and tombstones |
//! | `demand` | who asks for what waits |
//! | `sweep` | what new rules of the operator say of what is here |

mod admit;
mod assignment;
mod claim;
mod compact;
mod conservation;
mod demand;
mod departure;
mod depths;
mod entry;
mod group_commits;
mod journal;
mod outgoing;
mod partitions;
mod reading;
mod ready;
mod remember;
mod settle;
mod stats;
mod sweep;
mod take_over;
mod tick;
mod timers;
mod unfinished;

use std::{collections::HashMap, collections::VecDeque, hash::BuildHasher, sync::Arc, time::Duration};

use hashbrown::{DefaultHashBuilder, HashTable};
use slab::Slab;
use uuid::Uuid;

pub use self::{
    admit::Admitted,
    assignment::StartDecision,
    claim::Claimed,
    conservation::Counts,
    demand::Unserved,
    entry::Handle,
    group_commits::SourceAction,
    journal::{CommitWanted, Ticket},
    outgoing::{Outgoing, OutgoingKind},
    settle::Settling,
    stats::{NamespaceStats, PartitionStats, Stats},
    sweep::{Look, Swept},
};
use self::{
    depths::Standings, entry::Entry, journal::Journal, partitions::Partitions, ready::Groups, remember::Memory,
    timers::Timers,
};
#[cfg(doc)]
use crate::ports::store::Commit;
use crate::{
    activation::{ActivationId, Key, Route},
    admission::{self, Depths, Full},
    lifecycle::{self, Event, Refusal, State},
    policy::Policy,
    time::{Now, Steady},
};

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    policy: Policy,
    entries: Slab<Entry>,
    by_id: HashTable<u32>,
    hasher: DefaultHashBuilder,
    routes: HashMap<Arc<Route>, ()>,
    next_key: u64,
    groups: Groups,
    timers: Timers,
    depths: Standings,
    demand_reviewed: Option<Steady>,
    resident_bytes: u64,
    stored_bytes: u64,
    /// Payloads that claims wait for.
    wanted: VecDeque<Handle>,
    /// What is durably on its way out and not yet given to the outbox.
    outgoing: VecDeque<Handle>,
    journal: Journal,
    partitions: Partitions,
    memory: Memory,
    hold_until: Steady,
    /// The store was not closed in order: what it has as waiting may be with a worker.
    unclean: bool,
}

/// This many bytes of payload may always wait to be written, however small the memory for payloads is: a few of the largest
/// messages.
const PAYLOADS_UNWRITTEN_MIN: u64 = 16 * 1024 * 1024;

/// Beyond this many routes, those of nothing in flight are forgotten.
const IDLE_ROUTES_MAX: usize = 4096;

impl Ledger {
    /// An empty ledger over a store of this identity.
    pub fn new(policy: Policy, store: Uuid) -> Self {
        Self {
            partitions: Partitions::new(store),
            policy,
            entries: Slab::new(),
            by_id: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            routes: HashMap::new(),
            next_key: 1,
            groups: Groups::default(),
            timers: Timers::default(),
            depths: Standings::default(),
            demand_reviewed: None,
            resident_bytes: 0,
            stored_bytes: 0,
            wanted: VecDeque::new(),
            outgoing: VecDeque::new(),
            journal: Journal::default(),
            memory: Memory::default(),
            hold_until: Steady::default(),
            unclean: false,
        }
    }

    /// How many records may be read now, or which limit is reached.
    pub fn room(&self) -> Result<usize, Full> {
        self.room_within(admission::room(self.apart(self.depths.all()), self.policy.limits))
    }

    /// How many records of this topic may be read now. Where a limit is reached by others, it still has its own part.
    pub fn room_for(&self, topic: &str) -> Result<usize, Full> {
        let all = admission::room(self.apart(self.depths.all()), self.policy.limits);
        let own = || admission::room(self.apart(self.depths.of(topic)), self.policy.limits.part(self.policy.topics));
        self.room_within(all.or_else(|full| if self.policy.topics > 1 { own() } else { Err(full) }))
    }

    /// What counts against the limits: what nobody asks for has one of its own.
    fn apart(&self, depths: Depths) -> Depths {
        let apart = self.unserved_waiting().min(self.policy.limits.unserved);
        Depths { pending: depths.pending.saturating_sub(apart), ..depths }
    }

    fn room_within(&self, room: Result<usize, Full>) -> Result<usize, Full> {
        let room = room?;
        let budget = self.policy.payload_memory_bytes;
        if self.resident_bytes > budget.saturating_add((budget / 4).max(PAYLOADS_UNWRITTEN_MIN)) {
            return Err(Full::Memory);
        }
        match self.policy.unwritten_max.saturating_sub(self.journal.unwritten) {
            0 => Err(Full::Journal),
            unwritten => Ok(room.min(unwritten)),
        }
    }

    /// How long until time alone changes something: a timer or an end of a window.
    pub fn next_wake(&self, now: Now) -> Option<Duration> {
        let partitions = self.next_partition_wake(now);
        self.timers.next(now).into_iter().chain(partitions).chain(self.next_demand_review(now)).min()
    }

    fn entry(&self, handle: Handle) -> Option<&Entry> {
        self.entries.get(handle.index as usize).filter(|entry| entry.key == handle.key())
    }

    fn entry_mut(&mut self, handle: Handle) -> Option<&mut Entry> {
        self.entries.get_mut(handle.index as usize).filter(|entry| entry.key == handle.key())
    }

    fn find(&self, id: &ActivationId) -> Option<Handle> {
        let hash = self.hasher.hash_one(id);
        let index = *self.by_id.find(hash, |index| self.entries.get(*index as usize).is_some_and(|e| e.id == *id))?;
        self.entries.get(index as usize).map(|entry| Handle { key: entry.key, index })
    }

    /// Sends an event through the life cycle and carries out what its result means for queues, timers and counts.
    fn apply(&mut self, handle: Handle, event: Event, now: Now) -> Result<(), Refusal> {
        let Some(entry) = self.entries.get_mut(handle.index as usize).filter(|entry| entry.key == handle.key()) else {
            return Err(Refusal::IsDone);
        };
        let circumstances = entry.circumstances(&self.policy, now.wall);
        let step = lifecycle::step(&entry.state, event, circumstances)?;
        let (group, waited) = (entry.group, is_pending(entry));
        self.depths.leave(entry);
        entry.flags.delayed = false;
        entry.state = step.state;
        entry.lost_leases = step.lost_leases;
        self.depths.enter(entry);
        if waited && !matches!(entry.state, State::Processing(_)) {
            self.left_queue(group);
        }
        self.entered(handle, now);
        Ok(())
    }

    /// An entry that waited left otherwise than by a claim.
    fn left_queue(&mut self, group: u32) {
        let entries = &self.entries;
        let entry = |handle: Handle| entries.get(handle.index as usize).filter(|entry| entry.key == handle.key());
        self.groups.one_left(group, |handle| entry(handle).is_some_and(is_pending));
    }

    fn entered(&mut self, handle: Handle, now: Now) {
        let Some(entry) = self.entry(handle) else { return };
        match &entry.state {
            State::Pending { .. } => self.came_back(handle, now),
            State::Processing(lease) => {
                let ends = entry::When::Steady(lease.ends);
                self.remind(ends, handle);
            }
            State::Retry { .. } => self.publishes(handle),
            State::Forward { .. } | State::Failed { .. } | State::Done(_) => {}
        }
    }

    /// An entry that was handed out before waits again, ahead of those that were not; or its time is over meanwhile.
    fn came_back(&mut self, handle: Handle, now: Now) {
        let Some(entry) = self.entry(handle) else { return };
        let group = entry.group;
        if entry.is_expired(now.wall) {
            self.expire(handle, now);
        } else if entry.flags.demoted {
            self.end_as(handle, Event::Forward, now);
        } else {
            self.groups.push_back(group, handle);
        }
    }

    fn expire(&mut self, handle: Handle, now: Now) {
        if self.apply(handle, Event::Expire, now).is_ok() {
            self.mark_soon(handle, now);
        }
    }

    /// Takes an entry out of the ledger.
    fn remove(&mut self, handle: Handle) -> Option<Entry> {
        self.entry(handle)?;
        let entry = self.entries.remove(handle.index as usize);
        if !entry.flags.row {
            self.journal.unwritten = self.journal.unwritten.saturating_sub(1);
        }
        self.depths.leave(&entry);
        let hash = self.hasher.hash_one(&entry.id);
        if let Ok(found) = self.by_id.find_entry(hash, |index| *index == handle.index) {
            found.remove();
        }
        if let Some(payload) = &entry.payload {
            self.resident_bytes = self.resident_bytes.saturating_sub(payload.len() as u64);
        }
        self.stored_bytes = self.stored_bytes.saturating_sub(u64::from(entry.payload_bytes));
        let counts = self.groups.counts(entry.group);
        counts.in_flight = counts.in_flight.saturating_sub(1);
        let entries = &self.entries;
        self.groups.unfinished(entry.group, |unfinished| unfinished.left(|handle| is_at(entries, handle)));
        Some(entry)
    }

    fn insert(&mut self, entry: Entry) -> Handle {
        let hash = self.hasher.hash_one(&entry.id);
        let (key, group) = (entry.key, entry.group);
        self.resident_bytes += entry.payload.as_ref().map_or(0, |payload| payload.len() as u64);
        self.stored_bytes += u64::from(entry.payload_bytes);
        self.groups.counts(entry.group).in_flight += 1;
        self.depths.enter(&entry);
        let index = u32::try_from(self.entries.insert(entry)).unwrap_or(u32::MAX);
        self.index(hash, index);
        let handle = Handle { key, index };
        self.groups.unfinished(group, |unfinished| unfinished.came(handle));
        handle
    }

    /// Makes the id lead to this entry, in place of one that is on its way out.
    fn index(&mut self, hash: u64, index: u32) {
        let entries = &self.entries;
        let id = entries.get(index as usize).map(|entry| &entry.id);
        let same = |other: &u32| entries.get(*other as usize).map(|entry| &entry.id) == id;
        if let Ok(found) = self.by_id.find_entry(hash, same) {
            found.remove();
        }
        let hasher = &self.hasher;
        self.by_id.insert_unique(hash, index, |other| {
            entries.get(*other as usize).map_or(0, |entry| hasher.hash_one(&entry.id))
        });
    }

    /// The one copy of a route. One without an application gets the default one.
    fn intern(&mut self, route: Arc<Route>) -> Arc<Route> {
        let route = match &self.policy.default_application {
            Some(default) if route.application.is_empty() => {
                Arc::new(Route { application: default.clone(), ..Route::clone(&route) })
            }
            Some(_) | None => route,
        };
        if let Some((known, ())) = self.routes.get_key_value(&route) {
            return known.clone();
        }
        if self.routes.len() >= IDLE_ROUTES_MAX {
            self.routes.retain(|route, ()| Arc::strong_count(route) > 1);
        }
        self.routes.insert(route.clone(), ());
        route
    }

    fn give_key(&mut self) -> Key {
        let key = Key(self.next_key);
        self.next_key += 1;
        key
    }
}

/// Whether this entry is still here.
fn is_at(entries: &Slab<Entry>, handle: Handle) -> bool {
    entries.get(handle.index as usize).is_some_and(|entry| entry.key == handle.key())
}

fn is_pending(entry: &Entry) -> bool {
    matches!(entry.state, State::Pending { .. })
}
