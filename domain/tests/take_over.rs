//! What the existing system left is gone on with: nothing that it had read is read again, and nothing else is skipped.
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use std::{sync::Arc, time::Duration};

use taskbroker_domain::{
    activation::{Key, Origin, PartitionId, Slot, TopicId},
    policy::Policy,
    ports::store::{NewRow, Position, Row, RowState},
    positions::{Because, OffsetReset},
    time::Timestamp,
};
use world::{A, Broker, TASKS, World, id, kafka::message, policy};

const SLOT: Slot = Slot(0);

/// The topic has records 0 to 5, of which the existing system had stored 0 to 3 and committed `committed`; of those it
/// stored, 1 and 3 are left, 3 to be run at most once.
fn world_with(policy: Policy, committed: Option<i64>) -> World {
    let mut world = World::with(policy.clone());
    for offset in 0..6 {
        let message = message(&format!("m{offset}"));
        world.kafka.produce(TASKS, if offset == 3 { message.at_most_once() } else { message });
    }
    if let Some(committed) = committed {
        world.kafka.set_position(TASKS, committed);
    }
    world.kafka.log_mut(TASKS).is_checked = false;
    let mut journal = world.brokers[A].journal.clone();
    for offset in [1, 3] {
        let message = world.kafka.log(TASKS).records[&offset].clone();
        journal.rows.insert(Key(offset.unsigned_abs()), row(offset, &message));
    }
    let partition = PartitionId { topic_id: TopicId::UNKNOWN, ..(*world.kafka.id(TASKS)).clone() };
    journal.positions.insert(SLOT, position(partition));
    world.brokers[A] = Broker::new(policy, journal, world.now);
    world
}

fn world(committed: i64) -> World {
    world_with(policy(), Some(committed))
}

fn row(offset: i64, message: &world::Message) -> NewRow {
    let activation = message.activation();
    let row = Row {
        key: Key(offset.unsigned_abs()),
        id: activation.id,
        route: activation.route,
        terms: activation.terms,
        received_at: activation.received_at,
        added_at: activation.received_at,
        origin: Some(Origin { slot: SLOT, offset }),
        marked: false,
        payload_bytes: u32::try_from(activation.payload.len()).unwrap(),
        lost_leases: 0,
        state: RowState::Pending { ready_at: Timestamp::default() },
    };
    NewRow { row, payload: activation.payload }
}

fn position(partition: PartitionId) -> Position {
    Position {
        slot: SLOT,
        partition: Arc::new(partition),
        watermark: 4,
        leader_epoch: None,
        settled: Vec::new(),
        acknowledged: i64::MIN,
        read_limit: 4,
    }
}

fn claims(world: &mut World) -> Vec<String> {
    let mut claimed = Vec::new();
    loop {
        world.settle_down(A);
        match world.claim(A) {
            Some(id) => claimed.push(id.to_string()),
            None => return claimed,
        }
    }
}

fn topic_id(world: &World) -> TopicId {
    world.brokers[A].journal.position(TASKS).unwrap().partition.topic_id
}

#[test]
fn what_was_stored_but_not_committed_is_not_read_again() {
    let mut world = world(1);
    let decision = world.start(A, TASKS);
    assert_eq!((decision.plan.at, decision.plan.because), (4, Because::TakenOver));
    world.read(A);
    assert_eq!(claims(&mut world), ["m1", "m3", "m4", "m5"], "0 and 2 were done");
    assert_eq!(topic_id(&world), TopicId([1; 16]));
}

#[test]
fn what_the_group_has_beyond_it_is_not_read_again_either() {
    let mut world = world(5);
    assert_eq!(world.start(A, TASKS).plan.at, 5);
    world.read(A);
    assert_eq!(claims(&mut world), ["m1", "m3", "m5"]);
}

#[test]
fn nothing_is_read_before_the_group_has_the_position_and_a_crash_until_then_changes_nothing() {
    let mut world = world(1);
    for _ in 0..3 {
        world.assign(A, TASKS);
        world.take(A);
        world.land(A);
        world.confirm(A);
        assert_eq!(world.read(A), 0);
        assert_eq!(topic_id(&world), TopicId::UNKNOWN);
        world.crash(A);
    }
    let decision = world.start(A, TASKS);
    assert_eq!((decision.plan.at, decision.plan.because), (4, Because::TakenOver), "and it is no rewind");
    world.read(A);
    assert_eq!(claims(&mut world), ["m1", "m3", "m4", "m5"]);
}

#[test]
fn after_that_an_operator_s_rewind_is_obeyed() {
    let mut world = world(1);
    world.start(A, TASKS);
    world.read(A);
    assert_eq!(claims(&mut world).len(), 4);
    for name in ["m1", "m3", "m4", "m5"] {
        world.complete(A, name);
    }
    world.restart(A);
    world.kafka.set_position(TASKS, 0);
    assert_eq!(world.start(A, TASKS).plan.because, Because::Rewound);
}

#[test]
fn an_at_most_once_task_taken_over_waits_for_the_group_to_be_beyond_it() {
    let mut world = world(1);
    assert_eq!(world.claim(A), Some(id("m1")));
    assert_eq!(world.claim(A), None, "whoever gets the partition instead reads m3 too");
    world.start(A, TASKS);
    assert_eq!(world.claim(A), Some(id("m3")));
}

#[test]
fn an_at_most_once_task_below_the_group_s_position_is_not_in_doubt() {
    let mut world = world(4);
    world.start(A, TASKS);
    assert_eq!(world.claim(A), Some(id("m1")));
    assert_eq!(world.claim(A), Some(id("m3")), "it was the existing system itself that committed it");
}

#[test]
fn a_log_that_ends_before_it_is_another_and_is_read_from_where_the_group_is() {
    let mut world = world(1);
    world.kafka.cut(TASKS, 3);
    let decision = world.start(A, TASKS);
    assert_eq!((decision.plan.at, decision.plan.because), (1, Because::Committed));
    world.read(A);
    assert_eq!(claims(&mut world), ["m1", "m2"], "m1 is here: the second is dropped");
    assert_eq!(world.publish(A), 1, "nobody can say of m3 whether it ran");
}

#[test]
fn what_lies_farther_above_the_group_than_the_existing_system_can_be_is_not_skipped() {
    let mut world = world(1);
    world.kafka.log_mut(TASKS).end = 3_000_000;
    let mut journal = world.brokers[A].journal.clone();
    journal.positions.get_mut(&SLOT).unwrap().watermark = 2_000_000;
    world.brokers[A] = Broker::new(policy(), journal, world.now);
    assert_eq!(world.assign(A, TASKS).plan.at, 1);
}

#[test]
fn where_the_group_knows_nothing_it_counts_only_instead_of_skipping_more() {
    let latest = Policy { offset_reset: OffsetReset::Latest, ..policy() };
    let mut world = world_with(latest, None);
    assert_eq!(world.start(A, TASKS).plan.at, 4);
    let mut world = world_with(policy(), None);
    assert_eq!(world.start(A, TASKS).plan.at, 0, "the settings say to read from the beginning");
    world.read(A);
    assert_eq!(claims(&mut world), ["m1", "m0", "m2", "m4", "m5"], "m1 once; m3 is in doubt");
}

#[test]
fn a_partition_that_does_not_come_leaves_at_most_once_tasks_in_doubt() {
    let mut world = world(1);
    world.advance_slowly(Duration::from_secs(700));
    world.settle_down(A);
    assert_eq!(world.publish(A), 1);
    assert_eq!(world.claim(A), Some(id("m1")));
}
