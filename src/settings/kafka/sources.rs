//! The topics that are consumed, each as its consumer needs it.

use super::{Common, Declared, Role, Topic};
use crate::settings::model::KafkaSource;

/// The topics in this role, in the order of their names.
pub(super) fn of(declared: &Declared, role: Role, common: &Common) -> Vec<KafkaSource> {
    let topics = declared.topics.iter().filter(|(_, topic)| topic.role == role);
    topics.filter_map(|(name, topic)| source(declared, name, topic, common)).collect()
}

/// `None` where something about it is missing, which was said already.
fn source(declared: &Declared, name: &str, topic: &Topic, common: &Common) -> Option<KafkaSource> {
    Some(KafkaSource {
        cluster: declared.cluster_of(name)?.clone(),
        topic: name.to_owned(),
        group: topic.group.clone()?,
        group_instance_id: member_name(declared, name, topic, common),
        session_timeout: topic.session_timeout.unwrap_or(common.session_timeout),
        offset_reset: topic.offset_reset.unwrap_or(common.offset_reset),
        assignment_strategy: common.assignment_strategy,
        prefetch_bytes: common.prefetch_bytes,
        commit_interval: common.commit_interval,
        raw: topic.raw.clone(),
    })
}

/// A group knows each member by one name, and each topic has a consumer: where topics share a group, their names tell
/// the members apart.
fn member_name(declared: &Declared, name: &str, topic: &Topic, common: &Common) -> Option<String> {
    let id = common.group_instance_id.clone()?;
    let same_group =
        |other: &&Topic| other.role != Role::Produced && other.cluster == topic.cluster && other.group == topic.group;
    let shared = declared.topics.values().filter(same_group).count() > 1;
    Some(if shared { format!("{id}.{name}") } else { id })
}
