//! Topics and clusters: what is consumed, where retries, dead letters and forwarded tasks go, and whether that fits
//! together.

mod cluster;
mod common;
mod earlier;
mod maps;
mod names;
mod outbox;
mod raw;
mod sources;

use std::{collections::BTreeMap, time::Duration};

use super::{
    model::{Kafka, KafkaCluster, KafkaTarget, OffsetReset, Raw},
    reader::Reader,
};
use common::Common;

/// Reads everything about Kafka. `None` where it does not fit together; the findings say why.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Kafka> {
    let common = Common::read(reader);
    let declared = declared(reader, &common)?;
    names::check(reader, &declared, &common);
    let sources = sources::of(&declared, Role::Consumed, &common);
    let disabled = sources::of(&declared, Role::Disabled, &common);
    if sources.is_empty() && disabled.is_empty() {
        let reason = "no topic is consumed: each is produce_only, and one must not be";
        reader.findings.clash(&["kafka_topics"], reason);
    }
    let outbox = outbox::read(reader, &declared, &common)?;
    Some(Kafka { sources, disabled, outbox, topics: declared.targets(), create: common.create })
}

/// The topics and clusters there are, in whichever form they were given.
#[derive(Default)]
struct Declared {
    clusters: BTreeMap<String, KafkaCluster>,
    topics: BTreeMap<String, Topic>,
}

/// A topic as it was declared.
struct Topic {
    cluster: String,
    group: Option<String>,
    role: Role,
    session_timeout: Option<Duration>,
    offset_reset: Option<OffsetReset>,
    raw: Option<Raw>,
}

/// What a topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Consumed,
    /// It is to be consumed, but not now.
    Disabled,
    Produced,
}

impl Declared {
    fn cluster_of(&self, topic: &str) -> Option<&KafkaCluster> {
        self.clusters.get(&self.topics.get(topic)?.cluster)
    }

    /// The topics that are consumed, or are meant to be.
    fn consumable(&self) -> Vec<&str> {
        let is_consumable = |(_, topic): &(&String, &Topic)| match topic.role {
            Role::Consumed | Role::Disabled => true,
            Role::Produced => false,
        };
        self.topics.iter().filter(is_consumable).map(|(name, _)| name.as_str()).collect()
    }

    fn targets(&self) -> Vec<KafkaTarget> {
        let target = |name: &String| Some(KafkaTarget { cluster: self.cluster_of(name)?.clone(), topic: name.clone() });
        self.topics.keys().filter_map(target).collect()
    }
}

fn declared(reader: &mut Reader<'_>, common: &Common) -> Option<Declared> {
    let earlier = earlier::given(reader);
    match (earlier.as_slice(), maps::given(reader)) {
        ([], true) => {
            earlier::warn_of_raw(reader);
            Some(maps::read(reader))
        }
        (_, false) => Some(earlier::read(reader, common)),
        (earlier, true) => {
            let keys: Vec<&str> = ["kafka_topics", "kafka_clusters"].iter().chain(earlier).copied().collect();
            reader.findings.clash(&keys, "the earlier keys and the maps cannot be mixed: move all into the maps");
            None
        }
    }
}
