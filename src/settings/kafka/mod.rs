//! Topics and clusters: which is consumed, where retries and dead letters go, and whether that fits together.

mod cluster;
mod earlier;
mod maps;

use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use super::{
    key::Key,
    model::{AssignmentStrategy, Kafka, KafkaCluster, KafkaOutbox, KafkaSource, OffsetReset},
    reader::Reader,
};

/// Reads everything about Kafka. `None` where it does not fit together; the findings say why.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Kafka> {
    let common = Common::read(reader);
    let declared = declared(reader, &common)?;
    let consumed = consumed(reader, &declared);
    let outbox = outbox(reader, &declared, consumed, &common);
    let source = source(&declared, consumed?, common);
    Some(Kafka { source: source?, outbox: outbox? })
}

/// What holds for every topic that does not say otherwise.
struct Common {
    dead_letter_topic: String,
    retry_topic: Option<String>,
    session_timeout: Duration,
    offset_reset: OffsetReset,
    assignment_strategy: AssignmentStrategy,
    group_instance_id: Option<String>,
    prefetch_bytes: NonZeroUsize,
    commit_interval: Duration,
    send_timeout: Duration,
    delivery_timeout: Duration,
    max_message_bytes: NonZeroU32,
}

/// librdkafka's bounds of `session.timeout.ms`.
const SESSION_TIMEOUT_MS: std::ops::RangeInclusive<u64> = 1..=3_600_000;

impl Common {
    fn read(reader: &mut Reader<'_>) -> Self {
        const PREFETCH_LEAST: NonZeroUsize = NonZeroUsize::MIN.saturating_add((1 << 20) - 1);
        // librdkafka counts in KiB, up to 2,097,151 of them.
        const PREFETCH_MOST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2_097_151 * 1024 - 1);
        const MESSAGE_LEAST: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);
        const MESSAGE_MOST: NonZeroU32 = NonZeroU32::MIN.saturating_add(999_999_999);
        const COMMIT_MOST: Duration = Duration::from_millis(100);
        const DELIVERY_MOST: Duration = Duration::from_secs(15 * 60);
        Self {
            dead_letter_topic: reader.read("kafka_deadletter_topic"),
            retry_topic: reader.optional("kafka_retry_topic"),
            session_timeout: Duration::from_millis(reader.read_within("kafka_session_timeout_ms", SESSION_TIMEOUT_MS)),
            offset_reset: reader.read("kafka_auto_offset_reset"),
            assignment_strategy: reader.read("kafka_assignment_strategy"),
            group_instance_id: reader.optional("kafka_group_instance_id"),
            prefetch_bytes: reader.read_within("kafka_prefetch_bytes", PREFETCH_LEAST..=PREFETCH_MOST),
            commit_interval: reader.read_within("kafka_commit_interval", Duration::from_millis(1)..=COMMIT_MOST),
            send_timeout: Duration::from_millis(reader.read_within("kafka_send_timeout_ms", 0..=60_000)),
            delivery_timeout: reader.read_within("kafka_delivery_timeout", Duration::from_secs(1)..=DELIVERY_MOST),
            max_message_bytes: reader.read_within("max_message_size", MESSAGE_LEAST..=MESSAGE_MOST),
        }
    }
}

/// The topics and clusters there are, in whichever form they were given.
#[derive(Default)]
struct Declared {
    clusters: BTreeMap<String, KafkaCluster>,
    topics: BTreeMap<String, Topic>,
}

struct Topic {
    cluster: String,
    group: Option<String>,
    consumed: bool,
    session_timeout: Option<Duration>,
    offset_reset: Option<OffsetReset>,
}

impl Declared {
    fn cluster_of(&self, topic: &str) -> Option<&KafkaCluster> {
        self.clusters.get(&self.topics.get(topic)?.cluster)
    }
}

fn declared(reader: &mut Reader<'_>, common: &Common) -> Option<Declared> {
    let earlier = earlier::given(reader);
    match (earlier.as_slice(), maps::given(reader)) {
        ([], true) => Some(maps::read(reader)),
        (_, false) => Some(earlier::read(reader, common)),
        (earlier, true) => {
            let keys: Vec<&str> = ["kafka_topics", "kafka_clusters"].iter().chain(earlier).copied().collect();
            reader.findings.clash(&keys, "the earlier keys and the maps cannot be mixed: move all into the maps");
            None
        }
    }
}

