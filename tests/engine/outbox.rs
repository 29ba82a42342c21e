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

#[tokio::test(start_paused = true)]
async fn a_bug_in_publishing_parks_the_one_message_and_gives_its_place_back() {
    let mut options = options();
    options.publish_concurrency = 1;
    let world = World::new(options).await;
    world.produce(&dead_letter(task("a")));
    world.produce(&dead_letter(task("b")));
    world.next().await;
    world.next().await;
    world.outbox.next(Outcome::Panics);
    world.report("a", Verdict::Failure).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.report("b", Verdict::Failure).await.unwrap();
    let sent = pb::TaskActivation::decode(world.delivered(1).await.remove(0).payload).unwrap();
    assert_eq!(sent.id, "b");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((world.broker.stats().depths.parked, world.broker.stats().in_flight), (1, 1));
    world.balanced();
}

#[tokio::test(start_paused = true)]
async fn an_at_most_once_retry_that_a_bug_may_have_sent_fails() {
    let world = World::new(options()).await;
    world.outbox.next(Outcome::Panics);
    world.produce(&at_most_once(task("a")));
    world.next().await;
    world.retry("a").await;
    world.empty().await;
    assert_eq!((world.outbox.attempts(), world.broker.stats().totals.discarded), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_at_most_once_retry_that_was_certainly_not_sent_before_a_stop_is_sent_after_it() {
    let world = World::new(options()).await;
    world.outbox.usually(Outcome::NotSent);
    world.produce(&at_most_once(task("a")));
    world.next().await;
    world.retry("a").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(world.outbox.attempts() > 1);
    let world = world.restart().await;
    world.outbox.usually(Outcome::Delivered);
    assert_eq!(world.delivered(1).await.len(), 1);
    world.empty().await;
    assert_eq!(world.broker.stats().totals.discarded, 0);
}

#[tokio::test(start_paused = true)]
async fn an_at_most_once_retry_behind_one_that_hangs_was_certainly_not_sent() {
    let mut options = options();
    options.publish_concurrency = 1;
    let world = World::new(options).await;
    world.produce(&task("hangs"));
    world.produce(&at_most_once(task("behind")));
    world.next().await;
    world.next().await;
    world.outbox.next(Outcome::Hangs);
    world.retry("hangs").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.retry("behind").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let world = world.restart().await;
    assert_eq!(world.delivered(2).await.len(), 2);
    world.empty().await;
    assert_eq!(world.broker.stats().totals.discarded, 0);
}

#[tokio::test(start_paused = true)]
async fn an_at_most_once_retry_under_way_at_a_stop_stays_in_doubt() {
    let world = World::new(options()).await;
    world.outbox.next(Outcome::Hangs);
    world.produce(&at_most_once(task("a")));
    world.next().await;
    world.retry("a").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.outbox.attempts(), 1);
    let world = world.restart().await;
    world.empty().await;
    assert_eq!((world.outbox.messages().len(), world.outbox.attempts()), (0, 1), "it is not sent again");
}
