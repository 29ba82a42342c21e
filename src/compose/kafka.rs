//! Kafka: from the settings to sources and the outbox.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use taskbroker_domain::{activation::Route, policy::Policy, ports::codec::ActivationCodec, positions};
use taskbroker_kafka::{
    ClusterOptions, GroupProtocol, KafkaOutboxOptions, KafkaSource, KafkaSourceOptions, Target, TopicMaker,
    TopicMakerError, TopicShape,
};
use taskbroker_proto::codec::{Codec, RawCodec, RawTask};

use crate::{
    engine::Feed,
    settings::{self, AssignmentStrategy, KafkaCluster, KafkaTarget, OffsetReset, Settings, TopicCreation},
};

/// How many bytes may wait to be sent to a cluster; two of the largest messages in any case.
const QUEUE_BYTES: usize = 64 << 20;

/// What the consumer of each topic is told, in the order of the settings.
pub(super) fn source_options(settings: &Settings) -> Vec<KafkaSourceOptions> {
    // A little less than what the engine has for all it closes.
    let close_limit = settings.shutdown_timeout / 16 * 10;
    settings.kafka.sources.iter().map(|source| one_source(source, close_limit)).collect()
}

fn one_source(source: &settings::KafkaSource, close_limit: Duration) -> KafkaSourceOptions {
    let mut options = KafkaSourceOptions::new(cluster(&source.cluster), &source.group, &source.topic);
    options.session_timeout = source.session_timeout;
    options.static_member.clone_from(&source.group_instance_id);
    options.prefetch_bytes = source.prefetch_bytes.get();
    options.close_limit = close_limit;
    options.protocol = protocol(source.assignment_strategy);
    options
}

/// A feed for each topic that is consumed. Kafka need not be there.
pub(super) fn feeds(settings: &Settings, options: Vec<KafkaSourceOptions>, codec: &Arc<Codec>) -> Result<Vec<Feed>> {
    let feeds = settings.kafka.sources.iter().zip(options).map(|(source, options)| {
        let topic: Arc<str> = options.topic.as_str().into();
        let codec: Arc<dyn ActivationCodec> = match &source.raw {
            Some(raw) => Arc::new(raw_codec(raw)),
            None => codec.clone(),
        };
        let source = KafkaSource::open(options).with_context(|| format!("kafka_topics.{topic}"))?;
        Ok(Feed { topic, source: Arc::new(source), codec })
    });
    feeds.collect()
}

pub(super) fn raw_codec(raw: &settings::Raw) -> RawCodec {
    RawCodec::new(RawTask {
        route: Route::new(&raw.application, &raw.namespace, &raw.taskname),
        run_limit: raw.processing_deadline,
        compression_level: raw.compression_level,
    })
}

/// Looks in the background after topics that do not exist: makes those that are declared, if that is wanted, or else names those
/// that are missing where nobody would notice. A cluster that is away is waited for.
pub(super) fn look_after_topics(settings: &Settings) -> Result<Vec<TopicMaker>> {
    let kafka = &settings.kafka;
    match kafka.create {
        Some(creation) => {
            let shape = shape(creation);
            let topics = kafka.topics.iter().map(|target| (&target.cluster, &target.topic));
            on_each_cluster(topics, |name, options, topics| TopicMaker::start(name, options, topics, shape))
        }
        None => on_each_cluster(unread_topics(settings), TopicMaker::watch),
    }
}

pub(super) fn shape(creation: TopicCreation) -> TopicShape {
    TopicShape {
        partitions: i32::try_from(creation.partitions.get()).unwrap_or(i32::MAX),
        replication: creation.replication.map(|factor| i32::from(factor.get())),
    }
}

