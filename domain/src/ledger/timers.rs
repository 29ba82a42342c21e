//! What is to happen at some moment. A timer is a reminder, not a decision: when it goes off, the ledger looks at the entry.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use super::{
    Ledger,
    entry::{Entry, Handle, When},
};
use crate::{
    lifecycle::State,
    time::{Now, Steady, Timestamp},
};

/// Two heaps, one for each clock. Timers that lost their purpose stay until they are due, and are then ignored; when they
/// are many they are thrown out before.
#[derive(Debug, Default)]
pub(super) struct Timers {
    wall: BinaryHeap<Reverse<(Timestamp, Handle)>>,
    steady: BinaryHeap<Reverse<(Steady, Handle)>>,
}

/// An entry has three timers with a purpose at most: its expiry, its delay or lease, and its hold. More than this many for
/// each, and others, are too many.
const TIMERS_PER_ENTRY: usize = 4;
/// As many may lie around in any case.
const IDLE_TIMERS_MAX: usize = 8192;

impl Timers {
    fn set(&mut self, when: When, handle: Handle) {
        match when {
            When::Wall(at) => self.wall.push(Reverse((at, handle))),
            When::Steady(at) => self.steady.push(Reverse((at, handle))),
        }
    }

    fn len(&self) -> usize {
        self.wall.len() + self.steady.len()
    }

    fn retain(&mut self, has_purpose: impl Fn(When, Handle) -> bool) {
        self.wall.retain(|Reverse((at, handle))| has_purpose(When::Wall(*at), *handle));
        self.steady.retain(|Reverse((at, handle))| has_purpose(When::Steady(*at), *handle));
    }

    /// The next entry that is due.
    pub(super) fn pop_due(&mut self, now: Now) -> Option<Handle> {
        if self.steady.peek().is_some_and(|Reverse((at, _))| *at <= now.steady) {
            return self.steady.pop().map(|Reverse((_, handle))| handle);
        }
        if self.wall.peek().is_some_and(|Reverse((at, _))| *at <= now.wall) {
            return self.wall.pop().map(|Reverse((_, handle))| handle);
        }
        None
    }

    /// How long until the next one is due.
    pub(super) fn next(&self, now: Now) -> Option<Duration> {
        let steady = self.steady.peek().map(|Reverse((at, _))| at.since(now.steady));
        let wall = self.wall.peek().map(|Reverse((at, _))| at.since(now.wall));
        steady.into_iter().chain(wall).min()
    }
}

impl Ledger {
    /// Has the entry looked at then. Tasks that come and go leave timers behind (a lease of an hour, an expiry of a day):
    /// when those are the most, they go, so that what timers take depends on what is in flight.
    pub(super) fn remind(&mut self, when: When, handle: Handle) {
        self.timers.set(when, handle);
        if self.timers.len() > IDLE_TIMERS_MAX + TIMERS_PER_ENTRY * self.entries.len() {
            let entries = &self.entries;
            let entry = |handle: Handle| entries.get(handle.index as usize).filter(|entry| entry.key == handle.key());
            self.timers.retain(|when, handle| entry(handle).is_some_and(|entry| has_purpose(entry, when)));
        }
    }

    pub(super) fn remind_of_expiry(&mut self, handle: Handle) {
        if let Some(expires_at) = self.entry(handle).and_then(|entry| entry.terms.expires_at()) {
            self.remind(When::Wall(expires_at), handle);
        }
    }
}

