//! Rule 3, at most once: the claim is durable and the position acknowledged before the task leaves; in doubt it fails.

use crate::{
    SECOND, past_window,
    world::{A, B, TASKS, World, id, kafka::message, policy},
};

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
