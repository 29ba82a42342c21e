//! Sharing a topic in a group, on a real Kafka.

use std::{collections::BTreeMap, time::Duration};

use taskbroker_domain::ports::source::{Assigned, GroupCommit};
use taskbroker_kafka::{GroupProtocol, KafkaSourceOptions};
use taskbroker_support::kafka::{Kafka, Message};

use crate::reader::{Conduct, METADATA, Reader, Standing, options};

fn numbered(count: usize) -> impl Iterator<Item = Message> {
    (0..count).map(|number| {
        let partition = i32::try_from(number % 4).unwrap();
        Message::new(format!("task {number}")).partition(partition)
    })
}

/// How often each record was delivered, to whomever.
fn deliveries(readers: &[&Reader]) -> BTreeMap<(i32, i64), usize> {
    let mut counts = BTreeMap::new();
    for reader in readers {
        reader.seen(|seen| {
            for (partition, record) in &seen.records {
                *counts.entry((*partition, record.offset)).or_default() += 1;
            }
        });
    }
    counts
}

fn assert_each_once(readers: &[&Reader], per_partition: i64) {
    let counts = deliveries(readers);
    let wrong = (0..4).flat_map(|partition| (0..per_partition).map(move |offset| (partition, offset)));
    let wrong: Vec<_> = wrong.filter(|place| counts.get(place) != Some(&1)).collect();
    assert!(wrong.is_empty(), "{} missing or repeated, from {:?} on; {}", wrong.len(), wrong[0], shares(readers));
    assert_eq!(counts.len(), 4 * usize::try_from(per_partition).unwrap());
}

/// Who had what, for messages.
fn shares(readers: &[&Reader]) -> String {
    let share = |reader: &&Reader| {
        reader.seen(|seen| {
            let assigned = seen.assigned.iter();
            let assigned = assigned.map(|one| (one.partition.partition, one.assignment.0, one.committed.clone()));
            let read = (0..4).map(|partition| seen.offsets(partition));
            let read = read.map(|offsets| (offsets.len(), offsets.first().copied(), offsets.last().copied()));
            let (assigned, read) = (assigned.collect::<Vec<_>>(), read.collect::<Vec<_>>());
            let (revoked, lost, out_of_range) = (&seen.revoked, &seen.lost, &seen.out_of_range);
            let trouble = reader.source.status().last_trouble;
            format!(
                "assigned {assigned:?}, revoked {revoked:?}, read {read:?}, lost {lost:?}, out of range {out_of_range:?}, \
                 {trouble:?}"
            )
        })
    };
    readers.iter().map(share).collect::<Vec<_>>().join("; ")
}

async fn two_members_hand_over_in_good_order(protocol: GroupProtocol) {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = kafka.new_topic("shared", 4).await.unwrap();
    let group = Kafka::unique("group");
    let options = || KafkaSourceOptions { protocol: protocol.clone(), ..options(kafka.address(), &group, &topic) };

    kafka.produce(&topic, numbered(400)).await.unwrap();
    let first = Reader::start(options());
    first.until("all ends", |seen| seen.ends.values().filter(|end| **end == 100).count() == 4).await;

    let second = Reader::start(options());
    second.until("its share", |seen| seen.ends.len() == 2).await;
    first.until("what is left", |seen| seen.positions.len() == 2).await;
    second.seen(|seen| {
        for assigned in &seen.assigned {
            let committed = assigned.committed.clone().expect("committed at the barrier");
            assert_eq!((committed.offset, &*committed.metadata), (100, METADATA));
        }
    });

    kafka.produce(&topic, numbered(400)).await.unwrap();
    let done = |seen: &crate::reader::Seen| {
        seen.positions.len() == 2 && seen.positions.values().all(|standing| standing.next == 200)
    };
    first.until("its half", done).await;
    second.until("the other half", done).await;
    assert_each_once(&[&first, &second], 200);

    let second_kept = deliveries(&[&second]);
    second.close().await;
    first.until("everything again", |seen| seen.positions.len() == 4).await;
    kafka.produce(&topic, numbered(400)).await.unwrap();
    first.until("the rest", |seen| seen.positions.values().all(|standing| standing.next == 300)).await;
    let mut all = deliveries(&[&first]);
    second_kept.into_iter().for_each(|(place, count)| *all.entry(place).or_default() += count);
    assert_eq!(all.len(), 1200);
    assert!(all.values().all(|count| *count == 1), "{}", shares(&[&first]));
    first.seen(|seen| assert!(seen.lost.is_empty(), "{:?}", seen.lost));
    first.close().await;
    assert_eq!(kafka.lag(&group, &topic).await.unwrap(), 0);
}

