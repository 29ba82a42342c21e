//! Rule 2, publish before remove: retries, dead letters, their copies and their tombstones.

use taskbroker_domain::{
    activation::{ActivationId, OnFailure},
    ports::{
        service::{Reported, Verdict},
        store::{FailureCause, RowState},
    },
};

use crate::{
    RETRY, SECOND,
    world::{self, A, RETRIES, TASKS, World, id, kafka::message, policy},
};

/// A world in which the retry of m was published twice (the first acknowledgement was lost), and A reads the retries.
fn with_two_copies() -> (World, ActivationId) {
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
fn an_at_most_once_retry_that_nobody_took_before_an_orderly_stop_is_sent_after_it() {
    // Its beginning is journalled, or is to be with the last commit.
    for journalled in [true, false] {
        let mut world = World::reading([message("m").at_most_once()]);
        world.settle_down(A);
        world.claim(A).unwrap();
        world.commit(A);
        world.report(A, &id("m"), RETRY).unwrap();
        world.commit(A);
        let now = world.now;
        assert_eq!(world.ledger(A).take_outgoing(1, now), []);
        if journalled {
            world.commit(A);
        }
        world.restart(A);
        world.begin_publication(A);
        assert_eq!(world.dead_letters.len(), 0);
    }
}

#[test]
fn an_at_most_once_retry_that_may_have_been_sent_before_an_orderly_stop_fails() {
    let mut world = World::reading([message("m").at_most_once()]);
    world.settle_down(A);
    world.claim(A).unwrap();
    world.commit(A);
    world.report(A, &id("m"), RETRY).unwrap();
    world.begin_publication(A);
    world.restart(A);
    world.commit(A);
    let row = world.brokers[A].journal.rows.values().next().unwrap();
    assert!(matches!(row.row.state, RowState::Failed { cause: FailureCause::InDoubt, .. }));
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
fn a_discarded_failure_leaves_with_one_commit() {
    let discard = world::Message { on_failure: OnFailure::Discard, may_be_discarded: true, ..message("m") };
    let mut world = World::reading([discard]);
    world.claim(A).unwrap();
    world.report(A, &id("m"), Verdict::Failure).unwrap();
    world.settle_down(A);
    assert_eq!((world.kafka.committed(TASKS), world.publish(A)), (Some(1), 0));
    assert_eq!(world.brokers[A].ledger.stats().totals.discarded, 1);
}