fn has_purpose(entry: &Entry, when: When) -> bool {
    match (&entry.state, when) {
        (State::Pending { ready_at }, When::Wall(at)) => entry.terms.expires_at() == Some(at) || *ready_at == at,
        (State::Pending { .. }, When::Steady(_)) => entry.flags.held,
        (State::Processing(lease), When::Steady(at)) => lease.ends == at,
        (State::Processing(_), When::Wall(at)) => entry.terms.expires_at() == Some(at),
        (State::Retry { .. } | State::Forward { .. } | State::Failed { .. } | State::Done(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::{
        activation::{Activation, ActivationId, Key, Origin, PartitionId, Route, Slot, Terms, TopicId},
        policy::Policy,
        ports::{
            service::{Report, Verdict, Wanted},
            source::{Assigned, AssignmentId},
        },
        positions::Reading,
    };

    fn handle(key: u32) -> Handle {
        Handle { key: Key(u64::from(key)), index: key }
    }

    fn now(wall: i64, steady: u64) -> Now {
        Now { wall: Timestamp::from_millis(wall), steady: Steady::from_millis(steady) }
    }

    fn due(timers: &mut Timers, now: Now) -> Vec<u64> {
        std::iter::from_fn(|| timers.pop_due(now)).map(|handle| handle.key().0).collect()
    }

    #[test]
    fn timers_of_both_clocks_go_off_in_order_and_not_before_their_time() {
        let mut timers = Timers::default();
        timers.set(When::Steady(Steady::from_millis(30)), handle(1));
        timers.set(When::Wall(Timestamp::from_millis(1_020)), handle(2));
        timers.set(When::Steady(Steady::from_millis(10)), handle(3));
        assert_eq!(timers.next(now(1_000, 0)), Some(Duration::from_millis(10)));
        assert_eq!(due(&mut timers, now(1_019, 9)), Vec::<u64>::new());
        assert_eq!(due(&mut timers, now(1_019, 30)), [3, 1]);
        assert_eq!(timers.next(now(1_019, 30)), Some(Duration::from_millis(1)));
        assert_eq!(due(&mut timers, now(1_020, 30)), [2]);
        assert_eq!(timers.next(now(1_020, 30)), None);
    }

    #[test]
    fn a_timer_that_is_overdue_wants_to_be_looked_at_at_once() {
        let mut timers = Timers::default();
        timers.set(When::Wall(Timestamp::from_millis(5)), handle(1));
        assert_eq!(timers.next(now(1_000, 0)), Some(Duration::ZERO));
    }

    /// A ledger that reads one partition.
    fn ledger() -> (Ledger, Slot) {
        let partition =
            PartitionId { topic: "t".into(), topic_id: TopicId::default(), group: "g".into(), partition: 0 };
        let partition = Arc::new(partition);
        let mut ledger = Ledger::new(Policy::default(), Uuid::nil());
        let assignment = AssignmentId(1);
        let assigned = Assigned { partition: partition.clone(), assignment, committed: None, log_start: 0, log_end: 0 };
        ledger.assign(&assigned, now(0, 0)).unwrap();
        commit(&mut ledger);
        ledger.source_actions(now(0, 0));
        let slot = ledger.reading(&partition, assignment).unwrap();
        (ledger, slot)
    }

    fn commit(ledger: &mut Ledger) {
        if ledger.take_commit(now(0, 0)).is_some() {
            ledger.confirm(now(0, 0));
        }
    }

    fn admit(ledger: &mut Ledger, slot: Slot, offset: i64) -> ActivationId {
        let id = ActivationId::new(format!("m{offset}"));
        let terms = Terms {
            run_limit: Duration::from_secs(3_600),
            expires_at: Some(Timestamp::from_millis(86_400_000)),
            ..Terms::default()
        };
        let origin = Origin { slot, offset };
        assert_eq!(ledger.read(origin, None, now(0, 0)), Reading::New);
        let activation = Activation {
            id: id.clone(),
            route: Route::new("app", "ns", "task").into(),
            terms,
            received_at: Timestamp::default(),
            marked: false,
            payload: Bytes::new(),
        };
        ledger.admit(origin, activation, crate::rules::Fate::Keep, now(0, 0));
        id
    }

    #[test]
    fn timers_of_tasks_that_left_do_not_pile_up() {
        let (mut ledger, slot) = ledger();
        for offset in 0..20_000 {
            let id = admit(&mut ledger, slot, offset);
            ledger.claim(&Wanted::Any, now(0, 0)).unwrap();
            ledger.settle(&Report { id, verdict: Verdict::Complete }, now(0, 0)).unwrap();
            commit(&mut ledger);
        }
        assert!(ledger.timers.len() <= IDLE_TIMERS_MAX + TIMERS_PER_ENTRY, "{}", ledger.timers.len());
    }

    #[test]
    fn timers_with_a_purpose_are_never_thrown_out() {
        let (mut ledger, slot) = ledger();
        for offset in 0..1_000 {
            admit(&mut ledger, slot, offset);
            ledger.claim(&Wanted::Any, now(0, 0)).unwrap();
        }
        for offset in 1_000..20_000 {
            let id = admit(&mut ledger, slot, offset);
            ledger.claim(&Wanted::Any, now(0, 0)).unwrap();
            ledger.settle(&Report { id, verdict: Verdict::Complete }, now(0, 0)).unwrap();
            commit(&mut ledger);
        }
        let due = due(&mut ledger.timers, now(86_400_000, u64::MAX));
        assert!(due.len() < 2 * 20_000, "those of tasks that left were thrown out");
        let of_those_here = due.iter().filter(|key| **key <= 1_000).count();
        assert_eq!(of_those_here, 2_000, "a lease and an expiry for each");
    }
}
