//! What the ledger knows of one activation.

use std::sync::Arc;

use bytes::Bytes;

use super::compact::{CompactOrigin, CompactTerms};
use crate::{
    activation::{ActivationId, Key, Route, Terms},
    lifecycle::{Circumstances, Lease, Outcome, Publication, State},
    policy::Policy,
    ports::store::{FailureCause, Row, RowState},
    time::{Now, Steady, Timestamp},
};

/// Names an entry within this process: cheap to look up, and never mistaken for a later one in the same place.
///
/// Packed, since two queues have one for each entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(Rust, packed(4))]
pub struct Handle {
    /// Its key; first, so that handles sort by age.
    pub(super) key: Key,
    pub(super) index: u32,
}

impl Handle {
    /// Its key.
    pub fn key(self) -> Key {
        self.key
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) id: ActivationId,
    pub(super) route: Arc<Route>,
    pub(super) terms: CompactTerms,
    pub(super) received_at: Timestamp,
    pub(super) added_at: Timestamp,
    pub(super) origin: CompactOrigin,
    pub(super) group: u32,
    /// The topic it was read from, as a place in the counts.
    pub(super) topic: u16,
    pub(super) payload_bytes: u32,
    pub(super) payload: Option<Bytes>,
    pub(super) lost_leases: u32,
    pub(super) state: State,
    /// The number of the last commit that took it.
    pub(super) commit: u64,
    pub(super) flags: Flags,
}

/// What else is true of an entry.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, one bit each")]
pub(super) struct Flags {
    /// A retry or forwarded copy of ours.
    pub(super) marked: bool,
    /// It is on the list for the next commit.
    pub(super) dirty: bool,
    /// A commit that was taken (confirmed or under way) has its row.
    pub(super) row: bool,
    /// That commit is confirmed: its payload can be read back.
    pub(super) stored: bool,
    /// It waits for its time.
    pub(super) delayed: bool,
    /// Its payload is to be dropped from memory once it is stored.
    pub(super) evict: bool,
    /// Its retry may have been, or may be, published.
    pub(super) retries: bool,
    /// A worker of an earlier life may have it, and none of this life had it.
    pub(super) earlier: bool,
    /// Its namespace is demoted: it is forwarded as soon as it waits for a worker.
    pub(super) demoted: bool,
    /// It is held back for a while after an unclean stop.
    pub(super) held: bool,
    /// Its payload is being read back.
    pub(super) wanted: bool,
}

impl Entry {
    pub(super) fn circumstances(&self, policy: &Policy, now: Timestamp) -> Circumstances {
        Circumstances {
            at_most_once: self.terms.at_most_once(),
            on_failure: self.terms.on_failure(),
            lost_leases: self.lost_leases,
            max_lost_leases: policy.max_lost_leases,
            now,
        }
    }

    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.terms.expires_at().is_some_and(|at| at <= now)
    }

    /// Left to whoever reads its partition next when the partition is lost: nothing says that it was here. What a worker
    /// settled stays, since it may be answered.
    pub(super) fn can_be_withdrawn(&self) -> bool {
        !self.flags.row && !self.is_settled()
    }

    /// It lives on in another topic, or may: a copy of it is not one too many.
    pub(super) fn may_be_forwarded(&self) -> bool {
        match &self.state {
            State::Forward { publication } => *publication == Publication::Begun,
            State::Done(outcome) => *outcome == Outcome::Forwarded,
            State::Pending { .. } | State::Processing(_) | State::Retry { .. } | State::Failed { .. } => false,
        }
    }

    /// Whether the beginning of its publication is durable before anything is sent.
    pub(super) fn journals_beginning(&self) -> bool {
        self.terms.at_most_once() && matches!(self.state, State::Retry { .. } | State::Forward { .. })
    }

    pub(super) fn has_begun(&self) -> bool {
        match &self.state {
            State::Retry { publication, .. } | State::Forward { publication } | State::Failed { publication, .. } => {
                *publication == Publication::Begun
            }
            State::Pending { .. } | State::Processing(_) | State::Done(_) => false,
        }
    }

    fn is_settled(&self) -> bool {
        match &self.state {
            State::Pending { .. } | State::Processing(_) => false,
            State::Failed { cause, .. } => **cause == FailureCause::Reported,
            State::Forward { .. } => false,
            State::Retry { .. } | State::Done(_) => true,
        }
    }

    pub(super) fn row_state(&self) -> Option<RowState> {
        match &self.state {
            State::Pending { ready_at } => Some(RowState::Pending { ready_at: *ready_at }),
            State::Processing(lease) => Some(RowState::Processing { lease_ends_at: lease.ends_at }),
            State::Retry { wish, publication } => {
                Some(RowState::Retry { wish: **wish, publication: publication.clone() })
            }
            State::Forward { publication } => Some(RowState::Forward { publication: publication.clone() }),
            State::Failed { cause, publication } => {
                Some(RowState::Failed { cause: FailureCause::clone(cause), publication: publication.clone() })
            }
            State::Done(_) => None,
        }
    }

    pub(super) fn row(&self, state: RowState) -> Row {
        Row {
            key: self.key,
            id: self.id.clone(),
            route: self.route.clone(),
            terms: self.terms.into(),
            received_at: self.received_at,
            added_at: self.added_at,
            origin: self.origin.get(),
            marked: self.flags.marked,
            payload_bytes: self.payload_bytes,
            lost_leases: self.lost_leases,
            state,
        }
    }
}

/// The state of a row that was loaded. A lease goes on where it was, at most for a whole lease from now on (wall time may
/// have jumped meanwhile), and at least as long as workers may need to report what they finished meanwhile.
pub(super) fn resumed(state: RowState, terms: &Terms, policy: &Policy, now: Now) -> State {
    let (lease_max, quiet) = (terms.run_limit.saturating_add(policy.lease_grace), policy.quiet_after_start);
    let resumed = |publication| if terms.at_most_once { publication } else { begins_anew(publication) };
    match state {
        RowState::Pending { ready_at } => State::Pending { ready_at },
        RowState::Processing { lease_ends_at } => {
            let left = lease_ends_at.since(now.wall).min(lease_max).max(quiet);
            State::Processing(Lease { ends: now.steady.saturating_add(left), ends_at: lease_ends_at })
        }
        RowState::Retry { wish, publication } => State::Retry { wish: wish.into(), publication: resumed(publication) },
        RowState::Forward { publication } => State::Forward { publication: resumed(publication) },
        RowState::Failed { cause, publication } => {
            State::Failed { cause: cause.into(), publication: begins_anew(publication) }
        }
    }
}

/// What was begun in an earlier life is published again: a second dead letter does no harm, a second copy of a retry is
/// known by its id.
fn begins_anew(publication: Publication) -> Publication {
    match publication {
        Publication::Waiting | Publication::Begun => Publication::Waiting,
        Publication::Parked(reason) => Publication::Parked(reason),
    }
}

/// A lease from now on.
pub(super) fn lease(length: std::time::Duration, now: Now) -> Lease {
    Lease { ends: now.steady.saturating_add(length), ends_at: now.wall.saturating_add(length) }
}

/// A timer's moment: steady or wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Wall(Timestamp),
    Steady(Steady),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_takes_little_room() {
        assert!(size_of::<Entry>() <= 200, "{}", size_of::<Entry>());
    }
}
