//! What logs do: gaps, ends, retention, topics that come, grow, go and come again. On a real Kafka.

use bytes::Bytes;
use taskbroker_domain::ports::source::ActivationSource;
use taskbroker_domain::time::Timestamp;
use taskbroker_kafka::{GroupProtocol, KafkaSourceOptions, TopicStatus};
use taskbroker_support::kafka::{Ending, Kafka, Message};

use crate::reader::{Conduct, Reader, options};

fn tasks(count: usize) -> Vec<Message> {
    (0..count).map(|number| Message::new(format!("task {number}")).partition(0)).collect()
}

fn protocols() -> [GroupProtocol; 3] {
    [GroupProtocol::default(), GroupProtocol::Classic("cooperative-sticky".to_owned()), GroupProtocol::Consumer]
}

#[tokio::test]
async fn markers_of_transactions_are_skipped_and_the_end_is_behind_them() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = kafka.new_topic("markers", 1).await.unwrap();
    kafka.transaction(&topic, tasks(2), Ending::Commit).await.unwrap();
    kafka.produce(&topic, tasks(1)).await.unwrap();
    kafka.transaction(&topic, tasks(3), Ending::Abort).await.unwrap();
    kafka.transaction(&topic, tasks(1), Ending::Commit).await.unwrap();
    let end = kafka.log_range(&topic, 0).await.unwrap().end;
    assert_eq!(end, 10, "seven records and three markers");
    let reader = Reader::start(options(kafka.address(), &Kafka::unique("group"), &topic));
    reader.until("the end", |seen| seen.ends.get(&0) == Some(&end)).await;
    // 2 is a marker; 4 to 7 were taken back, with their marker; 9 is a marker.
    reader.seen(|seen| assert_eq!(seen.offsets(0), [0, 1, 3, 8]));
}

#[tokio::test]
async fn a_log_of_nothing_but_markers_is_read_to_its_end() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = kafka.new_topic("aborted", 1).await.unwrap();
    kafka.transaction(&topic, tasks(5), Ending::Abort).await.unwrap();
    let reader = Reader::start(options(kafka.address(), &Kafka::unique("group"), &topic));
    reader.until("the end", |seen| seen.ends.get(&0) == Some(&6)).await;
    kafka.transaction(&topic, tasks(1), Ending::Abort).await.unwrap();
    reader.until("the later end", |seen| seen.ends.get(&0) == Some(&8)).await;
    reader.seen(|seen| assert!(seen.records.is_empty()));
}

#[tokio::test]
async fn a_record_is_read_with_all_that_belongs_to_it() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = kafka.new_topic("whole", 1).await.unwrap();
    let whole = Message::new("value").key("key").timestamp_ms(1_700_000_000_123);
    let whole = whole.header("one", "1").header("empty", "").header("one", "again").partition(0);
    kafka.produce(&topic, [whole, Message::without_value().partition(0)]).await.unwrap();
    let reader = Reader::start(options(kafka.address(), &Kafka::unique("group"), &topic));
    reader.until("both", |seen| seen.records.len() == 2).await;
    reader.seen(|seen| {
        let first = &seen.records[0].1;
        assert_eq!((first.offset, first.leader_epoch), (0, Some(0)));
        assert_eq!(first.timestamp, Some(Timestamp::from_millis(1_700_000_000_123)));
        assert_eq!(first.payload, "value");
        let header = |name: &str, value: &'static str| (name.to_owned(), Bytes::from_static(value.as_bytes()));
        assert_eq!(first.headers, [header("one", "1"), header("empty", ""), header("one", "again")]);
        assert!(seen.records[1].1.payload.is_empty());
    });
}

