//! Where retries, dead letters and forwarded tasks go.

use super::{Common, Declared, Role};
use crate::settings::{
    key::Key,
    model::{KafkaOutbox, KafkaTarget},
    reader::Reader,
};

const UNDECLARED: &str = "is not declared in kafka_topics: declare it there, with produce_only: true";

/// Reads it. `None` where something is missing or impossible, which the findings say.
pub(super) fn read(reader: &mut Reader<'_>, declared: &Declared, common: &Common) -> Option<KafkaOutbox> {
    let dead_letter = dead_letter(reader, declared, common);
    let retry = retry(reader, declared, common);
    let dead_letter = dead_letter?;
    let forward = declared.cluster_of(&common.forward_topic).unwrap_or(&dead_letter.cluster).clone();
    Some(KafkaOutbox {
        retry: retry?,
        forward: KafkaTarget { cluster: forward, topic: common.forward_topic.clone() },
        dead_letter,
        send_timeout: common.send_timeout,
        delivery_timeout: common.delivery_timeout,
        max_message_bytes: common.max_message_bytes,
    })
}

fn dead_letter(reader: &mut Reader<'_>, declared: &Declared, common: &Common) -> Option<KafkaTarget> {
    let key = Key::new("kafka_deadletter_topic");
    let topic = common.dead_letter_topic.as_str();
    match declared.topics.get(topic) {
        Some(its) if its.role != Role::Produced => {
            reader.refuse(&key, &key, "is the consumed topic: dead letters would run again, without end");
        }
        None if !topic.is_empty() => reader.refuse(&key, &key, UNDECLARED),
        Some(_) | None => {}
    }
    target(declared, topic)
}

fn retry(reader: &mut Reader<'_>, declared: &Declared, common: &Common) -> Option<KafkaTarget> {
    let key = Key::new("kafka_retry_topic");
    let Some(topic) = &common.retry_topic else { return consumed_alone(reader, declared) };
    match declared.topics.get(topic) {
        Some(_) if *topic == common.dead_letter_topic => {
            reader.refuse(&key, &key, "is the dead-letter topic: retries would never run");
        }
        Some(its) if its.raw.is_some() => {
            reader.refuse(&key, &key, "is a raw topic: a retry, which is an activation, would be wrapped in another");
        }
        None if !topic.is_empty() => reader.refuse(&key, &key, UNDECLARED),
        Some(_) | None => {}
    }
    target(declared, topic)
}

/// Where retries go without a word about them: to the one topic there is.
fn consumed_alone(reader: &mut Reader<'_>, declared: &Declared) -> Option<KafkaTarget> {
    let consumable = declared.consumable();
    let is_raw = |topic: &&str| declared.topics.get(*topic).is_some_and(|topic| topic.raw.is_some());
    let reason = match consumable.as_slice() {
        [] => return None,
        [only] if !is_raw(only) => return target(declared, only),
        [_] => "is missing: the consumed topic is raw, so retries, which are activations, need a topic of their own",
        _ => "is missing: with more than one consumed topic, say where retries go",
    };
    let key = Key::new("kafka_retry_topic");
    let origin = reader.origin(&key);
    reader.findings.refuse(&key, None, &origin, reason);
    None
}

fn target(declared: &Declared, topic: &str) -> Option<KafkaTarget> {
    Some(KafkaTarget { cluster: declared.cluster_of(topic)?.clone(), topic: topic.to_owned() })
}
