//! Ids, times, limits.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;
use taskbroker_domain::{
    activation::ActivationId,
    admission::{Depths, Full, room},
    ledger::Counts,
    policy::{Limits, Policy},
    time::{Steady, Timestamp},
};

#[test]
fn a_retry_id_is_the_same_whenever_it_is_derived() {
    let id = ActivationId::new("0191b7c7a8f07d3c9e4bd6a5c1f2e3d4");
    assert_eq!(id.retry(1), id.retry(1));
    assert_eq!(&*id.retry(1).text(), "f4881a1b-344c-56de-ab57-6ae2a9039202", "it is fixed for ever: stores hold it");
}

proptest! {
    #[test]
    fn retry_ids_differ_by_parent_and_attempt(a in ".{0,40}", b in ".{0,40}", m in any::<u32>(), n in any::<u32>()) {
        let (first, second) = (ActivationId::new(a.clone()).retry(m), ActivationId::new(b.clone()).retry(n));
        // "x:1" with attempt 2 and "x" with attempt "1:2" do not meet: the attempt is a number.
        prop_assert_eq!(first == second, a == b && m == n);
        prop_assert_eq!(first.text().len(), 36);
    }

    #[test]
    fn any_text_is_an_id_with_a_bucket(text in ".{0,300}") {
        let id = ActivationId::new(text);
        prop_assert_eq!(id.bucket(), ActivationId::new(id.to_string()).bucket());
    }

    #[test]
    fn wall_time_saturates(ms in any::<i64>(), by in any::<u64>(), nanos in 0..1_000_000_000_u32) {
        let at = Timestamp::from_millis(ms);
        let later = at.saturating_add(Duration::new(by, nanos));
        prop_assert!(at <= later && later <= Timestamp::MAX && at.as_millis() >= 0);
        prop_assert_eq!(at.since(later), Duration::ZERO);
        prop_assert!(later.since(at) <= Duration::new(by, nanos));
    }

    #[test]
    fn steady_time_saturates(ms in any::<u64>(), by in any::<u64>()) {
        let at = Steady::from_millis(ms);
        let later = at.saturating_add(Duration::from_secs(by));
        prop_assert!(at <= later);
        prop_assert_eq!(at.since(later), Duration::ZERO);
    }

    #[test]
    fn there_is_room_exactly_when_no_limit_is_reached(
        pending in 0..6_usize, delayed in 0..6_usize, processing in 0..6_usize, retry in 0..4_usize, failed in 0..4_usize,
    ) {
        let depths = Depths { pending, delayed, processing, retry, forward: 0, failed, parked: 2, done: 100 };
        let limits = Limits { pending: 3, delayed: 3, processing: 3, outgoing: 3, parked: 3, unserved: 0 };
        let full = pending >= 3 || delayed >= 3 || processing >= 3 || retry + failed >= 3;
        match room(depths, limits) {
            Ok(left) => prop_assert!(!full && left == 3 - pending),
            Err(_) => prop_assert!(full),
        }
    }
}

#[test]
fn the_limit_that_is_reached_is_named() {
    let limits = Limits { pending: 1, delayed: 1, processing: 1, outgoing: 1, parked: 1, unserved: 0 };
    let none = Depths::default();
    assert_eq!(room(none, limits), Ok(1));
    assert_eq!(room(Depths { pending: 1, ..none }, limits), Err(Full::Pending));
    assert_eq!(room(Depths { delayed: 2, ..none }, limits), Err(Full::Delayed));
    assert_eq!(room(Depths { processing: 1, ..none }, limits), Err(Full::Processing));
    assert_eq!(room(Depths { retry: 1, ..none }, limits), Err(Full::Outgoing));
    assert_eq!(room(Depths { failed: 1, ..none }, limits), Err(Full::Outgoing));
    assert_eq!(room(Depths { parked: 1, ..none }, limits), Err(Full::Parked));
    let words: BTreeSet<_> =
        [Full::Pending, Full::Delayed, Full::Processing, Full::Outgoing].iter().map(|full| full.as_str()).collect();
    assert_eq!(words.len(), 4);
}

#[test]
fn the_bucket_is_the_last_byte_of_a_uuid_in_either_form() {
    assert_eq!(ActivationId::new("0191b7c7-a8f0-7d3c-9e4b-d6a5c1f2e3d4").bucket(), 0xd4);
    assert_eq!(ActivationId::new("0191b7c7a8f07d3c9e4bd6a5c1f2e3ff").bucket(), 0xff);
    assert_eq!(ActivationId::new("task-1").bucket(), 0);
    assert_eq!(ActivationId::new("").bucket(), 0);
}

#[test]
fn timestamps_are_cut_to_what_protobuf_can_say() {
    assert_eq!(Timestamp::from_millis(-1).as_millis(), 0);
    assert_eq!(Timestamp::from_millis(i64::MAX), Timestamp::MAX);
    assert_eq!(Timestamp::MAX.saturating_add(Duration::MAX), Timestamp::MAX);
}

#[test]
fn the_defaults_are_those_of_the_existing_system() {
    let policy = Policy::default();
    assert_eq!(policy.limits.pending, 2048);
    assert_eq!(policy.max_lost_leases, 5);
    assert_eq!(policy.lease_grace, Duration::from_secs(3));
    assert!(policy.tombstones_keep >= Duration::from_secs(300), "the producer's delivery time-out");
}

#[test]
fn an_imbalance_shows_in_either_direction() {
    let balanced = Counts { loaded: 2, admitted: 5, completed: 3, withdrawn: 1, in_flight: 3, ..Counts::default() };
    assert_eq!(balanced.imbalance(), 0);
    assert_eq!(Counts { in_flight: 2, ..balanced }.imbalance(), 1);
    assert_eq!(Counts { in_flight: 4, ..balanced }.imbalance(), -1);
    let mut sum = balanced;
    sum.add(&Counts { admitted: 1, expired: 1, ..Counts::default() });
    assert_eq!((sum.admitted, sum.expired, sum.imbalance()), (6, 1, 0));
}
