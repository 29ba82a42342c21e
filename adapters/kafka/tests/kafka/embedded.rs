//! On librdkafka's mock cluster: quick, and with errors on demand.

use rdkafka::{
    ClientConfig,
    mocking::MockCluster,
    producer::{FutureProducer, FutureRecord},
    types::RDKafkaRespErr,
};
use taskbroker_domain::ports::outbox::{Destination, Message, Outbox, PublishError};
use taskbroker_domain::ports::source::ActivationSource;
use taskbroker_kafka::{ClusterOptions, KafkaOutbox, KafkaOutboxOptions, embedded::EmbeddedKafka};

use crate::reader::{METADATA, Reader, options};

async fn produce(address: &str, topic: &str, partition: i32, count: usize) {
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", address).create().unwrap();
    for number in 0..count {
        let payload = format!("{partition}-{number}");
        let record = FutureRecord::<(), _>::to(topic).partition(partition).payload(&payload);
        producer.send_result(record).map_err(|(error, _)| error).unwrap().await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn records_are_delivered_once_and_in_order_and_the_end_is_told() {
    let kafka = EmbeddedKafka::start(&[("tasks", 2)]).unwrap();
    produce(kafka.address(), "tasks", 0, 20).await;
    produce(kafka.address(), "tasks", 1, 10).await;
    let reader = Reader::start(options(kafka.address(), "group", "tasks"));
    reader.until("both ends", |seen| seen.ends.get(&0) == Some(&20) && seen.ends.get(&1) == Some(&10)).await;
    reader.seen(|seen| {
        assert_eq!(seen.offsets(0), (0..20).collect::<Vec<_>>());
        assert_eq!(seen.offsets(1), (0..10).collect::<Vec<_>>());
        assert_eq!(seen.records.iter().find(|(partition, _)| *partition == 1).unwrap().1.payload, "1-0");
        assert_eq!(seen.connection, [true]);
    });
    assert_eq!(reader.source.status().assigned, [0, 1]);
}

#[tokio::test]
async fn a_commit_is_answered_and_a_successor_finds_it_with_its_metadata() {
    let kafka = EmbeddedKafka::start(&[("tasks", 1)]).unwrap();
    produce(kafka.address(), "tasks", 0, 5).await;
    let reader = Reader::start(options(kafka.address(), "group", "tasks"));
    reader.until("the end", |seen| seen.ends.contains_key(&0)).await;
    let assignment = reader.seen(|seen| {
        reader.source.commit(vec![crate::reader::Standing { next: 3, ..seen.positions[&0].clone() }.commit()]);
        seen.positions[&0].assignment
    });
    reader.until("the commit", |seen| seen.committed == [(0, assignment, 3)]).await;
    reader.close().await;
    let successor = Reader::start(options(kafka.address(), "group", "tasks"));
    successor.until("its end", |seen| seen.ends.contains_key(&0)).await;
    successor.seen(|seen| {
        let committed = seen.assigned[0].committed.clone().unwrap();
        assert_eq!((committed.offset, &*committed.metadata), (5, METADATA));
        assert!(seen.records.is_empty());
    });
}

#[tokio::test]
async fn reading_goes_on_by_itself_when_kafka_was_away() {
    let kafka = EmbeddedKafka::start(&[("tasks", 1)]).unwrap();
    produce(kafka.address(), "tasks", 0, 3).await;
    let reader = Reader::start(options(kafka.address(), "group", "tasks"));
    reader.until("the first records", |seen| seen.records.len() == 3).await;
    kafka.set_reachable(false).unwrap();
    reader.until("that it is away", |seen| seen.connection == [true, false]).await;
    assert_eq!(reader.source.status().connected, Some(false));
    kafka.set_reachable(true).unwrap();
    reader.until("that it is back", |seen| seen.connection.last() == Some(&true)).await;
    produce(kafka.address(), "tasks", 0, 2).await;
    reader.until("what came later", |seen| seen.positions.get(&0).is_some_and(|standing| standing.next == 5)).await;
}

#[tokio::test]
async fn room_bounds_what_is_delivered() {
    let kafka = EmbeddedKafka::start(&[("tasks", 1)]).unwrap();
    produce(kafka.address(), "tasks", 0, 50).await;
    let mut options = options(kafka.address(), "group", "tasks");
    options.batch_max = 8.try_into().unwrap();
    let reader = Reader::start(options);
    reader.set_room(0);
    reader.until("the assignment", |seen| !seen.assigned.is_empty()).await;
    // It fills what it may keep, and no more.
    while reader.source.status().waiting_records < 8 {
        tokio::task::yield_now().await;
    }
    reader.seen(|seen| assert!(seen.records.is_empty()));
    reader.set_room(3);
    reader.until("everything", |seen| seen.ends.get(&0) == Some(&50)).await;
    reader.seen(|seen| assert_eq!(seen.offsets(0), (0..50).collect::<Vec<_>>()));
}

fn message(payload: &str) -> Message {
    let payload = payload.as_bytes().to_vec().into();
    Message { destination: Destination::Retry, key: None, payload, headers: Vec::new() }
}

#[tokio::test]
async fn errors_of_the_cluster_are_told_apart_by_whether_they_may_pass() {
    use RDKafkaRespErr as Code;
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("retries", 1, 1).unwrap();
    let cluster_options = ClusterOptions::plaintext(cluster.bootstrap_servers());
    let outbox = KafkaOutbox::new(KafkaOutboxOptions::on(&cluster_options, "retries", "dead")).unwrap();
    let produce = rdkafka::types::RDKafkaApiKey::Produce;
    cluster.request_errors(produce, &[Code::RD_KAFKA_RESP_ERR_INVALID_RECORD]);
    assert!(matches!(outbox.publish(message("a")).await, Err(PublishError::Refused(_))));
    cluster.request_errors(produce, &[Code::RD_KAFKA_RESP_ERR_POLICY_VIOLATION]);
    assert!(matches!(outbox.publish(message("b")).await, Err(PublishError::NotSent(_))));
    // Once too large may be its batch's fault; twice is its own.
    cluster.request_errors(produce, &[Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    assert_eq!(outbox.publish(message("c")).await, Ok(()));
    cluster.request_errors(produce, &[Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 2]);
    assert!(matches!(outbox.publish(message("d")).await, Err(PublishError::Refused(_))));
    assert_eq!(outbox.publish(message("e")).await, Ok(()));
}