#[tokio::test]
async fn what_an_operator_committed_is_told_as_it_is() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = kafka.new_topic("operator", 2).await.unwrap();
    let group = Kafka::unique("group");
    kafka.produce(&topic, tasks(9)).await.unwrap();
    kafka.set_committed(&group, &topic, 0, 4, "an operator").await.unwrap();
    let reader = Reader::start(options(kafka.address(), &group, &topic));
    reader.until("both", |seen| seen.ends.len() == 2).await;
    reader.seen(|seen| {
        let assigned = seen.assigned.iter().find(|assigned| assigned.partition.partition == 0).unwrap();
        let committed = assigned.committed.as_ref().unwrap();
        assert_eq!((committed.offset, &*committed.metadata), (4, "an operator"));
        assert_eq!((assigned.log_start, assigned.log_end), (0, 9));
        assert_eq!(seen.offsets(0), [4, 5, 6, 7, 8]);
        let other = seen.assigned.iter().find(|assigned| assigned.partition.partition == 1).unwrap();
        assert_eq!(other.committed, None);
    });
}

#[tokio::test]
async fn a_position_that_retention_overtook_is_out_of_range_and_waits_for_a_new_start() {
    for protocol in protocols() {
        let Some(kafka) = Kafka::shared() else { return };
        let topic = kafka.new_topic("retention", 2).await.unwrap();
        kafka.produce(&topic, tasks(10)).await.unwrap();
        kafka.delete_records(&topic, 0, 5).await.unwrap();
        let options = KafkaSourceOptions { protocol, ..options(kafka.address(), &Kafka::unique("group"), &topic) };
        let reader = Reader::with(options, Conduct { start: |_| Some(0), start_again: |_| None, ..Conduct::default() });
        reader.until("out of range", |seen| seen.out_of_range.len() == 1).await;
        let standing = reader.seen(|seen| {
            let assigned = &seen.out_of_range[0];
            assert_eq!((assigned.partition.partition, assigned.log_start, assigned.log_end), (0, 5, 10));
            seen.positions[&0].clone()
        });
        // The other partition goes on meanwhile, and is not disturbed by the new start.
        kafka.produce(&topic, [Message::new("other").partition(1)]).await.unwrap();
        reader.until("the other partition", |seen| seen.offsets(1) == [0]).await;
        reader.source.start(standing.start(5));
        reader.until("the end", |seen| seen.ends.get(&0) == Some(&10)).await;
        kafka.produce(&topic, [Message::new("other").partition(1), Message::new("one").partition(0)]).await.unwrap();
        reader.until("what came later", |seen| seen.records.len() == 8).await;
        reader.seen(|seen| {
            assert_eq!(seen.offsets(0), [5, 6, 7, 8, 9, 10]);
            assert_eq!(seen.offsets(1), [0, 1]);
        });
    }
}

#[tokio::test]
async fn a_position_beyond_the_end_is_out_of_range() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = kafka.new_topic("beyond", 1).await.unwrap();
    kafka.produce(&topic, tasks(3)).await.unwrap();
    let options = options(kafka.address(), &Kafka::unique("group"), &topic);
    let reader = Reader::with(options, Conduct { start: |_| Some(100), ..Conduct::default() });
    reader.until("out of range", |seen| seen.out_of_range.len() == 1).await;
    reader.until("the end", |seen| seen.ends.get(&0) == Some(&3)).await;
    reader.seen(|seen| assert_eq!(seen.offsets(0), [0, 1, 2]));
}

#[tokio::test]
async fn a_position_of_an_epoch_that_the_log_does_not_have_is_out_of_range() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = kafka.new_topic("cut", 1).await.unwrap();
    kafka.produce(&topic, tasks(5)).await.unwrap();
    let options = options(kafka.address(), &Kafka::unique("group"), &topic);
    let reader = Reader::with(options, Conduct { start: |_| None, ..Conduct::default() });
    reader.until("the assignment", |seen| seen.assigned.len() == 1).await;
    let standing = reader.seen(|seen| seen.positions[&0].clone());
    let start = standing.start(3);
    reader.source.start(taskbroker_domain::ports::source::Start { leader_epoch: Some(0), ..start.clone() });
    reader.until("the end", |seen| seen.offsets(0) == [3, 4]).await;
    reader.seen(|seen| seen.positions.get_mut(&0).unwrap().next = 0);
    reader.source.start(taskbroker_domain::ports::source::Start { leader_epoch: Some(99), ..start });
    reader.until("out of range", |seen| seen.out_of_range.len() == 1).await;
}

