//! The outbox on a real Kafka.

use std::time::{Duration, Instant};

use bytes::Bytes;
use taskbroker_domain::ports::outbox::{Destination, Message, Outbox, PublishError};
use taskbroker_kafka::{ClusterOptions, KafkaOutbox, KafkaOutboxOptions};
use taskbroker_support::kafka::Kafka;

fn options(kafka: &Kafka, retries: &str, dead: &str) -> KafkaOutboxOptions {
    KafkaOutboxOptions {
        delivery_limit: Duration::from_secs(5),
        ..KafkaOutboxOptions::on(&ClusterOptions::plaintext(kafka.address()), retries, dead)
    }
}

fn message(destination: Destination, payload: impl Into<Bytes>) -> Message {
    Message { destination, key: None, payload: payload.into(), headers: Vec::new() }
}

#[tokio::test]
async fn a_published_message_is_in_its_topic_with_key_and_headers() {
    let Some(kafka) = Kafka::shared() else { return };
    let (retries, dead) = (kafka.new_topic("retries", 8).await.unwrap(), kafka.new_topic("dead", 1).await.unwrap());
    let outbox = KafkaOutbox::new(options(&kafka, &retries, &dead)).unwrap();
    let headers = vec![("reason".to_owned(), Bytes::from("because")), ("empty".to_owned(), Bytes::new())];
    let retry = Message { key: Some("id".into()), headers, ..message(Destination::Retry, "retry") };
    outbox.publish(retry.clone()).await.unwrap();
    outbox.publish(retry).await.unwrap();
    outbox.publish(message(Destination::DeadLetter, "")).await.unwrap();
    let found = kafka.consume_all(&retries).await.unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].partition, found[1].partition, "copies of one key meet in one partition");
    assert_eq!((found[0].key.as_deref(), &*found[0].payload), (Some(&b"id"[..]), &b"retry"[..]));
    assert_eq!((found[0].header("reason"), found[0].header("empty")), (Some(&b"because"[..]), Some(&b""[..])));
    let found = kafka.consume_all(&dead).await.unwrap();
    assert_eq!((found.len(), &*found[0].payload), (1, &b""[..]));
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_its_company_is_not() {
    let Some(kafka) = Kafka::shared() else { return };
    let dead = Kafka::unique("small");
    kafka.create_topic(&dead, 1, &[("max.message.bytes", "100000")]).await.unwrap();
    let outbox = std::sync::Arc::new(KafkaOutbox::new(options(&kafka, &dead, &dead)).unwrap());
    let publish = |size: usize| {
        let outbox = std::sync::Arc::clone(&outbox);
        tokio::spawn(async move { outbox.publish(message(Destination::DeadLetter, vec![7; size])).await })
    };
    // Together they are larger than the topic allows a batch to be; so is one of them alone.
    let mut outcomes = Vec::new();
    for publishing in (0..30).map(|number| publish(if number == 3 { 150_000 } else { 9_000 })).collect::<Vec<_>>() {
        outcomes.push(publishing.await.unwrap());
    }
    for (number, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Err(PublishError::Refused(reason)) if number == 3 => assert!(reason.contains(&dead), "{reason}"),
            outcome => assert_eq!(outcome, Ok(()), "message {number}"),
        }
    }
    assert_eq!(kafka.consume_all(&dead).await.unwrap().len(), 29);
}

#[tokio::test]
async fn twenty_megabytes_are_refused_by_the_cluster_and_nothing_else_suffers() {
    let Some(kafka) = Kafka::shared() else { return };
    let dead = kafka.new_topic("large", 1).await.unwrap();
    let outbox = KafkaOutbox::new(options(&kafka, &dead, &dead)).unwrap();
    let outcome = outbox.publish(message(Destination::DeadLetter, vec![7; 20 << 20])).await;
    assert!(matches!(outcome, Err(PublishError::Refused(_))), "{outcome:?}");
    outbox.publish(message(Destination::DeadLetter, "small")).await.unwrap();
}

#[tokio::test]
async fn a_topic_that_does_not_exist_may_come() {
    let Some(kafka) = Kafka::shared() else { return };
    let retries = Kafka::unique("missing");
    let outbox = KafkaOutbox::new(options(&kafka, &retries, "dead")).unwrap();
    let publishing = Instant::now();
    let outcome = outbox.publish(message(Destination::Retry, "early")).await;
    assert!(
        matches!(&outcome, Err(PublishError::NotSent(reason) | PublishError::Unavailable(reason)) if reason.contains(&retries)),
        "{outcome:?}"
    );
    assert!(publishing.elapsed() < Duration::from_secs(7), "{:?}", publishing.elapsed());
    kafka.create_topic(&retries, 1, &[]).await.unwrap();
    while outbox.publish(message(Destination::Retry, "later")).await.is_err() {}
}

#[tokio::test]
async fn a_closed_outbox_publishes_nothing_more() {
    let Some(kafka) = Kafka::shared() else { return };
    let retries = kafka.new_topic("closed", 1).await.unwrap();
    let outbox = KafkaOutbox::new(options(&kafka, &retries, "dead")).unwrap();
    outbox.publish(message(Destination::Retry, "open")).await.unwrap();
    outbox.close(Duration::from_secs(2)).await;
    let outcome = outbox.publish(message(Destination::Retry, "closed")).await;
    assert!(matches!(outcome, Err(PublishError::NotSent(_))), "{outcome:?}");
    assert_eq!(kafka.consume_all(&retries).await.unwrap().len(), 1);
}