#[tokio::test]
async fn eager_members_hand_over_in_good_order() {
    two_members_hand_over_in_good_order(GroupProtocol::default()).await;
}

#[tokio::test]
async fn cooperative_members_hand_over_in_good_order() {
    two_members_hand_over_in_good_order(GroupProtocol::Classic("cooperative-sticky".to_owned())).await;
}

#[tokio::test]
async fn members_of_the_new_protocol_hand_over_in_good_order() {
    two_members_hand_over_in_good_order(GroupProtocol::Consumer).await;
}

#[tokio::test]
async fn what_a_cooperative_member_keeps_goes_on_after_the_barrier_with_nothing_left_out() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = kafka.new_topic("kept", 4).await.unwrap();
    let group = Kafka::unique("group");
    let protocol = GroupProtocol::Classic("cooperative-sticky".to_owned());
    let options = || KafkaSourceOptions {
        protocol: protocol.clone(),
        barrier_limit: Duration::from_secs(60),
        ..options(kafka.address(), &group, &topic)
    };
    kafka.produce(&topic, numbered(4)).await.unwrap();
    let first = Reader::with(options(), Conduct { releases: false, ..Conduct::default() });
    first.until("all ends", |seen| seen.ends.values().filter(|end| **end == 1).count() == 4).await;
    let second = Reader::start(options());
    first.until("the barrier", |seen| seen.barriers.len() == 1 && seen.positions.len() == 2).await;
    // librdkafka pauses everything until it is told that the revoked partitions are gone.
    kafka.produce(&topic, numbered(4)).await.unwrap();
    second.seen(|seen| assert!(seen.assigned.is_empty()));
    first.seen(|seen| {
        let barrier = seen.barriers.pop().unwrap();
        let is_gone = |assigned: &&Assigned| !seen.positions.contains_key(&assigned.partition.partition);
        barrier.release(seen.assigned.iter().filter(is_gone).map(|assigned| position(assigned, 1)).collect());
    });
    first.until("what it keeps", |seen| seen.positions.values().all(|standing| standing.next == 2)).await;
    second.until("the others", |seen| seen.records.len() == 2).await;
    assert_each_once(&[&first, &second], 2);
}

fn position(assigned: &Assigned, next: i64) -> GroupCommit {
    let (partition, assignment) = (assigned.partition.clone(), assigned.assignment);
    Standing { partition, assignment, next, leader_epoch: None }.commit()
}

#[tokio::test]
async fn a_barrier_that_is_not_released_holds_the_group_up_for_its_time_only() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = kafka.new_topic("held", 2).await.unwrap();
    let group = Kafka::unique("group");
    let short =
        KafkaSourceOptions { barrier_limit: Duration::from_millis(300), ..options(kafka.address(), &group, &topic) };
    let first = Reader::with(short, Conduct { releases: false, ..Conduct::default() });
    first.until("both ends", |seen| seen.ends.len() == 2).await;
    let second = Reader::start(options(kafka.address(), &group, &topic));
    second.until("its share", |seen| seen.ends.len() == 1).await;
    // Released too late, with positions of an assignment that has ended: nothing happens.
    let (late, stale) = first.seen(|seen| (seen.barriers.pop().unwrap(), seen.assigned[0].clone()));
    late.release(vec![position(&stale, 7)]);
    first.until("its share", |seen| seen.assigned.len() == 3).await;
    first.seen(|seen| assert!(seen.committed.is_empty() && seen.commits_failed == 0));
    assert!(kafka.committed(&group, &topic).await.unwrap().is_empty());
}

