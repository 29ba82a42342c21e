//! Which of our metrics are the same quantity as one of the existing system, and what it is called there. `docs/metrics.md` has
//! the same as a table, and says what has no counterpart.

use metrics::Key;

/// A name of theirs with its tags; `taskbroker.` goes before it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Named {
    pub(super) name: &'static str,
    tags: Vec<(&'static str, String)>,
}

impl Named {
    pub(super) fn tags(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tags.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

/// One of ours is one of theirs.
pub(super) struct Rule {
    ours: &'static str,
    /// Only the series with these labels.
    only: &'static [(&'static str, &'static str)],
    pub(super) theirs: &'static str,
    tags: &'static [(&'static str, Tag)],
    /// What a value is multiplied by.
    pub(super) scale: f64,
}

/// Where a tag's value comes from.
enum Tag {
    /// It is always this.
    Is(&'static str),
    /// The value of a label of ours.
    Label(&'static str),
    /// The value of a label of ours, with this before it.
    After(&'static str, &'static str),
}

use Tag::{After, Is, Label};

const fn rule(
    ours: &'static str,
    only: &'static [(&'static str, &'static str)],
    theirs: &'static str,
    tags: &'static [(&'static str, Tag)],
) -> Rule {
    Rule { ours, only, theirs, tags, scale: 1.0 }
}

const fn in_milliseconds(rule: Rule) -> Rule {
    Rule { scale: 1000.0, ..rule }
}

const ACTIVATIONS: &str = "taskbroker_activations_total";
const DEPTH: &str = "taskbroker_depth";
const PARTITIONS: &str = "taskbroker_partitions_total";
const REPORTS: &str = "taskbroker_reports_total";
const GRPC_SECONDS: &str = "taskbroker_grpc_request_seconds";
const TRANSITION: &str = "upkeep.task.state_transition";
const CLEANUP: &str = "upkeep.cleanup_action";
const SET_STATUS: &str = "grpc_server.set_status";
const REVOKED: &str = "arroyo.consumer.partitions_revoked.count";
const DROPPED: &str = "filter.drop_task_killswitch";
const OFFERS: &str = "taskbroker_push_offers_total";
const PUSH_TASK: &str = "worker.push_task";
const SERVICE: &str = "/sentry_protos.taskbroker.v1.ConsumerService/";

/// The existing system gives these two to all depths of a SQLite store.
const OF_SQLITE: &[(&str, Tag)] = &[("topic", Is("taskworker")), ("partition", Is("-1"))];
const TOPIC: (&str, Tag) = ("topic", Label("topic"));
const STATUS: (&str, Tag) = ("status", Label("verdict"));

pub(super) const RULES: &[Rule] = &[
    rule("taskbroker_kafka_assigned", &[], "arroyo.consumer.current_partitions", &[TOPIC]),
    rule(PARTITIONS, &[("event", "assigned")], "arroyo.consumer.partitions_assigned.count", &[TOPIC]),
    rule(PARTITIONS, &[("event", "revoked")], REVOKED, &[TOPIC]),
    rule(PARTITIONS, &[("event", "lost")], REVOKED, &[TOPIC]),
    rule(ACTIVATIONS, &[("event", "admitted")], "consumer.inflight_activation_writer.stored", &[]),
    rule("taskbroker_commit_seconds", &[], "consumer.inflight_activation_writer.write_to_store", &[]),
    rule("taskbroker_commit_retries_total", &[], "consumer.inflight_activation_writer.write_failed", &[]),
    rule(
        "taskbroker_intake_pauses_total",
        &[],
        "consumer.inflight_activation_writer.backpressure",
        &[TOPIC, ("reason", Label("reason"))],
    ),
    rule("taskbroker_records_total", &[("kind", "expired")], "filter.expired_at_consumer", &[TOPIC]),
    rule("taskbroker_records_total", &[("kind", "dropped")], DROPPED, &[TOPIC]),
    rule(ACTIVATIONS, &[("event", "dropped")], DROPPED, &[]),
    rule("taskbroker_records_total", &[("kind", "forwarded")], "filter.forward_task_demoted_namespace", &[TOPIC]),
    rule("taskbroker_published_total", &[("kind", "forward")], "upkeep.forward_task_demoted_namespace", &[]),
    rule("taskbroker_grpc_requests_total", &[], "grpc.request", &[("path", After(SERVICE, "method"))]),
    rule(GRPC_SECONDS, &[], "grpc.request.duration", &[("path", After(SERVICE, "method"))]),
    rule(GRPC_SECONDS, &[("method", "GetTask")], "grpc_server.get_task.duration", &[]),
    rule(GRPC_SECONDS, &[("method", "SetTaskStatus")], "grpc_server.set_status.duration", &[]),
    rule(REPORTS, &[("answer", "settled")], SET_STATUS, &[("result", Is("ok")), STATUS]),
    rule(REPORTS, &[("answer", "remembered")], SET_STATUS, &[("result", Is("ok")), STATUS]),
    rule(REPORTS, &[("answer", "unknown")], SET_STATUS, &[("result", Is("not_found")), STATUS]),
    rule(REPORTS, &[("answer", "refused")], SET_STATUS, &[("result", Is("error")), STATUS]),
    in_milliseconds(rule("taskbroker_wait_seconds", &[], "grpc_server.received_to_gettask.latency", &[])),
    rule(ACTIVATIONS, &[("event", "completed")], TRANSITION, &[("state", Is("completed"))]),
    rule(ACTIVATIONS, &[("event", "retried")], TRANSITION, &[("state", Is("retried"))]),
    rule(ACTIVATIONS, &[("event", "discarded")], TRANSITION, &[("state", Is("failed"))]),
    rule(ACTIVATIONS, &[("event", "dead_lettered")], TRANSITION, &[("state", Is("failed"))]),
    rule(ACTIVATIONS, &[("event", "dead_lettered")], CLEANUP, &[("kind", Is("publish_deadlettered"))]),
    rule(ACTIVATIONS, &[("event", "discarded")], CLEANUP, &[("kind", Is("delete_discarded"))]),
    rule(ACTIVATIONS, &[("event", "expired")], CLEANUP, &[("kind", Is("removed_expired"))]),
    rule("taskbroker_leases_lost_total", &[], CLEANUP, &[("kind", Is("processing_deadline_exceeded"))]),
    rule(DEPTH, &[("state", "pending")], "upkeep.current_pending_tasks", OF_SQLITE),
    rule(DEPTH, &[("state", "processing")], "upkeep.current_processing_tasks", OF_SQLITE),
    rule(DEPTH, &[("state", "delayed")], "upkeep.current_delayed_tasks", OF_SQLITE),
    rule("taskbroker_oldest_pending_seconds", &[], "upkeep.pending_activation.max_lag.sec", &[]),
    rule("taskbroker_store_disk_bytes", &[], "upkeep.db_file_size.bytes", &[]),
    rule(OFFERS, &[("outcome", "delivered")], PUSH_TASK, &[("result", Is("ok"))]),
    rule(OFFERS, &[("outcome", "busy")], PUSH_TASK, &[("result", Is("error"))]),
    rule(OFFERS, &[("outcome", "unreachable")], PUSH_TASK, &[("result", Is("error"))]),
    rule(OFFERS, &[("outcome", "declined")], PUSH_TASK, &[("result", Is("error"))]),
    rule(OFFERS, &[("outcome", "unknown")], PUSH_TASK, &[("result", Is("error"))]),
    rule(OFFERS, &[("outcome", "too_large")], PUSH_TASK, &[("result", Is("error"))]),
    rule("taskbroker_push_offer_seconds", &[], "worker.push_task.duration", &[]),
    rule("taskbroker_runtime_workers", &[], "runtime.num_workers", &[]),
    rule("taskbroker_runtime_tasks", &[], "runtime.num_alive_tasks", &[]),
    rule("taskbroker_runtime_queue_depth", &[], "runtime.global_queue_depth", &[]),
];

