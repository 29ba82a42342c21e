//! Rule 1, durable before acknowledged: what a position moved past is a row or settled, and nothing is written without
//! need.

use taskbroker_domain::{
    admission::Full,
    policy::{Limits, Policy},
    ports::service::{Reported, Verdict},
};

use crate::{
    RETRY, SECOND, past_window,
    world::{A, B, TASKS, World, id, kafka::message, policy},
};

#[test]
fn c1_what_a_commit_under_way_contains_stays_when_the_partition_is_lost() {
    let mut world = World::reading([message("m")]);
    world.advance(past_window());
    assert!(world.take(A));
    assert_eq!(world.lose(A, TASKS), 0, "the commit under way has the row of m");
    world.land(A);
    world.confirm(A);
    assert!(world.brokers[A].journal.has_row("m"));
    world.start(A, TASKS);
    world.read(A);
    assert_eq!(world.claim(A), Some(id("m")), "it is served from its row");
    assert_eq!(world.claim(A), None, "once");
}

#[test]
fn c1_also_when_it_is_written_before_its_window_ends() {
    let mut world = World::reading_with(Policy { payload_memory_bytes: 0, ..policy() }, [message("m")]);
    assert!(world.take(A));
    assert_eq!(world.lose(A, TASKS), 0);
    world.land(A);
    world.confirm(A);
    assert_eq!(world.claim(A), Some(id("m")));
}

#[test]
fn c1_what_no_commit_contains_is_withdrawn_and_read_by_the_next_owner() {
    let mut world = World::reading([message("m")]);
    assert_eq!(world.lose(A, TASKS), 1);
    assert_eq!(world.claim(A), None);
    world.start(B, TASKS);
    world.read(B);
    assert_eq!(world.claim(B), Some(id("m")));
}

#[test]
fn what_is_settled_is_never_withdrawn() {
    let mut world = World::reading([message("done"), message("again"), message("failed"), message("running")]);
    for _ in 0..4 {
        world.claim(A).unwrap();
    }
    world.complete(A, "done");
    world.report(A, &id("again"), RETRY).unwrap();
    world.report(A, &id("failed"), Verdict::Failure).unwrap();
    assert_eq!(world.lose(A, TASKS), 1, "only the one that runs");
    world.commit(A);
    world.start(A, TASKS);
    world.read(A);
    assert_eq!(world.claim(A), Some(id("running")), "what was reported does not come again");
    assert_eq!(world.claim(A), None);
    assert_eq!(world.publish(A), 2);
}

#[test]
fn an_orderly_stop_leaves_nothing_to_catch_up_with() {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    world.restart(A);
    assert!(world.brokers[A].journal.closed);
    assert!(world.brokers[A].journal.has_row("m"));
    assert!(!world.ledger(A).is_catching_up());
    assert_eq!(world.complete(A, "m").reported, Reported::Settled, "its lease goes on");
}

#[test]
fn c9_what_the_log_skips_counts_as_settled() {
    let mut world = World::with(policy());
    world.kafka.produce(TASKS, message("m0"));
    world.kafka.produce_marker(TASKS);
    world.kafka.produce(TASKS, message("m1"));
    world.start(A, TASKS);
    world.read(A);
    for name in ["m0", "m1"] {
        assert_eq!(world.claim(A), Some(id(name)));
        world.complete(A, name);
    }
    world.settle_down(A);
    assert_eq!(world.kafka.committed(TASKS), Some(3));
}

#[test]
fn the_marker_at_the_end_of_a_partition_brings_its_lag_to_zero() {
    let mut world = World::with(policy());
    world.kafka.produce(TASKS, message("m"));
    world.kafka.produce_marker(TASKS);
    world.start(A, TASKS);
    world.read(A);
    world.claim(A).unwrap();
    world.complete(A, "m");
    world.settle_down(A);
    assert_eq!(world.brokers[A].ledger.stats().partitions[0].lag, 0);
    assert_eq!(world.kafka.committed(TASKS), Some(2));
}

#[test]
fn room_is_reserved_at_admission_so_that_rows_and_watermark_cannot_lock_each_other() {
    let limits = Limits { pending: 2, ..Limits::default() };
    let mut world = World::reading_with(Policy { limits, ..policy() }, [message("m0"), message("m1").at_most_once()]);
    assert_eq!(world.ledger(A).room(), Err(Full::Pending), "what has no row yet counts");
    world.settle_down(A);
    assert_eq!(world.brokers[A].journal.rows.len(), 2, "what lies below the at-most-once task is written with it");
    assert_eq!(world.claim(A), Some(id("m0")));
    assert_eq!(world.claim(A), Some(id("m1")));
}

#[test]
fn a_payload_is_evicted_only_when_its_insert_is_confirmed() {
    let mut world = World::reading_with(Policy { payload_memory_bytes: 0, ..policy() }, [message("m")]);
    assert_eq!(world.brokers[A].ledger.stats().resident_bytes, 1);
    world.take(A);
    assert_eq!(world.brokers[A].ledger.stats().resident_bytes, 1);
    world.land(A);
    world.confirm(A);
    assert_eq!(world.brokers[A].ledger.stats().resident_bytes, 0);
    assert_eq!(world.claim(A), Some(id("m")), "it is read back");
}

