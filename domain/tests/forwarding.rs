//! Tasks of demoted namespaces are forwarded to another topic, tasks that a rule names are dropped; on the real ledger.
//!
//! C7, C7b and C8 are the protocol's cases.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod world;

use taskbroker_domain::{
    activation::{ActivationId, RetryWish},
    ports::{
        service::{Reported, Verdict},
        store::{FailureCause, RowState},
    },
    rules::{DropRule, Fate, Rules, Selector},
};
use world::{A, B, FORWARDED, RETRIES, TASKS, World, broker::deliver, id, kafka::message};

const RETRY: Verdict = Verdict::Retry(RetryWish { max_attempts: None, delay_s: None });

fn demoted() -> Rules {
    Rules { demoted: ["ns".into()].into(), ..Rules::default() }
}

fn dropped() -> Rules {
    Rules { drop: vec![DropRule { task_name: "task".into(), selector: None }], ..Rules::default() }
}

fn sweep(world: &mut World, rules: &Rules) -> (usize, usize) {
    let now = world.now;
    let (mut from, mut dropped, mut forwarded) = (0, 0, 0);
    loop {
        let swept = world.ledger(A).sweep(from, 2, rules, now);
        dropped += swept.dropped;
        forwarded += swept.forwarded;
        let Some(next) = swept.next else { return (dropped, forwarded) };
        from = next;
    }
}

/// A world whose broker A forwards all it reads.
fn forwarding(names: &[&str]) -> World {
    let mut world = World::new();
    world.brokers[A].rules = demoted();
    for name in names {
        world.kafka.produce(TASKS, message(name));
    }
    world.start(A, TASKS);
    world.read(A);
    world
}

fn forwarded(world: &World) -> Vec<ActivationId> {
    world.kafka.log(FORWARDED).records.values().map(|message| message.id.clone()).collect()
}

fn counts(world: &mut World) -> (u64, u64) {
    let totals = world.ledger(A).stats().totals;
    (totals.forwarded, totals.dropped)
}

#[test]
fn a_task_of_a_demoted_namespace_is_forwarded_and_leaves_once_kafka_has_it() {
    let mut world = forwarding(&["m"]);
    assert_eq!(world.claim(A), None);
    world.commit(A);
    let now = world.now;
    let outgoing = world.brokers[A].take_outgoing(now).remove(0);
    assert!(world.brokers[A].journal.has_row("m"));
    deliver(&mut world, &outgoing);
    world.ledger(A).published(outgoing.handle, now);
    world.settle_down(A);
    assert!(!world.brokers[A].journal.has_row("m"));
    assert_eq!((forwarded(&world), counts(&mut world)), (vec![id("m")], (1, 0)));
}

#[test]
fn a_forwarded_task_whose_acknowledgement_is_lost_in_a_crash_is_forwarded_again() {
    let mut world = forwarding(&["m"]);
    world.commit(A);
    let now = world.now;
    let outgoing = world.brokers[A].take_outgoing(now).remove(0);
    deliver(&mut world, &outgoing);
    world.crash(A);
    assert!(world.brokers[A].journal.has_row("m"));
    assert_eq!(world.publish(A), 1);
    assert_eq!(forwarded(&world).len(), 2);
}

#[test]
fn what_was_not_published_yet_goes_back_to_kafka_with_its_partition() {
    let mut world = forwarding(&["m"]);
    assert_eq!(world.lose(A, TASKS), 1);
    world.start(B, TASKS);
    world.read(B);
    assert_eq!(world.claim(B), Some(id("m")));
}

#[test]
fn new_rules_apply_to_what_waits_and_not_to_what_a_worker_has() {
    let mut world = World::reading([message("running"), message("waiting"), message("later")]);
    assert_eq!(world.claim(A), Some(id("running")));
    assert_eq!(sweep(&mut world, &demoted()), (0, 2));
    assert_eq!(world.claim(A), None);
    world.commit(A);
    world.publish(A);
    assert_eq!(forwarded(&world), [id("waiting"), id("later")]);
    assert_eq!(world.complete(A, "running").reported, Reported::Settled);
}