/// The one topic that is consumed.
fn consumed<'a>(reader: &mut Reader<'_>, declared: &'a Declared) -> Option<&'a str> {
    let consumed: Vec<&str> =
        declared.topics.iter().filter(|(_, t)| t.consumed).map(|(name, _)| name.as_str()).collect();
    match consumed.as_slice() {
        [] => {
            let reason = "no topic is consumed: each is produce_only or consumer_disabled, and one must not be";
            reader.findings.clash(&["kafka_topics"], reason);
            None
        }
        [only] => Some(only),
        several => {
            let reason = format!(
                "{} topics are consumed ({}), and one broker consumes one so far: declare the others as produce_only, or run \
                 a broker for each",
                several.len(),
                several.join(", ")
            );
            reader.findings.clash(&["kafka_topics"], reason);
            None
        }
    }
}

fn source(declared: &Declared, topic: &str, common: Common) -> Option<KafkaSource> {
    let settings = declared.topics.get(topic)?;
    Some(KafkaSource {
        cluster: declared.cluster_of(topic)?.clone(),
        topic: topic.to_owned(),
        group: settings.group.clone()?,
        group_instance_id: common.group_instance_id,
        session_timeout: settings.session_timeout.unwrap_or(common.session_timeout),
        offset_reset: settings.offset_reset.unwrap_or(common.offset_reset),
        assignment_strategy: common.assignment_strategy,
        prefetch_bytes: common.prefetch_bytes,
        commit_interval: common.commit_interval,
    })
}

fn outbox(
    reader: &mut Reader<'_>,
    declared: &Declared,
    consumed: Option<&str>,
    common: &Common,
) -> Option<KafkaOutbox> {
    let cluster = dead_letter_cluster(reader, declared, consumed, common);
    let retry_topic = common.retry_topic.as_deref().or(consumed)?;
    let cluster = cluster?;
    check_retry_topic(reader, declared, retry_topic, cluster, common);
    Some(KafkaOutbox {
        cluster: cluster.clone(),
        dead_letter_topic: common.dead_letter_topic.clone(),
        retry_topic: retry_topic.to_owned(),
        send_timeout: common.send_timeout,
        delivery_timeout: common.delivery_timeout,
        max_message_bytes: common.max_message_bytes,
    })
}

fn dead_letter_cluster<'a>(
    reader: &mut Reader<'_>,
    declared: &'a Declared,
    consumed: Option<&str>,
    common: &Common,
) -> Option<&'a KafkaCluster> {
    let key = Key::new("kafka_deadletter_topic");
    let topic = common.dead_letter_topic.as_str();
    if consumed == Some(topic) {
        reader.refuse(&key, &key, "is the consumed topic: dead letters would run again, without end");
    } else if !topic.is_empty() && !declared.topics.contains_key(topic) {
        reader.refuse(&key, &key, "is not declared in kafka_topics: declare it there, with produce_only: true");
    }
    declared.cluster_of(topic)
}

/// Retries leave by the same producer as dead letters, so their topic must be on that cluster.
fn check_retry_topic(
    reader: &mut Reader<'_>,
    declared: &Declared,
    topic: &str,
    outbox: &KafkaCluster,
    common: &Common,
) {
    let key = Key::new("kafka_retry_topic");
    if topic == common.dead_letter_topic && common.retry_topic.is_some() {
        return reader.refuse(&key, &key, "is the dead-letter topic: retries would never run");
    }
    if !declared.topics.contains_key(topic) {
        return reader.refuse(&key, &key, "is not declared in kafka_topics: declare it there, with produce_only: true");
    }
    let Some(cluster) = declared.cluster_of(topic) else { return };
    if cluster.address != outbox.address {
        let reason = format!(
            "retries go to the topic {topic} on the cluster {}, dead letters to the cluster {}; both leave by one producer, so \
             name a retry topic on the cluster {}",
            cluster.name, outbox.name, outbox.name
        );
        reader.findings.clash(&["kafka_retry_topic", "kafka_deadletter_topic"], reason);
    }
}