#[tokio::test]
async fn a_new_start_while_reading_goes_back() {
    for protocol in protocols() {
        let Some(kafka) = Kafka::shared() else { return };
        let topic = kafka.new_topic("back", 2).await.unwrap();
        kafka.produce(&topic, tasks(6)).await.unwrap();
        let options = KafkaSourceOptions { protocol, ..options(kafka.address(), &Kafka::unique("group"), &topic) };
        let reader = Reader::start(options);
        reader.until("the end", |seen| seen.ends.get(&0) == Some(&6)).await;
        let standing = reader.seen(|seen| {
            seen.ends.clear();
            seen.positions.get_mut(&0).unwrap().next = 0;
            seen.positions[&0].clone()
        });
        reader.source.start(standing.start(4));
        reader.until("the end again", |seen| seen.ends.get(&0) == Some(&6)).await;
        reader.seen(|seen| assert_eq!(seen.offsets(0), [0, 1, 2, 3, 4, 5, 4, 5]));
    }
}

#[tokio::test]
async fn a_topic_that_does_not_exist_yet_is_waited_for_and_named() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = Kafka::unique("later");
    let reader = Reader::start(options(kafka.address(), &Kafka::unique("group"), &topic));
    reader.until("the connection", |seen| seen.connection == [true]).await;
    while reader.source.status().topic != TopicStatus::Missing {
        tokio::task::yield_now().await;
    }
    kafka.create_topic(&topic, 2, &[]).await.unwrap();
    kafka.produce(&topic, tasks(1)).await.unwrap();
    reader.until("its record", |seen| seen.records.len() == 1 && seen.assigned.len() == 2).await;
    assert_eq!(reader.source.status().topic, TopicStatus::Present);
}

#[tokio::test]
async fn partitions_that_are_added_are_read() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = kafka.new_topic("grows", 1).await.unwrap();
    let reader = Reader::start(options(kafka.address(), &Kafka::unique("group"), &topic));
    reader.until("the first", |seen| seen.ends.len() == 1).await;
    kafka.add_partitions(&topic, 3).await.unwrap();
    kafka.produce(&topic, [Message::new("new").partition(2)]).await.unwrap();
    reader.until("the new one", |seen| seen.offsets(2) == [0]).await;
}

#[tokio::test]
async fn a_topic_that_was_created_anew_is_another_log() {
    for protocol in protocols() {
        let Some(kafka) = Kafka::shared() else { return };
        let topic = kafka.new_topic("again", 1).await.unwrap();
        kafka.produce(&topic, tasks(5)).await.unwrap();
        let group = Kafka::unique("group");
        let reader = Reader::start(KafkaSourceOptions { protocol, ..options(kafka.address(), &group, &topic) });
        reader.until("the old log", |seen| seen.ends.get(&0) == Some(&5)).await;
        let old = reader.seen(|seen| seen.positions[&0].partition.topic_id);
        kafka.delete_topic(&topic).await.unwrap();
        kafka.create_topic(&topic, 1, &[]).await.unwrap();
        // More than the old one had: the old position exists in it, too, and must not be gone on from.
        kafka.produce(&topic, tasks(20)).await.unwrap();
        reader
            .until("the new log", |seen| {
                let is_new = |standing: &crate::reader::Standing| standing.partition.topic_id != old;
                seen.positions.get(&0).is_some_and(|standing| is_new(standing) && standing.next == 20)
            })
            .await;
        reader.seen(|seen| {
            let offsets = seen.offsets(0);
            assert_eq!(offsets[offsets.len() - 20..], (0..20).collect::<Vec<_>>());
            assert!(seen.lost.len() + seen.revoked.len() >= 1, "the old log is given up first");
        });
    }
}
