//! Several topics: each read by itself, none at the cost of another.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use prost::Message as _;
use taskbroker::engine::{Broker, Feed, Options, Ports};
use taskbroker_domain::{
    activation::{ActivationId, PartitionId, TopicId},
    ports::service::{Offer, Report, TaskService, Verdict, Wanted},
    positions::OffsetReset,
};
use taskbroker_memory::{MemoryLog, MemoryOutbox, MemorySource, MemoryStore};
use taskbroker_proto::{codec::Codec, pb};
use uuid::Uuid;

use crate::world::{SimulatedClock, options, task};

/// A broker of several topics with one partition each.
struct Topics {
    log: MemoryLog,
    sources: Vec<MemorySource>,
    partitions: Vec<Arc<PartitionId>>,
    broker: Broker,
    workers: Arc<dyn TaskService>,
}

fn partition(number: usize) -> Arc<PartitionId> {
    let topic = format!("topic-{number}").into();
    let group = format!("group-{number}").into();
    Arc::new(PartitionId { topic, topic_id: TopicId([7; 16]), group, partition: 0 })
}

impl Topics {
    /// Nothing is assigned yet.
    async fn start(count: usize, options: Options) -> Self {
        let log = MemoryLog::new();
        let sources: Vec<MemorySource> = (0..count).map(|_| log.member()).collect();
        let partitions: Vec<_> = (0..count).map(partition).collect();
        let codec = Arc::new(Codec::default());
        let feed = |(source, partition): (&MemorySource, &Arc<PartitionId>)| Feed {
            topic: partition.topic.clone(),
            source: Arc::new(source.clone()),
            codec: codec.clone(),
        };
        let ports = Ports {
            store: Arc::new(MemoryStore::new(Uuid::from_u128(1))),
            feeds: sources.iter().zip(&partitions).map(feed).collect(),
            outbox: Arc::new(MemoryOutbox::default()),
            codec: codec.clone(),
            clock: Arc::new(SimulatedClock::new()),
        };
        let broker = Broker::start(ports, options).await.unwrap();
        let workers = broker.service();
        Self { log, sources, partitions, broker, workers }
    }

    fn assign(&self) {
        for (source, partition) in self.sources.iter().zip(&self.partitions) {
            source.assign(std::slice::from_ref(partition));
        }
    }

    fn produce(&self, topic: usize, ids: impl Iterator<Item = usize>) {
        for id in ids {
            self.log.append(&self.partitions[topic], task(&format!("{topic}-{id}")).encode_to_vec());
        }
    }

    /// The next task, completed.
    async fn work(&self) -> String {
        for _ in 0..10_000 {
            let offer = self.workers.fetch(Wanted::Application("app".into())).await.unwrap();
            if let Some(offer) = offer {
                let id = pb::TaskActivation::decode(Offer::sent(offer)).unwrap().id;
                let report = Report { id: ActivationId::new(id.clone()), verdict: Verdict::Complete };
                self.workers.report(report).await.unwrap();
                return id;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no task came");
    }

    async fn pending(&self, count: usize) {
        for _ in 0..10_000 {
            if self.broker.stats().depths.pending == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("not {count} pending: {:?}", self.broker.stats().depths);
    }

    fn committed(&self, topic: usize) -> Option<i64> {
        self.log.committed(&self.partitions[topic]).map(|committed| committed.offset)
    }
}

#[tokio::test(start_paused = true)]
async fn each_topic_is_read_from_its_own_source_and_committed_to_its_own_group() {
    let topics = Topics::start(3, options()).await;
    for topic in 0..3 {
        topics.produce(topic, 0..=topic);
    }
    topics.assign();
    let mut done = BTreeSet::new();
    while done.len() < 6 {
        done.insert(topics.work().await);
    }
    assert_eq!(done.into_iter().collect::<Vec<_>>(), ["0-0", "1-0", "1-1", "2-0", "2-1", "2-2"]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!([0, 1, 2].map(|topic| topics.committed(topic)), [Some(1), Some(2), Some(3)]);
}

#[tokio::test(start_paused = true)]
async fn an_orderly_stop_leaves_every_group_at_what_was_read() {
    let topics = Topics::start(2, options()).await;
    topics.produce(0, 0..5);
    topics.produce(1, 0..7);
    topics.assign();
    topics.pending(12).await;
    let Topics { log, partitions, broker, .. } = topics;
    broker.shut_down(Duration::from_secs(5)).await;
    let committed = |topic: usize| log.committed(&partitions[topic]).map(|committed| committed.offset);
    assert_eq!([committed(0), committed(1)], [Some(5), Some(7)]);
}

#[tokio::test(start_paused = true)]
async fn the_flood_of_one_topic_does_not_keep_another_waiting() {
    let mut options = options();
    options.policy.limits.pending = 8;
    let topics = Topics::start(2, options).await;
    topics.produce(0, 0..1000);
    topics.assign();
    topics.pending(8).await;
    topics.produce(1, 0..10);
    let mut quiet = 0;
    let mut worked = 0;
    while quiet < 10 {
        worked += 1;
        quiet += usize::from(topics.work().await.starts_with("1-"));
    }
    // Ten of the quiet topic, as many of the other between them, and the eight that were here before; and some more, since
    // turns are taken by the batch.
    assert!(worked <= 50, "{worked} tasks were done before the quiet topic's ten");
}

#[tokio::test(start_paused = true)]
async fn topics_that_fill_up_at_once_keep_to_the_common_limit() {
    let mut options = options();
    options.policy.limits.pending = 100;
    let topics = Topics::start(4, options).await;
    topics.assign();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for topic in 0..4 {
        topics.produce(topic, 0..500);
    }
    topics.pending(100).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(topics.broker.stats().depths.pending, 100);
}

#[tokio::test(start_paused = true)]
async fn each_topic_has_a_start_of_its_own_where_no_position_is_known() {
    let mut options = options();
    options.policy.offset_reset = OffsetReset::Latest;
    options.policy.offset_resets.insert(partition(1).topic.clone(), OffsetReset::Earliest);
    let topics = Topics::start(2, options).await;
    topics.produce(0, 0..3);
    topics.produce(1, 0..3);
    topics.assign();
    topics.pending(3).await;
    assert!(topics.work().await.starts_with("1-"));
    topics.produce(0, 3..4);
    topics.pending(3).await;
    let rest = [topics.work().await, topics.work().await, topics.work().await];
    assert!(rest.contains(&"0-3".to_owned()), "{rest:?}");
}
