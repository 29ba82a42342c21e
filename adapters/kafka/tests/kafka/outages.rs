//! Kafka stopped, frozen, away. On a real Kafka of the test's own.

use std::time::{Duration, Instant};

use taskbroker_domain::ports::outbox::{Destination, Message as Outgoing, Outbox, PublishError};
use taskbroker_domain::ports::source::ActivationSource;
use taskbroker_kafka::{ClusterOptions, KafkaOutbox, KafkaOutboxOptions, KafkaSourceOptions};
use taskbroker_support::kafka::{Kafka, Message};

use crate::reader::{Reader, options};

fn tasks(count: usize) -> Vec<Message> {
    (0..count).map(|number| Message::new(format!("task {number}")).partition(0)).collect()
}

#[tokio::test]
async fn reading_resumes_soon_after_kafka_was_stopped() {
    let Some(kafka) = Kafka::own() else { return };
    let topic = kafka.new_topic("outage", 1).await.unwrap();
    kafka.produce(&topic, tasks(10)).await.unwrap();
    let reader = Reader::start(options(kafka.address(), "group", &topic));
    reader.until("the first records", |seen| seen.ends.get(&0) == Some(&10)).await;
    reader.source.commit(reader.seen(|seen| seen.commits()));
    reader.until("the commit", |seen| seen.committed.len() == 1).await;
    kafka.kill().unwrap();
    reader.until("that it is away", |seen| seen.connection == [true, false]).await;
    kafka.start_again().unwrap();
    let answers_again = Instant::now();
    kafka.produce(&topic, tasks(10)).await.unwrap();
    reader.until("the later records", |seen| seen.positions.get(&0).is_some_and(|at| at.next == 20)).await;
    assert!(answers_again.elapsed() < Duration::from_secs(10), "{:?}", answers_again.elapsed());
    reader.seen(|seen| {
        assert_eq!(seen.connection.last(), Some(&true));
        assert_eq!(seen.offsets(0), (0..20).collect::<Vec<_>>());
    });
}

#[tokio::test]
async fn a_session_that_ends_while_kafka_is_frozen_is_lost_at_once_and_comes_back() {
    let Some(kafka) = Kafka::own() else { return };
    let topic = kafka.new_topic("frozen", 1).await.unwrap();
    kafka.produce(&topic, tasks(3)).await.unwrap();
    let session_timeout = Duration::from_secs(2);
    let reader = Reader::start(KafkaSourceOptions { session_timeout, ..options(kafka.address(), "group", &topic) });
    reader.until("the first records", |seen| seen.ends.get(&0) == Some(&3)).await;
    kafka.freeze().unwrap();
    reader.until("that it is away", |seen| seen.connection == [true, false]).await;
    reader.until("the loss", |seen| seen.lost.len() == 1 && seen.positions.is_empty()).await;
    kafka.thaw().unwrap();
    reader.until("a new assignment", |seen| seen.records.len() == 6 && seen.assigned.len() == 2).await;
    reader.seen(|seen| {
        assert!(seen.assigned[1].assignment > seen.assigned[0].assignment);
        assert_eq!(seen.offsets(0), [0, 1, 2, 0, 1, 2], "nothing was committed");
    });
    assert_eq!(reader.source.status().assignments_lost, 1);
}

#[tokio::test]
async fn closing_does_not_wait_for_a_kafka_that_is_away() {
    for frozen in [false, true] {
        let Some(kafka) = Kafka::own() else { return };
        let topic = kafka.new_topic("close", 2).await.unwrap();
        kafka.produce(&topic, tasks(3)).await.unwrap();
        let reader = Reader::start(options(kafka.address(), "group", &topic));
        reader.until("the records", |seen| seen.ends.len() == 2).await;
        if frozen {
            kafka.freeze().unwrap();
        } else {
            kafka.kill().unwrap();
        }
        let closing = Instant::now();
        reader.close().await;
        assert!(closing.elapsed() < Duration::from_secs(5), "{:?}, frozen: {frozen}", closing.elapsed());
    }
}

#[tokio::test]
async fn closing_before_anything_was_assigned_is_quick() {
    let reader = Reader::start(options("127.0.0.1:1", "group", "topic"));
    reader.until("that there is no Kafka", |seen| seen.connection == [false]).await;
    let closing = Instant::now();
    reader.close().await;
    assert!(closing.elapsed() < Duration::from_secs(5), "{:?}", closing.elapsed());
}

#[tokio::test]
async fn publishing_while_kafka_is_away_fails_in_time_and_works_again_afterwards() {
    let Some(kafka) = Kafka::own() else { return };
    kafka.create_topic("retries", 1, &[]).await.unwrap();
    let outbox = KafkaOutbox::new(KafkaOutboxOptions {
        delivery_limit: Duration::from_secs(2),
        ..KafkaOutboxOptions::on(&ClusterOptions::plaintext(kafka.address()), "retries", "dead")
    })
    .unwrap();
    let message = |payload: &'static str| Outgoing {
        destination: Destination::Retry,
        key: None,
        payload: payload.into(),
        headers: Vec::new(),
    };
    outbox.publish(message("before")).await.unwrap();
    kafka.kill().unwrap();
    let publishing = Instant::now();
    let outcome = outbox.publish(message("meanwhile")).await;
    assert!(matches!(outcome, Err(PublishError::NotSent(_) | PublishError::Unavailable(_))), "{outcome:?}");
    assert!(publishing.elapsed() < Duration::from_secs(4), "{:?}", publishing.elapsed());
    kafka.start_again().unwrap();
    while outbox.publish(message("after")).await.is_err() {}
    let payloads: Vec<_> = kafka.consume_all("retries").await.unwrap().into_iter().map(|one| one.payload).collect();
    assert!(payloads.contains(&b"before".to_vec()) && payloads.contains(&b"after".to_vec()), "{payloads:?}");
}