/// Whether this series of ours is called anything there.
pub(super) fn has_any(key: &Key) -> bool {
    RULES.iter().any(|rule| rule.fits(key))
}

/// What this series of ours is called there, and what its values are to be multiplied by.
pub(super) fn of(key: &Key) -> impl Iterator<Item = (Named, f64)> {
    RULES.iter().filter(|rule| rule.fits(key)).map(|rule| (rule.named(key), rule.scale))
}

impl Rule {
    /// Its tags, each with its value where that is always the same.
    #[cfg(test)]
    pub(super) fn tag_values(&self) -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
        let value = |tag: &Tag| match tag {
            Is(value) => Some(*value),
            Label(_) | After(..) => None,
        };
        self.tags.iter().map(move |(name, tag)| (*name, value(tag)))
    }

    fn fits(&self, key: &Key) -> bool {
        key.name() == self.ours && self.only.iter().all(|(name, value)| label(key, name) == *value)
    }

    fn named(&self, key: &Key) -> Named {
        let value = |tag: &Tag| match tag {
            Is(value) => (*value).to_owned(),
            Label(name) => label(key, name).to_owned(),
            After(before, name) => format!("{before}{}", label(key, name)),
        };
        Named { name: self.theirs, tags: self.tags.iter().map(|(name, tag)| (*name, value(tag))).collect() }
    }
}

/// The value of a label; empty where there is none.
fn label<'a>(key: &'a Key, name: &str) -> &'a str {
    key.labels().find(|label| label.key() == name).map_or("", |label| label.value())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<&'static str>> {
        let table = include_str!("../../../../docs/metrics.md").lines().filter(|line| line.starts_with("| `"));
        table.map(|row| row.split('|').map(str::trim).collect()).collect()
    }

    #[test]
    fn the_document_names_each_pair() {
        for rule in RULES {
            let theirs = format!("`{}`", rule.theirs);
            let row = rows().into_iter().find(|row| row.iter().any(|cell| cell.contains(&theirs)));
            let row = row.unwrap_or_else(|| panic!("docs/metrics.md does not name {theirs}"));
            let ours = format!("`{}", rule.ours);
            assert!(row.iter().any(|cell| cell.contains(&ours)), "docs/metrics.md: {theirs} without {ours}");
        }
    }

    #[test]
    fn what_has_no_earlier_name_is_not_recorded_twice() {
        assert!(!has_any(&Key::from_name("taskbroker_conservation_imbalance")));
        assert!(has_any(&Key::from_name("taskbroker_wait_seconds")));
        let withdrawn = [metrics::Label::new("event", "withdrawn")];
        assert!(!has_any(&Key::from_parts(ACTIVATIONS, withdrawn.to_vec())));
    }

    #[test]
    fn tags_come_from_our_labels() {
        let key = Key::from_parts(GRPC_SECONDS, vec![metrics::Label::new("method", "GetTask")]);
        let named: Vec<_> = of(&key).map(|(named, _)| named).collect();
        let path = format!("{SERVICE}GetTask");
        assert_eq!(named[0].tags().collect::<Vec<_>>(), [("path", path.as_str())]);
        assert_eq!((named[1].name, named.len()), ("grpc_server.get_task.duration", 2));
    }
}
