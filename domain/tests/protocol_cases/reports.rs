//! Rules 3 and 6, reports: each is answered when what it says is durable, and is believed where nothing was published
//! yet, also of an earlier life.

use taskbroker_domain::{
    policy::Policy,
    ports::{
        service::{Reported, Verdict},
        store::RowState,
    },
};

use crate::{
    RETRY, SECOND, past_window,
    world::{A, RETRIES, TASKS, World, id, kafka::message, policy},
};

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