#[test]
fn a_dropped_task_is_gone_whatever_its_state_and_reports_on_it_are_answered() {
    let mut world = World::reading([message("running"), message("again"), message("waiting")]);
    world.claim(A).unwrap();
    world.claim(A).unwrap();
    world.report(A, &id("again"), RETRY).unwrap();
    world.dropped = ["running", "again", "waiting"].map(id).into();
    assert_eq!(sweep(&mut world, &dropped()), (3, 0));
    assert_eq!(world.complete(A, "running").reported, Reported::Refused);
    world.settle_down(A);
    assert_eq!((world.publish(A), world.brokers[A].journal.rows.len(), counts(&mut world)), (0, 0, (0, 3)));
    world.crash(A);
    world.start(A, TASKS);
    world.read(A);
    assert_eq!(world.claim(A), None, "dropped is settled");
}

#[test]
fn a_task_that_a_rule_drops_is_settled_when_it_is_read() {
    let mut world = World::new();
    world.brokers[A].rules = dropped();
    world.dropped.insert(id("m"));
    world.kafka.produce(TASKS, message("m"));
    world.start(A, TASKS);
    world.read(A);
    assert_eq!((world.claim(A), counts(&mut world)), (None, (0, 1)));
    world.settle_down(A);
    assert_eq!(world.brokers[A].journal.position(TASKS).unwrap().watermark, 1);
}

#[test]
fn what_is_on_its_way_out_is_not_dropped_any_more() {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    world.report(A, &id("m"), RETRY).unwrap();
    world.commit(A);
    let now = world.now;
    let outgoing = world.brokers[A].take_outgoing(now).remove(0);
    assert_eq!(sweep(&mut world, &dropped()), (0, 0));
    deliver(&mut world, &outgoing);
    world.ledger(A).published(outgoing.handle, now);
    world.commit(A);
}

#[test]
fn tasks_whose_arguments_decide_are_named_to_be_looked_at() {
    let mut world = World::reading([message("m")]);
    let selecting = DropRule { task_name: "task".into(), selector: Some(Selector::default()) };
    let rules = Rules { drop: vec![selecting], ..Rules::default() };
    let now = world.now;
    let swept = world.ledger(A).sweep(0, 100, &rules, now);
    assert_eq!((swept.dropped, swept.undecided.len(), swept.next), (0, 1, None));
    assert!(world.ledger(A).obey(swept.undecided[0], Fate::Drop, now));
    assert_eq!(world.claim(A), None);
}

#[test]
fn a_task_that_expired_or_was_reported_before_it_came_is_neither_dropped_nor_forwarded() {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    world.crash(A);
    world.complete(A, "m");
    world.brokers[A].rules = dropped();
    world.start(A, TASKS);
    world.read(A);
    world.settle_down(A);
    assert_eq!(counts(&mut world), (0, 0));
}

// --- C7 ---

#[test]
fn c7_a_retry_that_is_forwarded_comes_home() {
    let mut world = World::new();
    let retry = id("m").retry(1);
    world.kafka.produce(RETRIES, message(&retry.text()).marked());
    world.brokers[A].rules = demoted();
    world.start(A, RETRIES);
    world.read(A);
    world.commit(A);
    assert_eq!(world.publish(A), 1);
    world.settle_down(A);
    world.brokers[A].rules = Rules::default();
    world.start(A, FORWARDED);
    world.read(A);
    assert_eq!(world.claim(A), Some(retry), "forwarding leaves no tombstone");
}

#[test]
fn c7_also_while_the_original_waits_for_its_removal() {
    let mut world = forwarding(&["m"]);
    world.commit(A);
    let now = world.now;
    let outgoing = world.brokers[A].take_outgoing(now).remove(0);
    deliver(&mut world, &outgoing);
    world.brokers[A].rules = Rules::default();
    world.ledger(A).published(outgoing.handle, now);
    world.start(A, FORWARDED);
    world.read(A);
    assert_eq!(world.claim(A), Some(id("m")));
}

#[test]
fn c7_and_when_it_comes_home_before_its_acknowledgement() {
    let mut world = forwarding(&["m"]);
    world.commit(A);
    world.start(A, FORWARDED);
    let now = world.now;
    let outgoing = world.brokers[A].take_outgoing(now).remove(0);
    deliver(&mut world, &outgoing);
    world.brokers[A].rules = Rules::default();
    world.read(A);
    world.ledger(A).published(outgoing.handle, now);
    world.settle_down(A);
    assert_eq!(world.claim(A), Some(id("m")), "the acknowledged original is gone: the copy is all there is");
}

