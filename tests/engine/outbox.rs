//! What leaves through Kafka.

use std::time::Duration;

use prost::Message as _;
use taskbroker_domain::{
    lifecycle::Publication,
    ports::{
        outbox::Destination,
        service::{Reported, Verdict},
        store::RowState,
    },
};
use taskbroker_memory::Outcome;
use taskbroker_proto::{MARK_HEADER, pb};

use crate::world::{World, at_most_once, dead_letter, options, task};

#[tokio::test(start_paused = true)]
async fn a_retry_is_published_with_a_derived_id_then_removed() {
    let world = World::new(options()).await;
    world.produce(&task("a"));
    world.next().await;
    assert_eq!(world.retry("a").await, Reported::Settled);
    let message = world.delivered(1).await.remove(0);
    let retry = pb::TaskActivation::decode(message.payload.clone()).unwrap();
    assert_eq!(message.destination, Destination::Retry);
    assert_eq!(message.key.unwrap(), retry.id);
    assert!(message.headers.iter().any(|(name, _)| name == MARK_HEADER));
    assert_eq!(retry.retry_state.unwrap().attempts, 1);
    assert_eq!(retry.retry_state.unwrap().max_attempts, 3);
    assert_ne!(retry.id, "a");
    world.empty().await;
    assert_eq!(world.broker.stats().totals.retried, 1);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_cannot_be_published_stays_in_the_store_and_goes_later() {
    let world = World::new(options()).await;
    world.outbox.usually(Outcome::Unavailable);
    world.produce(&task("a"));
    world.next().await;
    world.retry("a").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(matches!(world.rows().await[0].state, RowState::Retry { .. }));
    world.outbox.usually(Outcome::Delivered);
    world.delivered(1).await;
    world.empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_published_twice_has_the_same_id() {
    let world = World::new(options()).await;
    world.outbox.next(Outcome::AcknowledgementLost);
    world.produce(&task("a"));
    world.next().await;
    world.retry("a").await;
    let messages = world.delivered(2).await;
    assert_eq!(messages[0].key, messages[1].key);
    world.empty().await;
}

#[tokio::test(start_paused = true)]
async fn an_at_most_once_retry_of_unknown_outcome_is_not_sent_again() {
    let world = World::new(options()).await;
    world.outbox.next(Outcome::AcknowledgementLost);
    world.produce(&at_most_once(task("a")));
    world.next().await;
    world.retry("a").await;
    world.empty().await;
    assert_eq!(world.outbox.messages().len(), 1);
    assert_eq!(world.broker.stats().totals.discarded, 1);
}

#[tokio::test(start_paused = true)]
async fn what_kafka_refuses_is_parked_and_listed() {
    let world = World::new(options()).await;
    world.outbox.next(Outcome::Refused);
    world.produce(&dead_letter(task("a")));
    world.next().await;
    world.report("a", Verdict::Failure).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.broker.stats().depths.parked, 1);
    assert!(matches!(&world.rows().await[0].state, RowState::Failed { publication: Publication::Parked(_), .. }));
    let world = world.restart().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        (world.broker.stats().depths.parked, world.outbox.attempts()),
        (1, 1),
        "it is not tried again by itself"
    );
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_hangs_holds_up_nothing_but_its_own() {
    let mut options = options();
    options.publish_concurrency = 1;
    let world = World::new(options).await;
    world.produce(&dead_letter(task("a")));
    world.produce(&task("b"));
    world.next().await;
    world.next().await;
    world.outbox.next(Outcome::Hangs);
    world.report("a", Verdict::Failure).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.retry("b").await;
    let messages = world.delivered(1).await;
    assert_eq!(messages[0].destination, Destination::Retry);
}