#[test]
fn a_payload_that_cannot_be_read_back_is_kept_with_its_reason_and_stops_nothing() {
    let messages = [message("m0"), message("m1")];
    let mut world = World::reading_with(Policy { payload_memory_bytes: 0, ..policy() }, messages);
    world.commit(A);
    let key = *world.brokers[A].journal.rows.keys().next().unwrap();
    world.brokers[A].journal.rows.get_mut(&key).unwrap().payload = bytes::Bytes::new();
    let now = world.now;
    let claimed = world.ledger(A).claim(&taskbroker_domain::ports::service::Wanted::Any, now).unwrap();
    let asked = world.ledger(A).take_wanted_payloads();
    assert_eq!(asked.len(), 2, "the next in line is read ahead");
    assert!(world.ledger(A).take_wanted_payloads().is_empty(), "and not asked for again meanwhile");
    let read = vec![(asked[1].key(), bytes::Bytes::from_static(b"m1"))];
    world.ledger(A).payloads_read(&asked, read, now);
    assert!(!world.ledger(A).is_claimed(claimed.handle, claimed.lease));
    assert_eq!(world.ledger(A).depths().parked, 1);
    assert_eq!(world.claim(A), Some(id("m1")));
}

#[test]
fn nothing_is_handed_out_above_the_read_limit_that_the_journal_has() {
    let messages = (0..40).map(|number| message(&format!("m{number}")));
    let mut world = World::reading(messages);
    let limit = world.brokers[A].journal.position(TASKS).unwrap().read_limit;
    assert_eq!(limit, 16);
    assert_eq!(std::iter::from_fn(|| world.claim(A)).count(), 16);
    world.commit(A);
    assert_eq!(std::iter::from_fn(|| world.claim(A)).count(), 24);
}

#[test]
fn rows_above_the_watermark_are_skipped_by_offset_when_they_are_read_again() {
    let mut world = World::reading([message("m0"), message("m1").at_most_once(), message("m2")]);
    world.claim(A).unwrap();
    world.commit(A);
    world.kafka.produce(TASKS, message("m3"));
    world.read(A);
    world.crash(A);
    world.start(A, TASKS);
    world.read(A);
    assert_eq!(world.brokers[A].ledger.stats().in_flight, 4);
    world.advance(past_window());
    world.settle_down(A);
    assert_eq!(world.brokers[A].journal.rows.len(), 4);
}

/// A is about to read m0 again, which had no row; m1 above it has one.
fn with_a_row_above_the_watermark() -> World {
    let patient = Policy { window: 3600 * SECOND, ..policy() };
    let mut world = World::reading_with(patient, [message("m0"), message("m1")]);
    world.claim(A).unwrap();
    world.claim(A).unwrap();
    world.report(A, &id("m1"), RETRY).unwrap();
    world.settle_down(A);
    assert_eq!(world.brokers[A].journal.rows.len(), 1);
    assert_eq!(world.brokers[A].journal.position(TASKS).unwrap().watermark, 0);
    world
}

#[test]
fn a_row_above_the_watermark_is_known_by_its_offset_even_when_it_is_done() {
    let mut world = with_a_row_above_the_watermark();
    world.crash(A);
    world.start(A, TASKS);
    assert_eq!(world.complete(A, "m1").reported, Reported::Settled);
    world.read(A);
    assert_eq!(world.claim(A), Some(id("m0")));
    assert_eq!(world.claim(A), None, "what stands at its offset is the row, whatever its id says");
}

#[test]
fn a_row_that_left_above_the_watermark_is_settled_in_the_journal() {
    let mut world = with_a_row_above_the_watermark();
    world.publish(A);
    world.settle_down(A);
    assert_eq!(world.brokers[A].journal.position(TASKS).unwrap().settled, [0b10]);
    world.crash(A);
    world.start(A, TASKS);
    world.read(A);
    assert_eq!(world.claim(A), Some(id("m0")));
    assert_eq!(world.claim(A), None, "m1 left as a retry");
}

#[test]
fn a_task_without_a_row_comes_and_goes_with_one_bit_of_journal() {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    world.complete(A, "m");
    world.take(A);
    let commit = &world.commits.last().unwrap().1;
    assert_eq!((commit.rows(), commit.positions[0].watermark), (0, 1));
}

#[test]
fn a_restart_resumes_state_attempts_lease_and_delay() {
    let mut world = World::with(policy());
    let at = world.now.wall.saturating_add(60 * SECOND);
    for message in [message("runs"), message("lost"), message("waits").until(at)] {
        world.kafka.produce(TASKS, message);
    }
    world.start(A, TASKS);
    world.read(A);
    world.claim(A).unwrap();
    world.claim(A).unwrap();
    world.advance(14 * SECOND);
    assert_eq!(world.claim(A), Some(id("runs")), "its lease of 10 s and 3 s of grace was lost; it goes first, by age");
    world.settle_down(A);
    world.advance(5 * SECOND);
    world.restart(A);
    let depths = world.ledger(A).depths();
    assert_eq!((depths.pending, depths.processing, depths.delayed), (1, 1, 1));
    assert_eq!(world.claim(A), Some(id("lost")));
    assert_eq!(world.claim(A), None);
    world.advance(9 * SECOND);
    assert_eq!(world.claim(A), Some(id("runs")), "its lease went on where it was");
    world.settle_down(A);
    let lost = |row: &taskbroker_domain::ports::store::NewRow| (row.row.id.clone(), row.row.lost_leases);
    let lost: Vec<_> = world.brokers[A].journal.rows.values().map(lost).collect();
    assert_eq!(lost, [(id("runs"), 2), (id("lost"), 1), (id("waits"), 0)]);
    world.advance(60 * SECOND);
    let claimed: Vec<_> = std::iter::from_fn(|| world.claim(A)).collect();
    assert!(claimed.contains(&id("waits")));
}
