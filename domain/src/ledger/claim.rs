//! What workers get.

use std::collections::{BTreeSet, HashMap};

use std::time::Duration;

use bytes::Bytes;

use super::{
    Ledger,
    entry::{self, Handle},
    is_pending,
    journal::Ticket,
};
use crate::{
    activation::Key,
    lifecycle::{Event, Lease, State},
    ports::{service::Wanted, store::FailureCause},
    time::Now,
};

/// A claimed task.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Which.
    pub handle: Handle,
    /// Its lease: with the handle it names this claim, and no later one of the same task.
    pub lease: Lease,
    /// Its payload; none: it is to be read back, and given by [`Ledger::payload`] once it was.
    pub payload: Option<Bytes>,
    /// How long ago it was produced.
    pub waited: Duration,
    /// What must be durable before it leaves.
    pub ticket: Option<Ticket>,
}

/// How many payloads are read back beside the one that a claim waits for.
const READ_AHEAD: usize = 255;
/// How many bytes they may have together.
const READ_AHEAD_BYTES: u64 = 8 * 1024 * 1024;

impl Ledger {
    /// Claims the oldest task that fits.
    pub fn claim(&mut self, wanted: &Wanted, now: Now) -> Option<Claimed> {
        self.claim_for(wanted, Duration::ZERO, now)
    }

    /// Claims the oldest task that fits, to be offered to a worker: its lease lasts as much longer as the offer may take, so
    /// that it is not offered again while it is still on its way. Its end is told by [`Ledger::accepted`],
    /// [`Ledger::put_back`] or [`Ledger::undeliverable`].
    pub fn claim_to_offer(&mut self, wanted: &Wanted, offer_limit: Duration, now: Now) -> Option<Claimed> {
        self.claim_for(wanted, offer_limit, now)
    }

    fn claim_for(&mut self, wanted: &Wanted, offer_limit: Duration, now: Now) -> Option<Claimed> {
        self.groups.asked(wanted, now.steady);
        loop {
            let handle = self.groups.pop(wanted)?;
            let Some(entry) = self.entry(handle) else { continue };
            if !is_pending(entry) || entry.flags.delayed {
                continue;
            }
            if entry.is_expired(now.wall) {
                self.expire(handle, now);
                continue;
            }
            if let Some(claimed) = self.hand_out(handle, offer_limit, now) {
                return Some(claimed);
            }
        }
    }

    fn hand_out(&mut self, handle: Handle, offer_limit: Duration, now: Now) -> Option<Claimed> {
        let entry = self.entry(handle)?;
        let length = entry.terms.run_limit().saturating_add(self.policy.lease_grace).saturating_add(offer_limit);
        let (at_most_once, row) = (entry.terms.at_most_once(), entry.flags.row);
        let lease = entry::lease(length, now);
        self.apply(handle, Event::Claim(lease), now).ok()?;
        if let Some(entry) = self.entry_mut(handle) {
            entry.flags.earlier = false;
        }
        let ticket = match (at_most_once, row) {
            (true, _) => Some(self.mark_now(handle, now)),
            (false, true) => {
                self.mark_soon(handle, now);
                None
            }
            (false, false) => None,
        };
        let entry = self.entry(handle)?;
        let (payload, waited) = (entry.payload.clone(), now.wall.since(entry.received_at));
        self.want(handle);
        self.release_payload(handle);
        Some(Claimed { handle, lease, payload, waited, ticket })
    }

    fn want(&mut self, handle: Handle) {
        if let Some(entry) = self.entry_mut(handle)
            && entry.payload.is_none()
            && !std::mem::replace(&mut entry.flags.wanted, true)
        {
            self.wanted.push_back(handle);
        }
    }

    /// Whether something that fits stands in a queue. It may have expired meanwhile: a claim says for certain.
    pub fn has_ready(&self, wanted: &Wanted) -> bool {
        self.groups.has(wanted)
    }

