//! An outbox of several clusters, on librdkafka's mock cluster.

use std::time::{Duration, Instant};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use taskbroker_domain::ports::outbox::{Destination, Message, Outbox, PublishError};
use taskbroker_kafka::{ClusterOptions, KafkaOutbox, KafkaOutboxOptions, Target, embedded::EmbeddedKafka};

fn cluster(kafka: &EmbeddedKafka) -> ClusterOptions {
    ClusterOptions::plaintext(kafka.address())
}

fn target(kafka: &EmbeddedKafka, topic: &str) -> Target {
    Target { topic: topic.to_owned(), cluster: cluster(kafka) }
}

fn message(destination: Destination, bytes: usize) -> Message {
    Message { destination, key: None, payload: vec![7; bytes].into(), headers: Vec::new() }
}

/// How many messages a topic of one partition holds.
fn held(kafka: &EmbeddedKafka, topic: &str) -> i64 {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", kafka.address()).create().unwrap();
    let (low, high) = client.fetch_watermarks(topic, 0, Duration::from_secs(30)).unwrap();
    high - low
}

fn start(topic: &str) -> EmbeddedKafka {
    EmbeddedKafka::start(&[(topic, 1)]).unwrap()
}

#[tokio::test]
async fn each_destination_is_on_the_cluster_of_its_topic() {
    let (first, second, third) = (start("retries"), start("dead"), start("long"));
    let options = KafkaOutboxOptions {
        forward: target(&second, "also-dead"),
        ..KafkaOutboxOptions::new(target(&first, "retries"), target(&second, "dead"))
    };
    second.create_topic("also-dead", 1).unwrap();
    let outbox = KafkaOutbox::new(options).unwrap();
    for destination in [Destination::Retry, Destination::DeadLetter, Destination::Forward] {
        assert_eq!(outbox.publish(message(destination, 3)).await, Ok(()), "{destination:?}");
    }
    assert_eq!([held(&first, "retries"), held(&second, "dead"), held(&second, "also-dead")], [1, 1, 1]);
    outbox.set_forward("long", &cluster(&third)).unwrap();
    assert_eq!(outbox.publish(message(Destination::Forward, 3)).await, Ok(()));
    assert_eq!([held(&second, "also-dead"), held(&third, "long")], [1, 1]);
}

#[tokio::test]
async fn a_cluster_that_is_away_stops_nothing_on_another() {
    let (here, away) = (start("retries"), start("dead"));
    let options = KafkaOutboxOptions {
        delivery_limit: Duration::from_secs(120),
        ..KafkaOutboxOptions::new(target(&here, "retries"), target(&away, "dead"))
    };
    let outbox = std::sync::Arc::new(KafkaOutbox::new(options).unwrap());
    away.set_reachable(false).unwrap();
    let waiting = tokio::spawn({
        let outbox = outbox.clone();
        async move { outbox.publish(message(Destination::DeadLetter, 3)).await }
    });
    for _ in 0..20 {
        let publishing = outbox.publish(message(Destination::Retry, 3));
        assert_eq!(tokio::time::timeout(Duration::from_secs(60), publishing).await, Ok(Ok(())));
    }
    assert!(!waiting.is_finished(), "the other cluster is away");
    away.set_reachable(true).unwrap();
    assert_eq!(waiting.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn what_is_larger_than_the_limit_is_refused_at_once_though_the_cluster_is_away() {
    let away = start("retries");
    let options = KafkaOutboxOptions {
        delivery_limit: Duration::from_secs(120),
        message_bytes_max: 100_000,
        ..KafkaOutboxOptions::on(&cluster(&away), "retries", "dead")
    };
    let outbox = std::sync::Arc::new(KafkaOutbox::new(options).unwrap());
    away.set_reachable(false).unwrap();
    let waiting = tokio::spawn({
        let outbox = outbox.clone();
        async move { outbox.publish(message(Destination::Retry, 3)).await }
    });
    tokio::task::yield_now().await;
    let asked = Instant::now();
    let outcome = outbox.publish(message(Destination::Retry, 200_000)).await;
    assert!(matches!(&outcome, Err(PublishError::Refused(reason)) if reason.contains("retries")), "{outcome:?}");
    assert!(asked.elapsed() < Duration::from_secs(60), "{:?}", asked.elapsed());
    away.set_reachable(true).unwrap();
    assert_eq!(waiting.await.unwrap(), Ok(()));
}

/// What becomes of a message for which the queue has no room, and which may wait for it so long, on a cluster that is away for so
/// long, or until the message has given up. With a hurry, the message is told of it when it waits.
async fn without_room(send_limit: Duration, away_for: Duration, hurry: bool) -> Result<(), PublishError> {
    let away = start("retries");
    let options = KafkaOutboxOptions {
        delivery_limit: Duration::from_secs(120),
        send_limit,
        queue_bytes: 64 << 10,
        ..KafkaOutboxOptions::on(&cluster(&away), "retries", "dead")
    };
    let outbox = std::sync::Arc::new(KafkaOutbox::new(options).unwrap());
    away.set_reachable(false).unwrap();
    let publish = || {
        let outbox = outbox.clone();
        tokio::spawn(async move { outbox.publish(message(Destination::Retry, 30_000)).await })
    };
    let waiting = [publish(), publish()];
    tokio::task::yield_now().await;
    let mut beyond = publish();
    if hurry {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!beyond.is_finished(), "it waits");
        outbox.hurry();
    }
    let given_up = tokio::time::timeout(away_for, &mut beyond).await;
    away.set_reachable(true).unwrap();
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), Ok(()));
    }
    let outcome = match given_up {
        Ok(outcome) => outcome.unwrap(),
        Err(_) => beyond.await.unwrap(),
    };
    assert_eq!(publish().await.unwrap(), Ok(()));
    assert_eq!(held(&away, "retries"), 3 + i64::from(outcome.is_ok()));
    outcome
}

#[tokio::test]
async fn what_finds_no_room_was_certainly_not_sent() {
    let outcome = without_room(Duration::from_millis(20), Duration::from_secs(60), false).await;
    assert!(matches!(outcome, Err(PublishError::NotSent(_))), "{outcome:?}");
}

#[tokio::test]
async fn what_finds_no_room_waits_for_it_as_long_as_it_may() {
    assert_eq!(without_room(Duration::from_secs(120), Duration::from_secs(1), false).await, Ok(()));
}

#[tokio::test]
async fn what_waits_for_room_when_the_broker_stops_was_certainly_not_sent_at_once() {
    let outcome = without_room(Duration::from_secs(120), Duration::from_secs(60), true).await;
    assert!(matches!(outcome, Err(PublishError::NotSent(_))), "{outcome:?}");
}
