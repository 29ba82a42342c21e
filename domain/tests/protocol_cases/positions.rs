//! Rule 5, the journal's position is the truth: where reading begins, what is void, and how a partition goes.

use taskbroker_domain::{
    policy::Policy,
    ports::service::Reported,
    positions::{Because, NoStart},
};

use crate::{
    past_window,
    world::{A, B, TASKS, World, id, kafka::message, policy},
};

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