/// What is produced to, or is to be consumed some other time, and is not consumed. The topic that tasks are forwarded to matters
/// only where rules can say so.
fn unread_topics(settings: &Settings) -> impl Iterator<Item = (&KafkaCluster, &String)> {
    let kafka = &settings.kafka;
    let forward = settings.rules.as_ref().map(|_| &kafka.outbox.forward);
    let produced = [&kafka.outbox.retry, &kafka.outbox.dead_letter].into_iter().chain(forward);
    let produced = produced.map(|target| (&target.cluster, &target.topic));
    let all = produced.chain(kafka.disabled.iter().map(|source| (&source.cluster, &source.topic)));
    all.filter(|(_, topic)| kafka.sources.iter().all(|source| source.topic != **topic))
}

fn on_each_cluster<'a>(
    topics: impl Iterator<Item = (&'a KafkaCluster, &'a String)>,
    begin: impl Fn(&str, &ClusterOptions, Vec<String>) -> Result<TopicMaker, TopicMakerError>,
) -> Result<Vec<TopicMaker>> {
    let mut clusters: BTreeMap<&str, (ClusterOptions, BTreeSet<String>)> = BTreeMap::new();
    for (at, topic) in topics {
        let (_, topics) = clusters.entry(&at.name).or_insert_with(|| (cluster(at), BTreeSet::new()));
        topics.insert(topic.clone());
    }
    let makers = clusters.into_iter().map(|(name, (options, topics))| {
        begin(name, &options, topics.into_iter().collect()).with_context(|| format!("kafka_clusters.{name}"))
    });
    makers.collect()
}

/// How often positions are committed; the same for all topics.
pub(super) fn commit_interval(settings: &Settings) -> Duration {
    let source = settings.kafka.sources.first();
    source.map_or(Policy::default().group_commit_interval, |source| source.commit_interval)
}

/// Where each topic's group starts that has no position.
pub(super) fn offset_resets(settings: &Settings) -> BTreeMap<Arc<str>, positions::OffsetReset> {
    let reset = |source: &settings::KafkaSource| match source.offset_reset {
        OffsetReset::Earliest => positions::OffsetReset::Earliest,
        OffsetReset::Latest => positions::OffsetReset::Latest,
    };
    settings.kafka.sources.iter().map(|source| (source.topic.as_str().into(), reset(source))).collect()
}

fn protocol(strategy: AssignmentStrategy) -> GroupProtocol {
    match strategy.partition_assignment_strategy() {
        Some(assignors) => GroupProtocol::Classic(assignors.to_owned()),
        None => GroupProtocol::Consumer,
    }
}

/// What the outbox is told.
pub(super) fn outbox_options(settings: &Settings) -> KafkaOutboxOptions {
    let outbox = &settings.kafka.outbox;
    let message_bytes_max = outbox.max_message_bytes.get();
    KafkaOutboxOptions {
        queue_bytes: QUEUE_BYTES.max(2 * usize::try_from(message_bytes_max).unwrap_or(0)),
        forward: target(&outbox.forward),
        delivery_limit: outbox.delivery_timeout,
        send_limit: outbox.send_timeout,
        message_bytes_max,
        ..KafkaOutboxOptions::new(target(&outbox.retry), target(&outbox.dead_letter))
    }
}

fn target(target: &KafkaTarget) -> Target {
    Target { topic: target.topic.clone(), cluster: cluster(&target.cluster) }
}

/// How a cluster is reached.
pub(crate) fn cluster(cluster: &KafkaCluster) -> ClusterOptions {
    let text = |path: &Path| path.display().to_string();
    let sasl = cluster.sasl.as_ref();
    ClusterOptions {
        address: cluster.address.clone(),
        security_protocol: Some(cluster.security_protocol.as_str().to_owned()),
        sasl_mechanism: sasl.map(|sasl| sasl.mechanism.as_str().to_owned()),
        sasl_username: sasl.map(|sasl| sasl.username.clone()),
        sasl_password: sasl.map(|sasl| sasl.password.clone()),
        ssl_ca_location: cluster.ssl_ca_location.as_deref().map(text),
        ssl_certificate_location: cluster.ssl_client.as_ref().map(|client| text(&client.certificate_location)),
        ssl_key_location: cluster.ssl_client.as_ref().map(|client| text(&client.key_location)),
    }
}