#[tokio::test]
async fn without_room_membership_is_kept_and_nothing_is_lost_or_repeated() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = kafka.new_topic("full", 4).await.unwrap();
    let group = Kafka::unique("group");
    kafka.produce(&topic, numbered(4000)).await.unwrap();
    let mut options = KafkaSourceOptions {
        session_timeout: Duration::from_secs(2),
        batch_max: 100.try_into().unwrap(),
        prefetch_bytes: 1 << 16,
        ..options(kafka.address(), &group, &topic)
    };
    options.properties.insert("max.poll.interval.ms".to_owned(), "2000".to_owned());
    let reader = Reader::start(options);
    reader.until("some records", |seen| seen.records.len() > 50).await;
    reader.set_room(0);
    // Longer than the session time-out and than the time after which a consumer that is not polled counts as dead.
    tokio::time::sleep(Duration::from_millis(5000)).await;
    reader.seen(|seen| assert!(seen.lost.is_empty() && seen.revoked.is_empty()));
    reader.set_room(usize::MAX);
    reader.until("everything", |seen| seen.records.len() == 4000).await;
    assert_each_once(&[&reader], 1000);
    reader.seen(|seen| assert!(seen.lost.is_empty() && seen.revoked.is_empty()));
}

#[tokio::test]
async fn a_static_member_that_comes_back_disturbs_nobody() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = kafka.new_topic("static", 4).await.unwrap();
    let group = Kafka::unique("group");
    let options = |name: &str| KafkaSourceOptions {
        static_member: Some(name.to_owned()),
        session_timeout: Duration::from_secs(10),
        ..options(kafka.address(), &group, &topic)
    };
    let stays = Reader::start(options("stays"));
    stays.until("everything", |seen| seen.ends.len() == 4).await;
    let goes = Reader::start(options("goes"));
    goes.until("its share", |seen| seen.ends.len() == 2).await;
    stays.until("its share", |seen| seen.positions.len() == 2).await;
    let revocations = stays.seen(|seen| seen.revoked.len());
    let kept = goes.seen(|seen| seen.positions.keys().copied().collect::<Vec<_>>());
    goes.close().await;
    let back = Reader::start(options("goes"));
    back.until("its share again", |seen| seen.ends.len() == 2).await;
    assert_eq!(back.seen(|seen| seen.positions.keys().copied().collect::<Vec<_>>()), kept);
    stays.seen(|seen| assert_eq!(seen.revoked.len(), revocations));
}

#[tokio::test]
async fn a_cooperative_member_without_partitions_that_leaves_is_not_waited_for() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = kafka.new_topic("left", 1).await.unwrap();
    let group = Kafka::unique("group");
    // A member that the group does not hear of would be waited for that long: longer than a reader's patience.
    let options = || KafkaSourceOptions {
        protocol: GroupProtocol::Classic("cooperative-sticky".to_owned()),
        session_timeout: 2 * crate::reader::PATIENCE,
        ..options(kafka.address(), &group, &topic)
    };
    let first = Reader::start(options());
    first.until("the end", |seen| seen.ends.len() == 1).await;
    let second = Reader::start(options());
    // It has joined when the first has seen the rebalance through; there is nothing for it.
    kafka.await_members(&group, 2).await.unwrap();
    second.close().await;
    first.close().await;
    let third = Reader::start(options());
    third.until("what the others had", |seen| seen.ends.len() == 1).await;
    third.close().await;
}

#[tokio::test]
async fn a_cooperative_member_without_partitions_that_leaves_in_a_rebalance_is_not_waited_for() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = kafka.new_topic("left", 2).await.unwrap();
    let group = Kafka::unique("group");
    let options = || KafkaSourceOptions {
        protocol: GroupProtocol::Classic("cooperative-sticky".to_owned()),
        session_timeout: 2 * crate::reader::PATIENCE,
        barrier_limit: 2 * crate::reader::PATIENCE,
        close_limit: crate::reader::PATIENCE,
        ..options(kafka.address(), &group, &topic)
    };
    let holds = Reader::with(options(), Conduct { releases: false, ..Conduct::default() });
    holds.until("both ends", |seen| seen.ends.len() == 2).await;
    // What it is to have is not given up yet, so it has nothing.
    let leaves = Reader::start(options());
    holds.until("the barrier", |seen| seen.barriers.len() == 1).await;
    let comes = Reader::start(options());
    // Those who are members hear of the newcomer by their heartbeats, each second. The rebalance waits for the barrier.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let release = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        holds.seen(|seen| seen.barriers.pop().unwrap()).release(Vec::new());
    };
    tokio::join!(leaves.close(), release);
    kafka.await_members(&group, 2).await.unwrap();
    comes.until("its share", |seen| seen.ends.len() == 1).await;
}
