//! Topics and clusters as they are given today: `kafka_topics` and `kafka_clusters`.

use std::time::Duration;

use super::{
    Declared, Role, Topic,
    cluster::{self, Place},
    common::SESSION_TIMEOUT_MS,
    raw,
};
use crate::settings::{key::Key, model::Raw, reader::Reader, value::Setting};

const TOPICS: &str = "kafka_topics";
const CLUSTERS: &str = "kafka_clusters";

/// Whether topics or clusters are given in this form.
pub(super) fn given(reader: &Reader<'_>) -> bool {
    !reader.names(TOPICS).is_empty() || !reader.names(CLUSTERS).is_empty()
}

/// Reads all topics and clusters.
pub(super) fn read(reader: &mut Reader<'_>) -> Declared {
    let clusters = reader.names(CLUSTERS);
    let topics = reader.names(TOPICS);
    for (name, given) in [(CLUSTERS, !clusters.is_empty()), (TOPICS, !topics.is_empty())] {
        if !given {
            reader.findings.clash(&[name], "is missing: topics and clusters are declared together");
        }
    }
    Declared {
        clusters: clusters.iter().map(|name| (name.clone(), read_cluster(reader, name))).collect(),
        topics: topics.iter().map(|name| (name.clone(), read_topic(reader, name, &clusters))).collect(),
    }
}

fn read_cluster(reader: &mut Reader<'_>, name: &str) -> crate::settings::KafkaCluster {
    let section = Key::new(CLUSTERS).child(name);
    cluster::read(reader, &Place { name, key: &|field| section.child(field) }, None)
}

fn read_topic(reader: &mut Reader<'_>, name: &str, clusters: &[String]) -> Topic {
    let section = Key::new(TOPICS).child(name);
    let produce_only = field(reader, &section, "produce_only").unwrap_or(false);
    let disabled = field(reader, &section, "consumer_disabled").unwrap_or(false);
    let group = field(reader, &section, "consumer_group");
    if group.is_none() && !produce_only {
        let _: String =
            reader.missing(&section.child("consumer_group"), "is missing: a topic that is consumed has a group");
    }
    Topic {
        cluster: read_cluster_name(reader, &section, clusters),
        group,
        role: role(produce_only, disabled),
        session_timeout: session_timeout(reader, &section),
        offset_reset: field(reader, &section, "auto_offset_reset"),
        raw: read_raw(reader, &section),
    }
}

fn role(produce_only: bool, disabled: bool) -> Role {
    match (produce_only, disabled) {
        (true, _) => Role::Produced,
        (false, true) => Role::Disabled,
        (false, false) => Role::Consumed,
    }
}

fn read_raw(reader: &mut Reader<'_>, topic: &Key) -> Option<Raw> {
    let section = topic.child("raw");
    let place = raw::Place { key: &|field| section.child(field), shown: section.clone(), default_deadline: None };
    reader.is_section(&section).then(|| raw::read(reader, &place))
}

fn read_cluster_name(reader: &mut Reader<'_>, section: &Key, clusters: &[String]) -> String {
    let key = section.child("cluster");
    let Some(name) = field::<String>(reader, section, "cluster") else {
        return reader.missing(&key, "is missing: a topic names its cluster");
    };
    if !name.is_empty() && !clusters.contains(&name) {
        let there_are = if clusters.is_empty() { "none".to_owned() } else { clusters.join(", ") };
        reader.refuse(&key, &key, format!("there is no such cluster in kafka_clusters; there are: {there_are}"));
    }
    name
}

fn session_timeout(reader: &mut Reader<'_>, section: &Key) -> Option<Duration> {
    let key = section.child("session_timeout_ms");
    let before = reader.findings.problems.len();
    let ms = reader.read_at(&key, &key)?;
    if before == reader.findings.problems.len() {
        reader.check(&key, &key, &ms, &SESSION_TIMEOUT_MS);
    }
    Some(Duration::from_millis(ms))
}

fn field<T: Setting>(reader: &mut Reader<'_>, section: &Key, name: &str) -> Option<T> {
    let key = section.child(name);
    reader.read_at(&key, &key)
}
