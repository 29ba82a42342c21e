//! Stopping and starting again.

use std::time::Duration;

use taskbroker_domain::ports::{
    service::{Reported, Wanted},
    store::{ActivationStore, RowState},
};
use taskbroker_memory::Outcome;

use crate::world::{World, options, task};

#[tokio::test(start_paused = true)]
async fn an_orderly_stop_leaves_everything_as_rows_and_the_store_closed() {
    let world = World::new(options()).await;
    for id in ["a", "b"] {
        world.produce(&task(id));
    }
    world.next().await;
    let world = world.restart().await;
    assert!(world.store.state().await.unwrap().closed);
    let states: Vec<_> = world.rows().await.into_iter().map(|row| row.state).collect();
    assert!(matches!(states[..], [RowState::Processing { .. }, RowState::Pending { .. }]), "{states:?}");
    assert_eq!(world.log.committed(&world.partition).unwrap().offset, 2);
    assert_eq!(world.next().await.id, "b");
    assert_eq!(world.complete("a").await, Reported::Settled, "its lease goes on");
    world.complete("b").await;
    world.empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_survives_a_restart_and_is_not_reset_early() {
    let world = World::new(options()).await;
    world.produce(&task("a"));
    world.next().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let world = world.restart().await;
    world.nothing_for(Duration::from_millis(7_900)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(world.next().await.id, "a");
}

#[tokio::test(start_paused = true)]
async fn a_retry_in_the_store_is_published_after_a_restart() {
    let world = World::new(options()).await;
    world.outbox.usually(Outcome::Unavailable);
    world.produce(&task("a"));
    world.next().await;
    world.retry("a").await;
    let world = world.restart().await;
    world.outbox.usually(Outcome::Delivered);
    assert_eq!(world.delivered(1).await.len(), 1);
    world.empty().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_handed_out_once_intake_is_stopped_but_reports_are_taken() {
    let world = World::new(options()).await;
    world.produce(&task("a"));
    world.produce(&task("b"));
    world.next().await;
    world.broker.stop_intake();
    assert!(world.workers.fetch(Wanted::Any).await.is_err());
    assert_eq!(world.complete("a").await, Reported::Settled);
}

#[tokio::test(start_paused = true)]
async fn stopping_is_bounded_whatever_hangs() {
    let world = World::new(options()).await;
    world.produce(&task("a"));
    world.next().await;
    let held = world.store.faults().hold_next_commit();
    let began = tokio::time::Instant::now();
    world.broker.shut_down(Duration::from_secs(5)).await;
    assert!(began.elapsed() <= Duration::from_millis(5_100));
    drop(held);
}