#[test]
fn c7b_a_completion_is_believed_until_it_may_have_been_forwarded() {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    let lease_end = std::time::Duration::from_secs(60);
    world.advance(lease_end);
    assert_eq!(sweep(&mut world, &demoted()), (0, 1));
    assert_eq!(world.complete(A, "m").reported, Reported::Settled);
    world.commit(A);
    assert_eq!((world.publish(A), forwarded(&world)), (0, vec![]));
}

/// A world in which m was lost by its worker, then forwarded: its message is in Kafka.
fn forwarded_after_a_lost_lease() -> (World, taskbroker_domain::ledger::Outgoing) {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    world.advance(std::time::Duration::from_secs(60));
    sweep(&mut world, &demoted());
    world.commit(A);
    let now = world.now;
    let outgoing = world.brokers[A].take_outgoing(now).remove(0);
    deliver(&mut world, &outgoing);
    (world, outgoing)
}

#[test]
fn c7b_after_that_it_is_remembered_for_the_copy() {
    for completed_when in 0..3 {
        let (mut world, outgoing) = forwarded_after_a_lost_lease();
        let now = world.now;
        let complete = |world: &mut World, when| {
            if when == completed_when {
                assert_eq!(world.complete(A, "m").reported, Reported::Remembered, "{when}");
            }
        };
        complete(&mut world, 0);
        world.ledger(A).published(outgoing.handle, now);
        complete(&mut world, 1);
        world.settle_down(A);
        complete(&mut world, 2);
        world.commit(A);
        world.crash(A);
        world.start(A, TASKS);
        world.start(A, FORWARDED);
        world.read(A);
        assert_eq!(world.claim(A), None, "completed {completed_when}: the copy does not run");
        world.settle_down(A);
        assert!(world.brokers[A].journal.early.is_empty());
    }
}

// --- C8 ---

#[test]
fn c8_an_at_most_once_task_whose_forwarding_is_in_doubt_fails() {
    let mut world = World::new();
    world.brokers[A].rules = demoted();
    world.kafka.produce(TASKS, message("m").at_most_once());
    world.start(A, TASKS);
    world.read(A);
    world.settle_down(A);
    let outgoing = world.begin_publication(A);
    deliver(&mut world, &outgoing);
    let now = world.now;
    assert!(!world.ledger(A).publish_failed(outgoing.handle, true, now));
    world.commit(A);
    let row = world.brokers[A].journal.rows.values().next().unwrap();
    assert!(matches!(row.row.state, RowState::Failed { cause: FailureCause::InDoubt, .. }));
    assert_eq!(forwarded(&world).len(), 1, "one copy");
}

#[test]
fn c5_an_at_most_once_task_is_not_forwarded_before_no_other_broker_can_read_it() {
    for by_sweep in [false, true] {
        let mut world = World::new();
        if !by_sweep {
            world.brokers[A].rules = demoted();
        }
        world.kafka.produce(TASKS, message("m").at_most_once());
        world.start(A, TASKS);
        world.read(A);
        world.commit(A);
        sweep(&mut world, &demoted());
        world.commit(A);
        let now = world.now;
        assert_eq!(world.brokers[A].take_outgoing(now), [], "its Kafka commit is not acknowledged");
        world.lose(A, TASKS);
        world.start(B, TASKS);
        world.read(B);
        world.settle_down(B);
        assert_eq!(world.claim(B), Some(id("m")));
        world.commit(A);
        assert_eq!((world.brokers[A].take_outgoing(now), forwarded(&world)), (vec![], vec![]));
    }
}

#[test]
fn a_task_that_a_worker_had_when_its_namespace_was_demoted_is_forwarded_when_it_waits_again() {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    assert_eq!(sweep(&mut world, &demoted()), (0, 0));
    world.advance(std::time::Duration::from_secs(60));
    assert_eq!(world.claim(A), None);
    world.commit(A);
    world.publish(A);
    assert_eq!(forwarded(&world), [id("m")]);
}

#[test]
fn a_rule_that_is_taken_back_is_forgotten_by_what_a_worker_has() {
    let mut world = World::reading([message("m")]);
    world.claim(A).unwrap();
    sweep(&mut world, &demoted());
    sweep(&mut world, &Rules::default());
    world.advance(std::time::Duration::from_secs(60));
    assert_eq!(world.claim(A), Some(id("m")));
}
