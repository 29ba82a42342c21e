//! The ways in which a broker like this loses or repeats, each as the shortest history that does it, on the real ledger.
//!
//! The numbers (C1 ... C14) are those of the protocol's cases. What concerns forwarding (C7, C7b, a part of C8) is in
//! `forwarding.rs`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use std::time::Duration;

use taskbroker_domain::{
    activation::{OnFailure, RetryWish},
    admission::Full,
    policy::{Limits, Policy},
    ports::{
        service::{Reported, Verdict},
        store::{FailureCause, RowState},
    },
    positions::{Because, NoStart},
};
use world::{A, B, RETRIES, TASKS, World, id, kafka::message, policy};

const SECOND: Duration = Duration::from_secs(1);
const RETRY: Verdict = Verdict::Retry(RetryWish { max_attempts: None, delay_s: None });

fn past_window() -> Duration {
    policy().window + Duration::from_millis(1)
}

// --- C1 ---

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

// --- C2 ---

#[test]
fn c2_a_refusal_is_answered_when_what_refuses_is_durable() {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    let retried = world.report(A, &id("m"), RETRY).unwrap();
    world.commit(A);
    assert!(world.ledger(A).confirmed() >= retried.ticket.unwrap().0);
    let now = world.now;
    world.brokers[A].take_outgoing(now);
    let refused = world.complete(A, "m");
    assert_eq!(
        (refused.reported, refused.ticket),
        (Reported::Refused, None),
        "the row says Retry: nothing to wait for"
    );
}

#[test]
fn c2_a_refusal_by_a_state_that_is_not_durable_waits_for_it() {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    world.report(A, &id("m"), RETRY).unwrap();
    let repeated = world.report(A, &id("m"), RETRY).unwrap();
    assert_eq!(repeated.reported, Reported::Refused);
    let ticket = repeated.ticket.unwrap();
    assert!(world.ledger(A).confirmed() < ticket.0);
    world.take(A);
    let under_way = world.report(A, &id("m"), RETRY).unwrap();
    assert_eq!(under_way.ticket, Some(ticket), "the commit under way has it");
    world.land(A);
    world.confirm(A);
    assert!(world.ledger(A).confirmed() >= ticket.0);
    world.crash(A);
    assert!(matches!(world.brokers[A].journal.rows.values().next().unwrap().row.state, RowState::Retry { .. }));
    world.start(A, TASKS);
    world.read(A);
    assert_eq!(world.claim(A), None, "it is on its way to the retry topic");
}

// --- C3, C4 ---

#[test]
fn c3_a_completion_reported_before_its_task_is_read_again_is_remembered_however_long_that_takes() {
    let mut world = World::reading([message("m")]);
    assert_eq!(world.claim(A), Some(id("m")));
    world.crash(A);
    let early = world.complete(A, "m");
    assert_eq!(early.reported, Reported::Remembered);
    assert!(early.ticket.is_some(), "it is journalled before it is answered");
    world.commit(A);
    world.start(A, TASKS);
    world.advance_slowly(500 * SECOND);
    world.crash(A);
    world.start(A, TASKS);
    world.read(A);
    assert_eq!(world.claim(A), None, "answered as complete: it does not come again");
    world.advance(past_window());
    world.settle_down(A);
    assert!(world.brokers[A].journal.early.is_empty(), "the report left with its task");
    assert_eq!(world.brokers[A].journal.position(TASKS).unwrap().watermark, 1);
}

#[test]
fn c3_the_report_and_the_settlement_change_in_one_commit() {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    world.crash(A);
    world.complete(A, "m");
    world.commit(A);
    world.start(A, TASKS);
    world.read(A);
    world.take(A);
    let commit = &world.commits.last().unwrap().1;
    assert_eq!(commit.forget, [id("m")]);
    assert_eq!(commit.positions[0].watermark, 1);
    world.crash(A);
    world.start(A, TASKS);
    world.read(A);
    assert_eq!(world.claim(A), None, "the commit did not land: the report is still there");
}

#[test]
fn c4_a_repeated_completion_of_a_finished_id_does_not_settle_a_later_task() {
    let mut world = World::reading([message("x"), message("y")]);
    world.claim(A).unwrap();
    world.crash(A);
    world.kafka.produce(TASKS, message("x"));
    world.start(A, TASKS);
    world.read_one(A);
    assert!(world.ledger(A).is_catching_up());
    assert_eq!(world.claim(A), Some(id("x")));
    world.complete(A, "x");
    world.commit(A);
    let repeated = world.complete(A, "x");
    assert_eq!(repeated.reported, Reported::Unknown, "it is finished: there is nothing to remember");
    world.answered[A].clear();
    world.read(A);
    assert_eq!(world.claim(A), Some(id("y")));
    assert_eq!(world.claim(A), Some(id("x")), "the later task of that id runs");
}

#[test]
fn c4_nothing_is_remembered_once_all_is_read_up() {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    world.crash(A);
    world.complete(A, "not in the log");
    world.start(A, TASKS);
    assert!(world.ledger(A).is_catching_up());
    world.read(A);
    world.advance(SECOND);
    assert!(!world.ledger(A).is_catching_up(), "the log's end as it was, not the reserved read limit, ends it");
    assert_eq!(world.complete(A, "unknown").reported, Reported::Unknown);
    world.settle_down(A);
    assert!(world.brokers[A].journal.early.is_empty());
    world.kafka.produce(TASKS, message("not in the log"));
    world.answered[A].clear();
    world.read(A);
    assert_eq!(world.claim(A), Some(id("m")));
    assert_eq!(world.claim(A), Some(id("not in the log")), "only what comes from below that end is settled early");
}

