//! Rules 6 and 9: leases, expiry, what is put back, and that everything which leaves is counted.

use crate::{
    SECOND, past_window,
    world::{A, TASKS, World, id, kafka::message, policy},
};

#[test]
fn c14_what_is_withdrawn_has_a_term_of_its_own() {
    let mut world = World::reading([message("m0"), message("m1")]);
    world.claim(A).unwrap();
    world.lose(A, TASKS);
    let stats = world.brokers[A].ledger.stats();
    assert_eq!((stats.totals.admitted, stats.totals.withdrawn, stats.in_flight, stats.imbalance), (2, 2, 0, 0));
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
