//! Who asks for what waits, and what that means for the room of others; on the real ledger.
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use std::time::Duration;

use taskbroker_domain::{
    admission::Full,
    ledger::Unserved,
    policy::{Limits, Policy},
    ports::service::Wanted,
};
use world::{A, RETRIES, TASKS, World, id, kafka::message, policy};

const SECOND: Duration = Duration::from_secs(1);

fn limited(pending: usize, unserved: usize) -> Policy {
    Policy { limits: Limits { pending, unserved, ..Limits::default() }, ..policy() }
}

fn ask(world: &mut World, application: &str) -> bool {
    let now = world.now;
    world.ledger(A).claim(&Wanted::Application(application.into()), now).is_some()
}

#[test]
fn tasks_that_nobody_asks_for_are_named_with_their_number_and_since_when() {
    let mut world = World::reading([message("m0"), message("m1")]);
    world.advance(SECOND);
    let since = world.now.steady;
    world.advance_slowly(9 * SECOND);
    assert_eq!(world.ledger(A).unserved(), []);
    world.advance(SECOND);
    let unserved = Unserved { application: "app".into(), namespace: "ns".into(), since, waiting: 2 };
    assert_eq!(world.ledger(A).unserved(), [unserved]);
}

#[test]
fn whoever_asks_for_another_application_does_not_count() {
    let mut world = World::reading([message("m")]);
    for _ in 0..12 {
        assert!(!ask(&mut world, "another"));
        world.advance(SECOND);
    }
    assert_eq!(world.ledger(A).unserved().len(), 1);
}

#[test]
fn a_worker_that_asks_now_and_then_serves_what_waits() {
    let mut world = World::reading((0..20).map(|number| message(&format!("m{number}"))));
    for _ in 0..6 {
        assert!(ask(&mut world, "app"));
        world.advance_slowly(6 * SECOND);
        assert_eq!(world.ledger(A).unserved(), []);
    }
    world.advance_slowly(12 * SECOND);
    assert_eq!(world.ledger(A).unserved().len(), 1, "it stopped asking");
    assert!(ask(&mut world, "app"));
    world.advance(SECOND);
    assert_eq!(world.ledger(A).unserved(), []);
}

#[test]
fn what_nobody_asks_for_leaves_the_budget_of_the_others_up_to_its_own_limit() {
    let mut world = World::reading_with(limited(2, 3), [message("m0"), message("m1")]);
    assert_eq!(world.ledger(A).room(), Err(Full::Pending));
    world.advance_slowly(12 * SECOND);
    assert_eq!(world.ledger(A).room(), Ok(2));
    for number in 2..5 {
        world.kafka.produce(TASKS, message(&format!("m{number}")));
    }
    world.read(A);
    assert_eq!(world.ledger(A).room(), Err(Full::Pending), "beyond 3 they count with the others");
    assert!(ask(&mut world, "app"));
    world.advance(SECOND);
    assert_eq!(world.ledger(A).room(), Err(Full::Pending), "they are served: they count again");
}

#[test]
fn a_topic_has_its_part_of_the_room_when_others_have_taken_it_all() {
    let policy = Policy { topics: 2, ..limited(4, 0) };
    let mut world = World::reading_with(policy, (0..4).map(|number| message(&format!("m{number}"))));
    let topic = world.kafka.id(TASKS).topic.clone();
    assert_eq!(world.ledger(A).room_for(&topic), Err(Full::Pending));
    assert_eq!(world.ledger(A).room_for("another"), Ok(2));
}

#[test]
fn an_activation_without_an_application_gets_the_default_one() {
    let named = Policy { default_application: Some("default".into()), ..policy() };
    let nameless = || kafka_message("m");
    let mut world = World::reading_with(named.clone(), [nameless()]);
    world.settle_down(A);
    assert!(ask(&mut world, "default"));
    let mut world = World::reading([nameless()]);
    world.advance(SECOND);
    world.settle_down(A);
    let stored = world.brokers[A].journal.clone();
    let mut later = World::with(named);
    later.brokers[A].journal = stored;
    later.crash(A);
    assert!(ask(&mut later, "default"), "rows that are loaded get it as well");
}

fn kafka_message(name: &str) -> world::Message {
    world::Message { application: "", ..message(name) }
}

#[test]
fn a_lease_found_at_start_lasts_as_long_as_workers_may_need_to_report() {
    let quiet = Policy { quiet_after_start: 60 * SECOND, ..policy() };
    let mut world = World::reading_with(quiet, [message("m")]);
    world.advance(SECOND);
    world.settle_down(A);
    world.claim(A).unwrap();
    world.commit(A);
    world.advance(5 * SECOND);
    world.crash(A);
    world.assign(A, RETRIES);
    world.advance_slowly(59 * SECOND);
    assert_eq!(world.claim(A), None);
    world.advance_slowly(2 * SECOND);
    assert_eq!(world.claim(A), Some(id("m")));
}