#[test]
fn c4_only_what_comes_from_below_that_end_is_settled_early() {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    world.crash(A);
    assert_eq!(world.complete(A, "later").reported, Reported::Remembered);
    world.start(A, TASKS);
    world.kafka.produce(TASKS, message("later"));
    world.read(A);
    assert_eq!(world.claim(A), Some(id("m")));
    assert_eq!(world.claim(A), Some(id("later")), "it was not there when the broker went down");
}

#[test]
fn c4_but_a_retry_of_ours_is_settled_early_from_anywhere() {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    world.crash(A);
    world.complete(A, "retry");
    world.start(A, TASKS);
    world.kafka.produce(TASKS, message("retry").marked());
    world.read(A);
    assert_eq!(world.claim(A), Some(id("m")));
    assert_eq!(world.claim(A), None);
}

#[test]
fn an_assignment_that_follows_another_ends_it_though_nobody_said_so() {
    let mut world = World::reading([message("m")]);
    world.assign(A, TASKS);
    assert_eq!(world.brokers[A].ledger.stats().totals.withdrawn, 1);
    world.settle_down(A);
    world.read(A);
    assert_eq!(world.claim(A), Some(id("m")));
    assert_eq!(world.claim(A), None);
}

#[test]
fn an_orderly_stop_keeps_what_is_remembered() {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    world.crash(A);
    world.complete(A, "m");
    world.commit(A);
    world.restart(A);
    world.start(A, TASKS);
    world.read(A);
    assert_eq!(world.claim(A), None);
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

// --- C5 ---

#[test]
fn an_at_most_once_task_leaves_only_when_its_position_is_acknowledged_and_its_claim_is_durable() {
    let mut world = World::reading([message("m").at_most_once()]);
    assert_eq!(world.claim(A), None, "it is no row");
    world.commit(A);
    assert_eq!(world.claim(A), None, "its position is not acknowledged");
    assert_eq!(world.brokers[A].outstanding[0].offset, 1, "which is asked for at once");
    world.acknowledge(A);
    assert_eq!(world.claim(A), Some(id("m")));
    assert!(world.handed_out.is_empty(), "its claim is not durable");
    world.commit(A);
    assert_eq!(world.handed_out, [(A, id("m"))]);
    world.crash(A);
    world.advance(20 * SECOND);
    world.commit(A);
    assert_eq!(world.publish(A), 1, "its worker was lost with the lease: it fails");
    assert_eq!(world.claim(A), None);
}

#[test]
fn c5_an_at_most_once_task_that_another_store_may_have_handed_out_fails() {
    let mut world = World::reading([message("m").at_most_once()]);
    world.commit(A);
    world.lose(A, TASKS);
    world.start(B, TASKS);
    world.read(B);
    world.settle_down(B);
    assert_eq!(world.claim(B), Some(id("m")));
    world.commit(B);
    world.lose(B, TASKS);
    world.start(A, TASKS);
    assert_eq!(world.kafka.committed(TASKS), Some(1));
    world.read(A);
    world.settle_down(A);
    assert_eq!(world.claim(A), None);
    assert_eq!(world.publish(A), 1, "it fails in doubt");
    assert_eq!(world.times_handed_out(&id("m")), 1);
}

#[test]
fn c5_a_late_commit_for_another_reason_does_not_clear_it() {
    let mut world = World::reading([message("m").at_most_once()]);
    world.commit(A);
    world.lose(A, TASKS);
    world.start(B, TASKS);
    world.read(B);
    world.settle_down(B);
    world.claim(B).unwrap();
    world.commit(B);
    world.lose(B, TASKS);
    world.kafka.produce(TASKS, message("n"));
    world.assign(A, TASKS);
    world.settle_down(A);
    world.read(A);
    world.advance(past_window());
    world.settle_down(A);
    assert_eq!(world.kafka.committed(TASKS), Some(2), "A's own commit is acknowledged above m");
    assert_eq!(world.claim(A), Some(id("n")));
    assert_eq!(world.claim(A), None);
}

#[test]
fn c5_an_acknowledgement_counts_only_in_the_assignment_it_was_made_in() {
    let mut world = World::reading([message("m").at_most_once()]);
    world.commit(A);
    let late = world.brokers[A].outstanding[0].clone();
    world.lose(A, TASKS);
    let now = world.now;
    world.ledger(A).committed(&late.partition, late.assignment, late.offset, now);
    assert_eq!(world.claim(A), None);
    world.assign(A, TASKS);
    world.ledger(A).committed(&late.partition, late.assignment, late.offset, now);
    world.commit(A);
    assert_eq!(world.claim(A), None);
    world.acknowledge(A);
    world.settle_down(A);
    assert_eq!(world.claim(A), Some(id("m")), "nobody was above it: this assignment's own commit clears it");
}

#[test]
fn c5_an_acknowledgement_that_is_journalled_survives_a_crash() {
    let mut world = World::reading([message("m").at_most_once()]);
    world.settle_down(A);
    world.crash(A);
    assert_eq!(world.claim(A), Some(id("m")));
}

#[test]
fn c5c_an_at_most_once_task_whose_acknowledgement_was_lost_fails_when_its_partition_does_not_come_back() {
    let mut world = World::reading([message("m").at_most_once()]);
    world.commit(A);
    world.land_group_commits(A);
    world.crash(A);
    world.start(B, TASKS);
    world.read(B);
    assert_eq!(world.claim(B), None, "B starts above it");
    world.advance_slowly(policy().absent_partition_limit - SECOND);
    assert_eq!(world.ledger(A).depths().pending, 1);
    world.advance_slowly(2 * SECOND);
    world.commit(A);
    assert_eq!(world.publish(A), 1);
    assert_eq!(world.dead_letters, [id("m")]);
}

#[test]
fn c5c_and_when_it_comes_back_with_a_position_of_another_store_above_it() {
    let mut world = World::reading([message("m").at_most_once()]);
    world.commit(A);
    world.land_group_commits(A);
    world.crash(A);
    world.kafka.produce(TASKS, message("n"));
    world.start(B, TASKS);
    world.read(B);
    world.claim(B).unwrap();
    world.complete(B, "n");
    world.settle_down(B);
    world.lose(B, TASKS);
    assert_eq!(world.kafka.committed(TASKS), Some(2));
    world.start(A, TASKS);
    world.commit(A);
    assert_eq!(world.publish(A), 1);
    assert_eq!(world.claim(A), None);
}

#[test]
fn c5c_but_a_position_above_it_that_is_its_own_clears_it() {
    let mut world = World::reading([message("m").at_most_once()]);
    world.commit(A);
    world.land_group_commits(A);
    world.crash(A);
    world.start(A, TASKS);
    world.settle_down(A);
    assert_eq!(world.claim(A), Some(id("m")), "nobody else was above it");
    world.commit(A);
    world.lose(A, TASKS);
    world.start(B, TASKS);
    world.read(B);
    world.settle_down(B);
    assert_eq!(world.claim(B), None, "B starts above it");
    assert_eq!(world.times_handed_out(&id("m")), 1);
}

#[test]
fn an_at_most_once_task_read_just_before_an_orderly_revocation_is_handed_out_by_its_last_commit() {
    let mut world = World::reading([message("m").at_most_once()]);
    world.revoke(A, TASKS);
    world.start(B, TASKS);
    world.read(B);
    world.settle_down(B);
    assert_eq!(world.claim(B), None, "B starts above it");
    assert_eq!(world.claim(A), Some(id("m")));
    world.commit(A);
    assert_eq!(world.times_handed_out(&id("m")), 1);
}

#[test]
fn a_delayed_at_most_once_task_is_not_forgotten_when_its_position_is_acknowledged_before_its_time() {
    let mut world = World::with(policy());
    let at = world.now.wall.saturating_add(60 * SECOND);
    world.kafka.produce(TASKS, message("m").at_most_once().until(at));
    world.start(A, TASKS);
    world.read(A);
    world.settle_down(A);
    world.advance(61 * SECOND);
    assert_eq!(world.claim(A), Some(id("m")), "no further commit to the group will come");
}

// --- C6 ---

/// A world in which the retry of m was published twice (the first acknowledgement was lost), and A reads the retries.
fn with_two_copies() -> (World, taskbroker_domain::activation::ActivationId) {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    world.report(A, &id("m"), RETRY).unwrap();
    world.commit(A);
    let now = world.now;
    let outgoing = world.brokers[A].take_outgoing(now).remove(0);
    world::broker::deliver(&mut world, &outgoing);
    assert!(world.ledger(A).publish_failed(outgoing.handle, true, now), "its outcome is unknown: it is sent again");
    world::broker::deliver(&mut world, &outgoing);
    world.ledger(A).published(outgoing.handle, now);
    world.commit(A);
    world.assign(A, RETRIES);
    world.settle_down(A);
    let retry = id("m").retry(1);
    assert_eq!(world.kafka.log(RETRIES).records.len(), 2);
    (world, retry)
}

#[test]
fn c6a_a_tombstone_is_journalled_in_the_commit_that_removes_its_task() {
    let (mut world, retry) = with_two_copies();
    world.read_one(A);
    assert_eq!(world.claim(A), Some(retry.clone()));
    world.report(A, &retry, Verdict::Complete).unwrap();
    world.take(A);
    assert_eq!(world.commits.last().unwrap().1.bury[0].id, retry);
    world.land(A);
    world.crash(A);
    world.start(A, RETRIES);
    world.read(A);
    assert_eq!(world.claim(A), None, "the second copy is dropped");
    world.settle_down(A);
    assert_eq!(world.brokers[A].journal.position(RETRIES).unwrap().watermark, 2, "and its offset is settled");
}

#[test]
fn c6b_a_second_copy_that_is_read_while_the_first_waits_for_its_removal_is_dropped() {
    let (mut world, retry) = with_two_copies();
    world.read_one(A);
    world.claim(A).unwrap();
    world.report(A, &retry, Verdict::Complete).unwrap();
    world.read(A);
    assert_eq!(world.claim(A), None);
    world.settle_down(A);
    assert_eq!(world.times_handed_out(&retry), 1);
}

#[test]
fn c6c_the_minutes_of_a_tombstone_run_only_while_its_partition_is_read_to_the_end() {
    let (mut world, retry) = with_two_copies();
    world.read_one(A);
    world.claim(A).unwrap();
    world.report(A, &retry, Verdict::Complete).unwrap();
    world.commit(A);
    world.advance_slowly(3 * policy().tombstones_keep);
    assert_eq!(world.brokers[A].ledger.stats().tombstones, 1);
    world.read(A);
    assert_eq!(world.claim(A), None);
    world.advance_slowly(policy().tombstones_keep - SECOND);
    assert_eq!(world.brokers[A].ledger.stats().tombstones, 1);
    world.advance_slowly(2 * SECOND);
    assert_eq!(world.brokers[A].ledger.stats().tombstones, 0);
    world.commit(A);
    assert!(world.brokers[A].journal.tombstones.is_empty());
}

#[test]
fn c6c_and_only_when_no_row_here_publishes_the_id() {
    let mut world = World::reading([message("m")]);
    world.assign(A, RETRIES);
    world.settle_down(A);
    world.claim(A).unwrap();
    world.report(A, &id("m"), RETRY).unwrap();
    world.commit(A);
    let now = world.now;
    let outgoing = world.brokers[A].take_outgoing(now).remove(0);
    world::broker::deliver(&mut world, &outgoing);
    world.read(A);
    let retry = world.claim(A).unwrap();
    world.report(A, &retry, Verdict::Complete).unwrap();
    world.commit(A);
    world.advance_slowly(2 * policy().tombstones_keep);
    assert_eq!(world.brokers[A].ledger.stats().tombstones, 1, "the parent's row may still be published");
    world::broker::deliver(&mut world, &outgoing);
    let now = world.now;
    world.ledger(A).published(outgoing.handle, now);
    world.commit(A);
    world.advance(SECOND);
    assert_eq!(world.brokers[A].ledger.stats().tombstones, 1, "from here on its minutes run");
    world.read(A);
    assert_eq!(world.claim(A), None, "the second copy was read only now");
    world.advance_slowly(policy().tombstones_keep + SECOND);
    assert_eq!(world.brokers[A].ledger.stats().tombstones, 0);
}

#[test]
fn a_retry_that_is_withdrawn_leaves_no_tombstone() {
    let mut world = World::with(policy());
    world.kafka.produce(RETRIES, message("m").marked());
    world.start(A, RETRIES);
    world.read(A);
    assert_eq!(world.lose(A, RETRIES), 1);
    world.start(A, RETRIES);
    world.read(A);
    assert_eq!(world.claim(A), Some(id("m")));
}

#[test]
fn c6d_nothing_is_published_before_its_row_says_so() {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    world.report(A, &id("m"), RETRY).unwrap();
    let now = world.now;
    assert!(world.brokers[A].take_outgoing(now).is_empty());
    world.take(A);
    assert!(world.brokers[A].take_outgoing(now).is_empty());
    world.land(A);
    world.confirm(A);
    assert_eq!(world.brokers[A].take_outgoing(now).len(), 1);
}

#[test]
fn a_retry_whose_acknowledgement_is_lost_in_a_crash_is_published_again_and_runs_once() {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    world.report(A, &id("m"), RETRY).unwrap();
    world.commit(A);
    let now = world.now;
    let outgoing = world.brokers[A].take_outgoing(now).remove(0);
    world::broker::deliver(&mut world, &outgoing);
    world.crash(A);
    assert!(world.brokers[A].journal.has_row("m"), "the row goes only when Kafka acknowledged");
    assert_eq!(world.publish(A), 1);
    world.assign(A, RETRIES);
    world.settle_down(A);
    world.read(A);
    assert_eq!(world.claim(A), Some(id("m").retry(1)));
    assert_eq!(world.claim(A), None);
}

// --- C8 ---

#[test]
fn c8_an_at_most_once_retry_whose_publication_is_in_doubt_fails() {
    let mut world = World::reading([message("m").at_most_once()]);
    world.settle_down(A);
    world.claim(A).unwrap();
    world.commit(A);
    world.report(A, &id("m"), RETRY).unwrap();
    let outgoing = world.begin_publication(A);
    let now = world.now;
    assert!(!world.ledger(A).publish_failed(outgoing.handle, true, now), "it is not sent again");
    world.commit(A);
    assert_eq!(world.publish(A), 1);
    assert_eq!((world.dead_letters.len(), world.kafka.log(RETRIES).records.len()), (1, 0));
}

#[test]
fn c8_and_after_a_crash_meanwhile() {
    let mut world = World::reading([message("m").at_most_once()]);
    world.settle_down(A);
    world.claim(A).unwrap();
    world.commit(A);
    world.report(A, &id("m"), RETRY).unwrap();
    let outgoing = world.begin_publication(A);
    world::broker::deliver(&mut world, &outgoing);
    world.crash(A);
    world.commit(A);
    let row = world.brokers[A].journal.rows.values().next().unwrap();
    assert!(matches!(row.row.state, RowState::Failed { cause: FailureCause::InDoubt, .. }));
    world.publish(A);
    assert_eq!(world.kafka.log(RETRIES).records.len(), 1, "one copy");
}

// --- C9, C10 ---

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
fn c10_what_was_settled_beyond_the_end_of_a_cut_log_is_void() {
    let mut world = World::reading([message("m0"), message("m1")]);
    world.claim(A).unwrap();
    world.claim(A).unwrap();
    world.complete(A, "m1");
    world.commit(A);
    let position = world.brokers[A].journal.position(TASKS).unwrap();
    assert_eq!((position.watermark, position.settled.as_slice()), (0, &[0b10][..]));
    world.crash(A);
    world.kafka.cut(TASKS, 1);
    world.start(A, TASKS);
    world.read(A);
    world.kafka.produce(TASKS, message("new"));
    world.read(A);
    assert_eq!(world.claim(A), Some(id("m0")));
    assert_eq!(world.claim(A), Some(id("new")), "it is not taken for what was settled there");
}

#[test]
fn c10_a_position_beyond_the_end_is_void_and_its_rows_are_kept() {
    let mut world = World::reading([message("m0"), message("m1")]);
    world.advance(past_window());
    world.settle_down(A);
    world.crash(A);
    world.kafka.cut(TASKS, 1);
    let decision = world.start(A, TASKS);
    assert_eq!((decision.plan.at, decision.plan.cut), (1, true));
    assert_eq!(world.kafka.committed(TASKS), Some(1), "the position that the cut left behind is replaced first");
    world.kafka.produce(TASKS, message("new"));
    world.read(A);
    let claimed: Vec<_> = std::iter::from_fn(|| world.claim(A)).collect();
    assert_eq!(claimed, [id("m0"), id("m1"), id("new")]);
    world.crash(A);
    assert!(world.try_assign(A, TASKS).is_ok(), "nor is the store taken for an older copy of itself");
}

// --- C11 ---

#[test]
fn c11_a_rewind_is_obeyed_in_full() {
    let mut world = World::reading([message("m0"), message("m1"), message("m2"), message("m3")]);
    for name in ["m0", "m1", "m2", "m3"] {
        assert_eq!(world.claim(A), Some(id(name)));
    }
    for name in ["m0", "m1", "m3"] {
        world.complete(A, name);
    }
    world.settle_down(A);
    world.crash(A);
    world.kafka.set_position(TASKS, 1);
    world.answered[A].clear();
    let decision = world.assign(A, TASKS);
    assert_eq!((decision.plan.at, decision.plan.because), (1, Because::Rewound));
    world.commit(A);
    assert!(!world.read_one(A), "nothing is read before the group has the position with our mark");
    world.acknowledge(A);
    world.settle_down(A);
    world.read(A);
    let claimed: Vec<_> = std::iter::from_fn(|| world.claim(A)).collect();
    assert_eq!(claimed, [id("m1"), id("m2"), id("m3")], "what was settled above it runs again");
}

#[test]
fn c11_a_rewind_is_obeyed_once() {
    let mut world = World::reading([message("m0"), message("m1")]);
    for name in ["m0", "m1"] {
        world.claim(A).unwrap();
        world.complete(A, name);
    }
    world.settle_down(A);
    world.crash(A);
    world.kafka.set_position(TASKS, 0);
    world.answered[A].clear();
    world.start(A, TASKS);
    world.read(A);
    world.claim(A).unwrap();
    world.complete(A, "m0");
    world.commit(A);
    world.crash(A);
    let decision = world.start(A, TASKS);
    assert_eq!((decision.plan.at, decision.plan.because), (1, Because::Stored), "the operator's mark is gone");
}

#[test]
fn c11_a_crash_between_the_journal_and_the_group_does_not_make_a_second_rewind() {
    let mut world = World::reading([message("m0"), message("m1")]);
    for name in ["m0", "m1"] {
        world.claim(A).unwrap();
        world.complete(A, name);
    }
    world.settle_down(A);
    world.crash(A);
    world.kafka.set_position(TASKS, 0);
    world.answered[A].clear();
    world.assign(A, TASKS);
    world.take(A);
    world.land(A);
    world.crash(A);
    world.start(A, TASKS);
    world.read(A);
    world.claim(A).unwrap();
    world.complete(A, "m0");
    world.commit(A);
    world.crash(A);
    let decision = world.start(A, TASKS);
    assert_eq!((decision.plan.at, decision.plan.because), (1, Because::Stored));
}

#[test]
fn a_position_that_an_older_kind_of_broker_left_is_no_rewind_after_a_crash() {
    let mut world = World::with(policy());
    for name in ["m0", "m1"] {
        world.kafka.produce(TASKS, message(name));
    }
    world.kafka.set_position(TASKS, 0);
    world.start(A, TASKS);
    world.read(A);
    for name in ["m0", "m1"] {
        world.claim(A).unwrap();
        world.complete(A, name);
    }
    world.commit(A);
    world.crash(A);
    assert_eq!(world.start(A, TASKS).plan.because, Because::Stored, "what was answered is not repeated");
    world.read(A);
    assert_eq!(world.claim(A), None);
}

#[test]
fn c11_what_is_done_and_waits_for_its_removal_is_repeated_too() {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    world.settle_down(A);
    world.advance(past_window());
    world.settle_down(A);
    world.complete(A, "m");
    world.lose(A, TASKS);
    world.kafka.set_position(TASKS, 0);
    world.start(A, TASKS);
    world.answered[A].clear();
    world.read(A);
    assert_eq!(world.claim(A), Some(id("m")));
}

#[test]
fn an_operator_who_sets_the_position_ahead_is_obeyed() {
    let mut world = World::reading([message("m0"), message("m1")]);
    world.settle_down(A);
    world.crash(A);
    world.kafka.set_position(TASKS, 2);
    assert_eq!(world.start(A, TASKS).plan.because, Because::Committed);
    world.read(A);
    assert_eq!(world.claim(A), None);
}

// --- C12, C13, C14 ---

#[test]
fn c12_a_start_that_was_chosen_is_stored_before_anything_is_read() {
    let mut world = World::with(Policy { offset_reset: taskbroker_domain::positions::OffsetReset::Latest, ..policy() });
    let decision = world.assign(A, TASKS);
    assert_eq!((decision.plan.at, decision.plan.because), (0, Because::Reset));
    world.kafka.produce(TASKS, message("m"));
    world.drive(A);
    assert!(!world.read_one(A), "the start is not stored");
    world.commit(A);
    world.read(A);
    assert_eq!(world.claim(A), Some(id("m")));
    world.crash(A);
    world.start(A, TASKS);
    world.read(A);
    assert_eq!(world.claim(A), Some(id("m")), "the next start is not above it");
}

#[test]
fn c13_at_most_one_group_commit_is_outstanding_for_each_partition() {
    let mut world = World::reading([message("m0").at_most_once(), message("m1").at_most_once()]);
    world.commit(A);
    assert_eq!(world.brokers[A].outstanding.len(), 1);
    world.kafka.produce(TASKS, message("m2").at_most_once());
    world.read(A);
    world.commit(A);
    world.commit(A);
    assert_eq!(world.brokers[A].outstanding.len(), 1);
    let now = world.now;
    let mut kafka = world.kafka.clone();
    world.brokers[A].out_of_range(&mut kafka, TASKS, now).unwrap();
    world.commit(A);
    assert_eq!(world.brokers[A].outstanding.len(), 1, "nor does a new start in the same assignment send another");
    world.acknowledge(A);
    world.settle_down(A);
    assert_eq!(world.kafka.committed(TASKS), Some(3));
}

#[test]
fn c14_what_is_withdrawn_has_a_term_of_its_own() {
    let mut world = World::reading([message("m0"), message("m1")]);
    world.claim(A).unwrap();
    world.lose(A, TASKS);
    let stats = world.brokers[A].ledger.stats();
    assert_eq!((stats.totals.admitted, stats.totals.withdrawn, stats.in_flight, stats.imbalance), (2, 2, 0, 0));
}

// --- beyond the model ---

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
    let read = vec![(asked[1].key, bytes::Bytes::from_static(b"m1"))];
    world.ledger(A).payloads_read(&asked, read, now);
    assert!(!world.ledger(A).is_claimed(claimed.handle, claimed.lease));
    assert_eq!(world.ledger(A).depths().parked, 1);
    assert_eq!(world.claim(A), Some(id("m1")));
}

