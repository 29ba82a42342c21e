//! Topics and clusters in the earlier form: one consumed topic and one or two clusters, a key for each of their fields.

use super::{
    Common, Declared, Role, Topic,
    cluster::{self, Place},
    raw,
};
use crate::settings::{
    key::Key,
    model::Raw,
    reader::Reader,
    report::{Origin, WarningKind},
    retired::{CLUSTER_FIELDS, EARLIER_KAFKA, EARLIER_RAW},
    value::Setting,
};

/// What the main cluster is called, and that of dead letters.
const MAIN: &str = "default";
const DEAD_LETTER: &str = "deadletter";
/// Where Kafka is when nothing says so.
const ADDRESS: &str = "127.0.0.1:9092";
/// The consumed topic, and its group, when nothing says so.
const TOPIC: &str = "taskworker";

/// The deadline of a raw topic's tasks when nothing says so, in seconds.
const RAW_DEADLINE_S: u16 = 30;

/// The keys of this form that are given. `raw_mode: false` asks for nothing.
pub(super) fn given(reader: &Reader<'_>) -> Vec<&'static str> {
    let asks = |key: &&str| match *key {
        RAW_MODE => reader.is_given(&Key::new(key)) && !reader.is_false(&Key::new(key)),
        key => reader.is_given(&Key::new(key)),
    };
    EARLIER_KAFKA.into_iter().filter(asks).collect()
}

const RAW_MODE: &str = "raw_mode";

/// Warns of what describes a raw topic where nothing makes the topic raw.
pub(super) fn warn_of_raw(reader: &mut Reader<'_>) {
    for name in EARLIER_RAW {
        let key = Key::new(name);
        if let Some(origin) = reader.origin_if_given(&key) {
            let message = "has no effect without raw_mode: true; a topic of kafka_topics is made raw by its own raw";
            reader.findings.warn(WarningKind::Ignored, &key, &origin, message);
        }
    }
}

fn read_raw(reader: &mut Reader<'_>, topic: &Key) -> Option<Raw> {
    let mode = Key::new(RAW_MODE);
    let scratch = Key::default();
    let wanted = reader.read_at(&mode, &scratch).unwrap_or(false);
    reader.effective.remove(&scratch);
    if !wanted {
        warn_of_raw(reader);
        return None;
    }
    let key = |field: &str| Key::new(&format!("raw_{field}"));
    let place = raw::Place { key: &key, shown: topic.child("raw"), default_deadline: Some(RAW_DEADLINE_S) };
    Some(raw::read(reader, &place))
}

/// The topics and clusters that these keys stand for: the clusters `default` and `deadletter`, the consumed topic on the
/// first; the dead-letter topic, and a retry topic of its own, on the second.
pub(super) fn read(reader: &mut Reader<'_>, common: &Common) -> Declared {
    let main = cluster::read(reader, &Place { name: MAIN, key: &main_key }, Some(ADDRESS));
    // Without a word about it, the dead-letter cluster is the main one, so we are there who we are on the main one.
    let separate = says_who(reader) || is_elsewhere(reader, &main.address);
    let key = if separate { dead_letter_key } else { main_key };
    let dead_letter = cluster::read(reader, &Place { name: DEAD_LETTER, key: &key }, Some(&main.address));

    let mut declared = Declared::default();
    declared.clusters.extend([(MAIN.to_owned(), main), (DEAD_LETTER.to_owned(), dead_letter)]);
    let (name, consumed) = consumed_topic(reader);
    tell_later_forms(reader, &name, consumed.raw.is_some());
    declared.topics.insert(name, consumed);
    for (key, name) in produced_topics(common) {
        declared.topics.entry(name).or_insert_with_key(|name| produced_topic(reader, key, name));
    }
    declared
}

/// Warns of each key of this form that is given, with the key that it stands for. The two forms cannot be mixed, so all of
/// them are to move at once.
fn tell_later_forms(reader: &mut Reader<'_>, topic: &str, is_raw: bool) {
    for (key, later) in later_forms(topic, is_raw) {
        if let Some(origin) = reader.origin_if_given(&key) {
            let message =
                format!("is the earlier form of {later}: move all of Kafka into kafka_topics and kafka_clusters");
            reader.findings.warn(WarningKind::Renamed, &key, &origin, message);
        }
    }
}

/// The keys of this form, each with the later key that says the same of this consumed topic. Those of a raw topic only where it
/// is one: else they say nothing.
fn later_forms(topic: &str, is_raw: bool) -> Vec<(Key, Key)> {
    let topic = Key::new("kafka_topics").child(topic);
    let cluster = |name: &str, key: fn(&str) -> Key| {
        let section = Key::new("kafka_clusters").child(name);
        CLUSTER_FIELDS.map(|field| (key(field), section.child(field)))
    };
    let raw = topic.child("raw");
    let mut forms = vec![
        (Key::new("kafka_topic"), topic.clone()),
        (Key::new("kafka_consumer_group"), topic.child("consumer_group")),
    ];
    forms.extend(cluster(MAIN, main_key));
    forms.extend(cluster(DEAD_LETTER, dead_letter_key));
    if is_raw {
        forms.push((Key::new(RAW_MODE), raw.clone()));
        forms.extend(EARLIER_RAW.map(|name| (Key::new(name), raw.child(name.trim_start_matches("raw_")))));
    }
    forms
}

/// Whether the dead-letter cluster is spoken to in a way of its own.
fn says_who(reader: &Reader<'_>) -> bool {
    CLUSTER_FIELDS.iter().any(|field| *field != "address" && reader.is_given(&dead_letter_key(field)))
}

fn is_elsewhere(reader: &Reader<'_>, main: &str) -> bool {
    reader.given_text(&dead_letter_key("address")).is_some_and(|address| address != main)
}

/// The key of a field of the main cluster.
fn main_key(field: &str) -> Key {
    match field {
        "address" => Key::new("kafka_cluster"),
        field => Key::new(&format!("kafka_{field}")),
    }
}

/// The key of a field of the dead-letter cluster.
fn dead_letter_key(field: &str) -> Key {
    match field {
        "address" => Key::new("kafka_deadletter_cluster"),
        field => Key::new(&format!("kafka_deadletter_{field}")),
    }
}

fn consumed_topic(reader: &mut Reader<'_>) -> (String, Topic) {
    let key = Key::new("kafka_topic");
    // Where it is shown depends on its value, so it is accounted for below.
    let scratch = Key::default();
    let name = reader.read_at(&key, &scratch).unwrap_or_else(|| TOPIC.to_owned());
    reader.effective.remove(&scratch);
    let section = Key::new("kafka_topics").child(&name);
    let origin = reader.origin(&key);
    reader.note(&section.child("cluster"), MAIN.to_owned(), origin);
    let group = read_or(reader, "kafka_consumer_group", &section.child("consumer_group"), TOPIC);
    let raw = read_raw(reader, &section);
    (
        name,
        Topic {
            cluster: MAIN.to_owned(),
            group: Some(group),
            role: Role::Consumed,
            session_timeout: None,
            offset_reset: None,
            raw,
        },
    )
}

fn read_or(reader: &mut Reader<'_>, key: &str, shown: &Key, default: &str) -> String {
    reader.read_at(&Key::new(key), shown).unwrap_or_else(|| {
        reader.note(shown, default.to_owned().write(), Origin::Default);
        default.to_owned()
    })
}

fn produced_topics(common: &Common) -> Vec<(&'static str, String)> {
    let dead_letter = ("kafka_deadletter_topic", common.dead_letter_topic.clone());
    let retry = common.retry_topic.clone().map(|topic| ("kafka_retry_topic", topic));
    [dead_letter].into_iter().chain(retry).collect()
}

fn produced_topic(reader: &mut Reader<'_>, key: &str, name: &str) -> Topic {
    let section = Key::new("kafka_topics").child(name);
    let origin = reader.origin(&Key::new(key));
    reader.note(&section.child("cluster"), DEAD_LETTER.to_owned(), origin.clone());
    reader.note(&section.child("produce_only"), "true".to_owned(), origin);
    Topic {
        cluster: DEAD_LETTER.to_owned(),
        group: None,
        role: Role::Produced,
        session_timeout: None,
        offset_reset: None,
        raw: None,
    }
}