    /// Undoes a claim that certainly did not reach its worker.
    pub fn put_back(&mut self, handle: Handle, lease: Lease, now: Now) {
        let Some(entry) = self.claimed_entry(handle, lease) else { return };
        let row = entry.flags.row;
        if self.apply(handle, Event::PutBack, now).is_ok() && row {
            self.mark_soon(handle, now);
        }
    }

    /// The worker that a task was offered to has it, or may have it: its run limit counts from here on. Returns whether the
    /// claim still stood.
    pub fn accepted(&mut self, handle: Handle, lease: Lease, now: Now) -> bool {
        let Some(entry) = self.claimed_entry(handle, lease) else { return false };
        let length = entry.terms.run_limit().saturating_add(self.policy.lease_grace);
        let row = entry.flags.row;
        let accepted = self.apply(handle, Event::Accepted(entry::lease(length, now)), now).is_ok();
        if accepted && row {
            self.mark_soon(handle, now);
        }
        accepted
    }

    /// No worker can be given this task: it fails, with the reason, and goes to the dead-letter topic whatever it asked for.
    pub fn undeliverable(&mut self, handle: Handle, lease: Lease, reason: &str, now: Now) {
        if self.claimed_entry(handle, lease).is_some() {
            self.give_up(handle, FailureCause::Undeliverable(reason.into()), now);
        }
    }

    fn claimed_entry(&self, handle: Handle, lease: Lease) -> Option<&entry::Entry> {
        self.entry(handle).filter(|entry| entry.state == State::Processing(lease))
    }

    /// The payload of a claimed task, if it is in memory; it need not stay there.
    pub fn payload(&mut self, handle: Handle) -> Option<Bytes> {
        let payload = self.entry(handle)?.payload.clone();
        self.release_payload(handle);
        payload
    }

    /// Whether this claim still stands.
    pub fn is_claimed(&self, handle: Handle, lease: Lease) -> bool {
        self.claimed_entry(handle, lease).is_some()
    }

    /// The payloads to be read back now: those that claims wait for, and those next in line behind them, but for those that
    /// are being read back already. Each must be answered by [`Ledger::payloads_read`].
    pub fn take_wanted_payloads(&mut self) -> Vec<Handle> {
        let waiting: Vec<Handle> = self.wanted.drain(..).collect();
        let groups: BTreeSet<u32> =
            waiting.iter().filter_map(|handle| self.entry(*handle)).map(|entry| entry.group).collect();
        let mut ahead = READ_AHEAD_BYTES;
        for group in groups {
            let upcoming: Vec<Handle> = self.groups.upcoming(group, READ_AHEAD).collect();
            for handle in upcoming {
                let bytes = self.entry(handle).filter(|entry| entry.payload.is_none()).map_or(0, |e| e.payload_bytes);
                let Some(left) = ahead.checked_sub(u64::from(bytes)) else { break };
                ahead = left;
                self.want(handle);
            }
        }
        waiting.into_iter().chain(self.wanted.drain(..)).collect()
    }

    /// Payloads that were read back. What was asked for and is not among them cannot be read: it fails, with that reason,
    /// and is kept.
    pub fn payloads_read(&mut self, asked: &[Handle], read: Vec<(Key, Bytes)>, now: Now) {
        let mut read: HashMap<Key, Bytes> = read.into_iter().collect();
        for handle in asked {
            match read.remove(&handle.key()) {
                Some(payload) => self.payload_read(*handle, payload),
                None => self.payload_missing(*handle, now),
            }
        }
    }

    fn payload_read(&mut self, handle: Handle, payload: Bytes) {
        let Some(entry) = self.entry_mut(handle) else { return };
        entry.flags.wanted = false;
        entry.flags.evict = false;
        if entry.payload.is_none() {
            let bytes = payload.len() as u64;
            entry.payload = Some(payload);
            self.resident_bytes += bytes;
        }
    }

    fn payload_missing(&mut self, handle: Handle, now: Now) {
        let Some(entry) = self.entry_mut(handle) else { return };
        entry.flags.wanted = false;
        if entry.payload.is_none() {
            self.give_up(handle, FailureCause::Unreadable, now);
        }
    }
}