#[test]
fn what_was_handed_out_before_a_crash_is_held_back_until_the_reports_on_it_had_time_to_come() {
    let held = Policy { hold_after_crash: 3 * SECOND, ..policy() };
    let mut world = World::reading_with(held, [message("m0"), message("m1")]);
    world.claim(A).unwrap();
    world.crash(A);
    world.start(A, TASKS);
    world.kafka.produce(TASKS, message("new"));
    world.read(A);
    assert_eq!(world.claim(A), Some(id("new")), "what cannot have been handed out is not held");
    world.complete(A, "m0");
    world.advance(3 * SECOND);
    assert_eq!(world.claim(A), Some(id("m1")));
    assert_eq!(world.claim(A), None);
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
fn early_reports_without_room_are_refused_and_may_come_again() {
    let tight = Policy { early_reports_max: 1, ..policy() };
    let mut world = World::reading_with(tight, [message("m0"), message("m1")]);
    world.claim(A).unwrap();
    world.claim(A).unwrap();
    world.crash(A);
    assert_eq!(world.complete(A, "m0").reported, Reported::Remembered);
    assert_eq!(world.complete(A, "m0").reported, Reported::Remembered, "the same again needs no room");
    assert!(world.report(A, &id("m1"), Verdict::Complete).is_err());
    world.start(A, TASKS);
    world.read(A);
    assert_eq!(world.complete(A, "m1").reported, Reported::Settled, "it is there by now");
}

#[test]
fn a_retry_reported_after_a_crash_is_remembered_and_published_when_its_task_is_read_again() {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    world.crash(A);
    assert_eq!(world.report(A, &id("m"), RETRY).unwrap().reported, Reported::Remembered);
    world.commit(A);
    world.crash(A);
    world.start(A, TASKS);
    world.read(A);
    assert_eq!(world.claim(A), None, "what was reported does not run again");
    world.commit(A);
    assert_eq!(world.publish(A), 1);
    world.start(A, RETRIES);
    world.read(A);
    assert_eq!(world.claim(A), Some(id("m").retry(1)));
    assert!(world.brokers[A].journal.early.is_empty());
}

#[test]
fn a_failure_reported_after_a_crash_is_remembered_and_dead_lettered_when_its_task_is_read_again() {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    world.crash(A);
    assert_eq!(world.report(A, &id("m"), Verdict::Failure).unwrap().reported, Reported::Remembered);
    world.commit(A);
    world.start(A, TASKS);
    world.read(A);
    world.take(A);
    let commit = &world.commits.last().unwrap().1;
    assert_eq!((commit.forget.as_slice(), commit.insert.len()), ([id("m")].as_slice(), 1), "in one commit");
    world.land(A);
    world.confirm(A);
    assert_eq!(world.claim(A), None);
    world.publish(A);
    assert_eq!(world.dead_letters, [id("m")]);
}

#[test]
fn a_completion_replaces_a_failure_that_is_remembered_and_nothing_replaces_a_completion() {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    world.crash(A);
    world.report(A, &id("m"), Verdict::Failure).unwrap();
    world.commit(A);
    world.report(A, &id("m"), Verdict::Complete).unwrap();
    world.report(A, &id("m"), RETRY).unwrap();
    world.commit(A);
    world.crash(A);
    world.start(A, TASKS);
    world.read(A);
    assert_eq!(world.claim(A), None);
    world.settle_down(A);
    assert_eq!((world.publish(A), world.brokers[A].journal.rows.len()), (0, 0), "it is completed");
}

#[test]
fn a_verdict_that_comes_after_its_task_was_read_again_and_before_it_is_handed_out_again_settles_it() {
    for verdict in [Verdict::Failure, RETRY] {
        let mut world = World::reading([message("m")]);
        world.claim(A).unwrap();
        world.crash(A);
        world.start(A, TASKS);
        world.read(A);
        assert_eq!(world.report(A, &id("m"), verdict).unwrap().reported, Reported::Settled);
        world.commit(A);
        assert_eq!(world.claim(A), None, "{verdict:?}");
    }
}

#[test]
fn a_verdict_on_a_row_whose_claim_was_lost_in_a_crash_settles_it() {
    let mut world = World::reading([message("m")]);
    world.advance(past_window());
    world.commit(A);
    world.claim(A).unwrap();
    world.crash(A);
    assert_eq!(world.report(A, &id("m"), Verdict::Failure).unwrap().reported, Reported::Settled);
}

#[test]
fn a_stale_verdict_on_a_task_that_waits_again_in_this_life_is_refused_all_the_same() {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    world.crash(A);
    world.start(A, TASKS);
    world.read(A);
    world.claim(A).unwrap();
    world.advance(60 * SECOND);
    assert_eq!(world.report(A, &id("m"), Verdict::Failure).unwrap().reported, Reported::Refused);
    assert_eq!(world.claim(A), Some(id("m")));
}

#[test]
fn an_at_most_once_retry_that_only_waits_to_be_published_survives_a_crash() {
    let mut world = World::reading([message("m").at_most_once()]);
    world.settle_down(A);
    world.claim(A).unwrap();
    world.commit(A);
    world.report(A, &id("m"), RETRY).unwrap();
    world.commit(A);
    world.crash(A);
    let outgoing = world.begin_publication(A);
    world::broker::deliver(&mut world, &outgoing);
    let now = world.now;
    world.ledger(A).published(outgoing.handle, now);
    world.commit(A);
    assert_eq!((world.kafka.log(RETRIES).records.len(), world.dead_letters.len()), (1, 0));
}

#[test]
fn the_beginning_of_an_at_most_once_publication_is_durable_before_anything_is_sent() {
    let mut world = World::reading([message("m").at_most_once()]);
    world.settle_down(A);
    world.claim(A).unwrap();
    world.commit(A);
    world.report(A, &id("m"), RETRY).unwrap();
    world.commit(A);
    let now = world.now;
    assert_eq!(world.brokers[A].take_outgoing(now), [], "not before it is journalled");
    world.take(A);
    world.land(A);
    assert_eq!(world.brokers[A].take_outgoing(now), []);
    world.confirm(A);
    assert_eq!(world.brokers[A].take_outgoing(now).len(), 1);
}

#[test]
fn an_at_most_once_retry_that_was_certainly_not_sent_is_sent_again() {
    let mut world = World::reading([message("m").at_most_once()]);
    world.settle_down(A);
    world.claim(A).unwrap();
    world.commit(A);
    world.report(A, &id("m"), RETRY).unwrap();
    let outgoing = world.begin_publication(A);
    let now = world.now;
    assert!(world.ledger(A).publish_failed(outgoing.handle, false, now));
}

#[test]
fn a_restored_backup_is_detected_and_refused() {
    let mut world = World::reading([message("m0"), message("m1")]);
    let backup = world.brokers[A].journal.clone();
    for name in ["m0", "m1"] {
        world.claim(A).unwrap();
        world.complete(A, name);
    }
    world.settle_down(A);
    world.brokers[A].journal = backup;
    world.crash(A);
    let refused = world.try_assign(A, TASKS).unwrap_err();
    assert_eq!(refused, NoStart::OlderCopy { stored: 0, committed: 2 });
    assert!(refused.to_string().contains("--reset-offsets"), "it says what to do");
}

#[test]
fn another_store_s_position_is_gone_on_from() {
    let mut world = World::reading([message("m0"), message("m1")]);
    world.claim(A).unwrap();
    world.complete(A, "m0");
    world.settle_down(A);
    world.lose(A, TASKS);
    let decision = world.start(B, TASKS);
    assert_eq!((decision.plan.at, decision.plan.because), (1, Because::Committed));
    world.read(B);
    assert_eq!(world.claim(B), Some(id("m1")));
}

#[test]
fn a_recreated_topic_is_read_from_its_beginning_and_the_rows_of_the_old_one_are_kept() {
    let mut world = World::reading([message("m0"), message("m1").at_most_once()]);
    world.commit(A);
    world.crash(A);
    world.kafka.recreate(TASKS);
    world.kafka.produce(TASKS, message("new"));
    world.start(A, TASKS);
    world.read(A);
    let claimed: Vec<_> = std::iter::from_fn(|| world.claim(A)).collect();
    assert_eq!(claimed, [id("m0"), id("new")]);
    assert_eq!(world.publish(A), 1, "the at-most-once task of the old one is in doubt");
    assert_eq!(world.brokers[A].journal.positions.len(), 1);
    assert!(world.brokers[A].journal.rows.values().all(|row| {
        row.row.origin.is_none_or(|origin| world.brokers[A].journal.positions.contains_key(&origin.slot))
    }));
}

#[test]
fn what_retention_took_is_counted_and_nothing_more_is_jumped_over() {
    let mut world = World::with(policy());
    for number in 0..6 {
        world.kafka.produce(TASKS, message(&format!("m{number}")));
    }
    world.start(A, TASKS);
    world.read_one(A);
    world.kafka.retain_from(TASKS, 4);
    let now = world.now;
    let mut kafka = world.kafka.clone();
    let decision = world.brokers[A].out_of_range(&mut kafka, TASKS, now).unwrap();
    assert_eq!((decision.plan.at, decision.plan.lost), (4, 3));
    world.settle_down(A);
    world.read(A);
    let claimed: Vec<_> = std::iter::from_fn(|| world.claim(A)).collect();
    assert_eq!(claimed, [id("m0"), id("m4"), id("m5")]);
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
fn the_same_id_at_another_offset_is_dropped_while_the_first_is_in_flight_and_its_offset_is_settled() {
    let mut world = World::reading([message("m"), message("m").copy()]);
    assert_eq!(world.brokers[A].ledger.stats().in_flight, 1);
    world.claim(A).unwrap();
    world.complete(A, "m");
    world.settle_down(A);
    assert_eq!(world.kafka.committed(TASKS), Some(2));
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
fn an_orderly_revocation_repeats_nothing() {
    let mut world = World::reading([message("m0"), message("m1")]);
    world.claim(A).unwrap();
    world.revoke(A, TASKS);
    assert_eq!(world.kafka.committed(TASKS), Some(2), "committed before it is released");
    world.start(B, TASKS);
    world.read(B);
    assert_eq!(world.claim(B), None);
    assert_eq!(world.claim(A), Some(id("m1")), "A goes on with what it has");
    assert_eq!(world.complete(A, "m0").reported, Reported::Settled);
}

#[test]
fn an_undecodable_message_goes_to_the_dead_letter_topic_and_stops_nothing() {
    let mut world = World::with(policy());
    world.kafka.produce(TASKS, world::Message { undecodable: true, ..message("bad") });
    world.kafka.produce(TASKS, message("good"));
    world.start(A, TASKS);
    world.read(A);
    assert_eq!(world.claim(A), Some(id("good")));
    world.complete(A, "good");
    world.commit(A);
    assert_eq!(world.publish(A), 1);
    world.settle_down(A);
    assert_eq!(world.kafka.committed(TASKS), Some(2));
    assert!(world.brokers[A].journal.rows.is_empty());
}

#[test]
fn a_dead_letter_that_kafka_refuses_for_good_is_parked_and_a_late_completion_is_still_believed() {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    world.report(A, &id("m"), Verdict::Failure).unwrap();
    world.commit(A);
    let now = world.now;
    let outgoing = world.brokers[A].take_outgoing(now).remove(0);
    world.ledger(A).publish_refused(outgoing.handle, "too large", now);
    world.commit(A);
    world.crash(A);
    assert_eq!((world.publish(A), world.ledger(A).depths().parked), (0, 1), "kept, listed, not sent again");
    assert_eq!(world.complete(A, "m").reported, Reported::Settled);
    world.commit(A);
    assert!(world.brokers[A].journal.rows.is_empty());
}

#[test]
fn a_row_that_was_loaded_expires_though_nobody_asks_for_it() {
    let mut world = World::with(policy());
    let at = world.now.wall.saturating_add(60 * SECOND);
    world.kafka.produce(TASKS, message("m").expires(at));
    world.start(A, TASKS);
    world.read(A);
    world.advance(past_window());
    world.settle_down(A);
    world.crash(A);
    world.advance(60 * SECOND);
    world.commit(A);
    assert!(world.brokers[A].journal.rows.is_empty());
    assert_eq!(world.brokers[A].ledger.stats().totals.expired, 1);
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

#[test]
fn a_task_that_loses_its_workers_again_and_again_fails_in_the_end() {
    let mut world = World::reading([message("m")]);
    for _ in 0..policy().max_lost_leases {
        assert_eq!(world.claim(A), Some(id("m")));
        world.advance(14 * SECOND);
        world.settle_down(A);
        world.crash(A);
    }
    assert_eq!(world.claim(A), None);
    assert_eq!(world.publish(A), 1);
    assert_eq!(world.dead_letters, [id("m")]);
}

#[test]
fn a_discarded_failure_leaves_with_one_commit() {
    let discard = world::Message { on_failure: OnFailure::Discard, may_be_discarded: true, ..message("m") };
    let mut world = World::reading([discard]);
    world.claim(A).unwrap();
    world.report(A, &id("m"), Verdict::Failure).unwrap();
    world.settle_down(A);
    assert_eq!((world.kafka.committed(TASKS), world.publish(A)), (Some(1), 0));
    assert_eq!(world.brokers[A].ledger.stats().totals.discarded, 1);
}

#[test]
fn a_claim_that_did_not_reach_its_worker_is_put_back_in_its_place() {
    let mut world = World::reading([message("m0"), message("m1")]);
    world.claim(A).unwrap();
    let (handle, lease) = world.brokers[A].claims[&id("m0")];
    let now = world.now;
    world.ledger(A).put_back(handle, lease, now);
    assert_eq!(world.claim(A), Some(id("m0")));
    world.complete(A, "m0");
    world.ledger(A).put_back(handle, lease, now);
    assert_eq!(world.claim(A), Some(id("m1")), "what is done is not resurrected");
}
