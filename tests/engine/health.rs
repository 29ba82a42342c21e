//! What the broker calls standing still, and what not.

use std::{sync::Arc, time::Duration};

use taskbroker::engine::Trouble;
use taskbroker_domain::ports::service::{Offer, TaskService, Wanted};
use taskbroker_memory::Answer;
use taskbroker_proto::pb;
use tokio::time::sleep;

use crate::world::{World, options, task};

/// A broker whose topic has ten records, of which it reads none.
async fn stuck() -> World {
    let world = World::unassigned(options()).await;
    for id in 0..10 {
        world.produce(&task(&id.to_string()));
    }
    world.source.is_stuck(true);
    world.source.assign(std::slice::from_ref(&world.partition));
    world
}

#[tokio::test(start_paused = true)]
async fn records_that_nobody_reads_although_kafka_answers_are_trouble() {
    let world = stuck().await;
    sleep(Duration::from_secs(59)).await;
    assert!(world.broker.health().is_good(), "{:?}", world.broker.health());
    sleep(Duration::from_secs(3)).await;
    let troubles = world.broker.health().troubles;
    assert!(matches!(&troubles[..], [Trouble::NothingRead { waiting: 10, .. }]), "{troubles:?}");
    let said = troubles[0].to_string();
    assert!(said.starts_with("10 messages of topic taskworker wait in Kafka"), "{said}");
    world.source.is_stuck(false);
    world.next().await;
    assert!(world.broker.health().is_good());
}

#[tokio::test(start_paused = true)]
async fn a_kafka_that_is_away_is_no_trouble() {
    let world = stuck().await;
    sleep(Duration::from_secs(1)).await;
    world.source.connected(false);
    sleep(Duration::from_secs(600)).await;
    assert!(world.broker.health().is_good(), "{:?}", world.broker.health());
    world.source.connected(true);
    sleep(Duration::from_secs(59)).await;
    assert!(world.broker.health().is_good(), "it has a minute again: {:?}", world.broker.health());
}

#[tokio::test(start_paused = true)]
async fn records_for_which_there_is_no_room_are_no_trouble() {
    let mut options = options();
    options.policy.limits.pending = 2;
    options.policy.unserved_after = Duration::from_secs(3600);
    let world = World::unassigned(options).await;
    for id in 0..10 {
        world.produce(&task(&id.to_string()));
    }
    world.source.assign(std::slice::from_ref(&world.partition));
    sleep(Duration::from_secs(600)).await;
    assert_eq!(world.broker.stats().depths.pending, 2);
    assert!(world.broker.health().is_good(), "{:?}", world.broker.health());
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_read_to_its_end_is_no_trouble() {
    let world = World::new(options()).await;
    world.produce(&task("a"));
    world.next().await;
    sleep(Duration::from_secs(600)).await;
    assert!(world.broker.health().is_good(), "{:?}", world.broker.health());
}

fn of_stuck(id: &str) -> pb::TaskActivation {
    let application = Some("stuck".into());
    pb::TaskActivation { application, parameters_bytes: vec![b'x'; 100_000].into(), ..task(id) }
}

/// Asks for tasks of this application, again and again.
fn keeps_asking(workers: Arc<dyn TaskService>, application: &str) {
    let wanted = Wanted::Application(application.into());
    tokio::spawn(async move {
        loop {
            // Whatever is got is kept.
            workers.fetch(wanted.clone()).await.ok().flatten().map(Offer::sent);
            sleep(Duration::from_millis(100)).await;
        }
    });
}

#[tokio::test(start_paused = true)]
async fn an_application_that_gets_nothing_does_not_hide_behind_one_that_does() {
    let mut options = options();
    options.policy.payload_memory_bytes = 150_000;
    let world = World::new(options).await;
    for id in 0..40 {
        world.produce(&task(&id.to_string()));
    }
    for id in 0..5 {
        world.produce(&of_stuck(&format!("stuck-{id}")));
    }
    sleep(Duration::from_secs(1)).await;
    // One for the payloads; the other for the store's size, which is asked for every second.
    world.store.faults().next_read(Answer::Never);
    world.store.faults().next_read(Answer::Never);
    keeps_asking(world.workers.clone(), "stuck");
    for _ in 0..30 {
        let id = world.next().await.id;
        world.complete(&id).await;
        sleep(Duration::from_millis(500)).await;
    }
    let troubles = world.broker.health().troubles;
    let of_whom = |trouble: &Trouble| match trouble {
        Trouble::NothingHandedOut { application, .. } => Some(application.to_string()),
        _ => None,
    };
    assert_eq!(troubles.iter().filter_map(of_whom).collect::<Vec<_>>(), ["stuck"], "{troubles:?}");
}
