//! What the existing system sends, held against what is sent here and against `docs/metrics.md`.

use std::collections::BTreeSet;

use super::names::{RULES, Rule};

/// What is sent here as well: name, type, unit of a histogram, tags; of a tag the values that it has there, where they are
/// few.
const SENT: &str = "
arroyo.consumer.current_partitions g topic
arroyo.consumer.partitions_assigned.count c topic
arroyo.consumer.partitions_revoked.count c topic
consumer.inflight_activation_writer.backpressure c topic reason
consumer.inflight_activation_writer.stored c
consumer.inflight_activation_writer.write_failed c
consumer.inflight_activation_writer.write_to_store h:seconds
filter.drop_task_killswitch c topic taskname match
filter.expired_at_consumer c topic
filter.forward_task_demoted_namespace c topic namespace taskname
grpc.request c path
grpc.request.duration h:seconds path
grpc_server.get_task.duration h:seconds
grpc_server.received_to_gettask.latency h:milliseconds namespace taskname
grpc_server.set_status c result=ok|not_found|error|skipped_in_batch status
grpc_server.set_status.duration h:seconds
runtime.global_queue_depth g
runtime.num_alive_tasks g
runtime.num_workers g
upkeep.cleanup_action c kind=publish_deadlettered|removed_expired|delete_discarded|mark_processing_attempts_exceeded_as_failure|claim_expiration_exceeded|processing_deadline_exceeded|mark_delay_elapsed_as_pending
upkeep.current_delayed_tasks g topic=taskworker partition=-1
upkeep.current_pending_tasks g topic=taskworker partition=-1
upkeep.current_processing_tasks g topic=taskworker partition=-1
upkeep.db_file_size.bytes g
upkeep.forward_task_demoted_namespace c
upkeep.pending_activation.max_lag.sec g
upkeep.task.state_transition c state=completed|failed|retried
worker.push_task c result
worker.push_task.duration h:seconds
";

/// What is not.
const NOT_SENT: &str = "
consumer.message.payload_size_bytes consumer.raw.payload_size_bytes consumer.raw.compressed_payload_size_bytes
consumer.batch_rows consumer.batch_bytes consumer.forward_attempts consumer.forward_successes consumer.forward_failures
consumer.inflight_activation_writer.insert_lag
filter.drop_task_killswitch.duration filter.forward_task_demoted_namespace.skipped
grpc_server.set_status.failure grpc_server.fetch_next.duration
grpc_server.set_batch_activation_status.total_updates_received grpc_server.set_batch_activation_status.batch_size
grpc_server.set_batch_activation_status.num_batches grpc_server.set_batch_activation_status.retry_updates
grpc_server.set_batch_activation_status.affected_diff grpc_server.set_batch_activation_status.partial
grpc_server.set_batch_activation_status.duration
grpc_server.flush_updates grpc_server.flush_updates.requested grpc_server.flush_updates.affected
grpc_server.flush_updates.updated grpc_server.flush_updates.partial
fetch.loop.count fetch.loop.duration fetch.claim_activations_for_push.duration fetch.empty fetch.claimed
fetch.claim_batch_size fetch.submit fetch.store_error
push.received_to_claimed.latency push.received_to_push.latency push.queue.depth push.queue.latency
push.queue.wait_duration push.missing_worker_mapping push.undo_claim push.mark_activation_processing
push.thread.update push.thread.update.duration push.updater.queue.depth push.updater.flush push.updater.flush.expected
push.updater.flush.actual worker.push_task.attempts
upkeep.duration upkeep.handle_retries upkeep.handle_processing_deadline upkeep.handle_claim_expiration
upkeep.handle_processing_attempts_exceeded upkeep.handle_expires_at upkeep.handle_delay_until
upkeep.handle_failed_tasks upkeep.remove_completed upkeep.remove_killswitched upkeep.forward_task_demoted_namespaces
upkeep.full_vacuum upkeep.handle_processing_deadline.skipped upkeep.handle_claim_expiration.skipped
upkeep.dlq.message_size upkeep.forwarded_tasks upkeep.forward_task_demoted_namespace.publish_failure
upkeep.current_claimed_tasks upkeep.wal_file_size.bytes upkeep.health upkeep.full_vacuum.failure
sqlite.write.acquire_conn sqlite.db.* postgres.write.acquire_conn
store.passive_checkpoint_busy store.pages_written_to_wal store.pages_committed_to_db store.checkpoint.failed
store.checkpoint.duration store.vacuum store.vacuum.freelist store.retry.attempt store.retry.succeeded
store.retry.exhausted
runtime.worker_utilization runtime.worker_local_queue_depth
";

/// A metric of theirs that is sent here.
struct Earlier {
    name: &'static str,
    /// `g`, `c`, or `h`.
    kind: &'static str,
    /// Of a histogram.
    unit: Option<&'static str>,
    /// With the values that are known.
    tags: Vec<(&'static str, Vec<&'static str>)>,
}

impl Earlier {
    fn parse(line: &'static str) -> Self {
        let mut words = line.split(' ');
        let (name, kind) = (words.next().unwrap(), words.next().unwrap());
        let (kind, unit) = kind.split_once(':').map_or((kind, None), |(kind, unit)| (kind, Some(unit)));
        let tag = |word: &'static str| match word.split_once('=') {
            Some((tag, values)) => (tag, values.split('|').collect()),
            None => (word, Vec::new()),
        };
        Self { name, kind, unit, tags: words.map(tag).collect() }
    }

    fn rules(&self) -> Vec<&'static Rule> {
        RULES.iter().filter(|rule| rule.theirs == self.name).collect()
    }
}

fn sent() -> Vec<Earlier> {
    SENT.trim().lines().map(Earlier::parse).collect()
}

fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let text = include_str!("../../../../docs/metrics.md");
    let section = text.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.split('|').map(str::trim).collect()).collect()
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn what_is_sent_is_a_metric_of_the_existing_system_with_tags_of_its_own() {
    let sent = sent();
    let known: BTreeSet<_> = sent.iter().map(|earlier| earlier.name).collect();
    assert_eq!(RULES.iter().map(|rule| rule.theirs).collect::<BTreeSet<_>>(), known);
    for earlier in &sent {
        for rule in earlier.rules() {
            for (tag, value) in rule.tag_values() {
                let found = earlier.tags.iter().find(|(name, _)| *name == tag);
                let (_, values) = found.unwrap_or_else(|| panic!("{} has no tag {tag} there", earlier.name));
                let known = value.is_none_or(|value| values.is_empty() || values.contains(&value));
                assert!(known, "{}: {tag} is never {value:?} there", earlier.name);
            }
            let scale = if earlier.unit == Some("milliseconds") { 1000.0 } else { 1.0 };
            assert!((rule.scale - scale).abs() < 1e-9, "{}: not in {:?}", earlier.name, earlier.unit);
        }
    }
}

#[test]
fn the_document_says_type_unit_and_tags_of_what_is_sent_and_which_tags_are_not() {
    let rows = table("Sent");
    assert_eq!(rows.len(), sent().len());
    for Earlier { name, kind, unit, tags } in sent() {
        let row = rows.iter().find(|row| quoted(row[1]).next() == Some(name));
        let row = row.unwrap_or_else(|| panic!("docs/metrics.md does not say that {name} is sent"));
        let mut parts = row[2].split(", ");
        assert_eq!(parts.next(), Some(kind), "{name}");
        assert_eq!(unit, row[2].rsplit(", ").next().filter(|last| last.ends_with("seconds")), "{name}");
        let said: BTreeSet<&str> = quoted(row[2]).collect();
        let wanting = row[4].split_once("without ").map(|(_, rest)| quoted(rest).collect()).unwrap_or_default();
        let all: BTreeSet<&str> = tags.iter().map(|(tag, _)| *tag).collect();
        assert_eq!(said.union(&wanting).copied().collect::<BTreeSet<_>>(), all, "{name}");
        let rules = Earlier { name, kind, unit, tags }.rules();
        let given: BTreeSet<&str> = rules.iter().flat_map(|rule| rule.tag_values()).map(|(tag, _)| tag).collect();
        assert_eq!(given, said, "{name}");
    }
}

#[test]
fn the_document_says_why_for_all_that_is_not_sent() {
    let rows = table("Not sent");
    let patterns: Vec<&str> = rows.iter().flat_map(|row| quoted(row[1])).collect();
    let names: Vec<&str> = NOT_SENT.split_whitespace().collect();
    let fits = |pattern: &str, name: &str| {
        // Settings of ours begin with `store.`: theirs are written in full.
        let pattern = pattern.trim_start_matches("taskbroker.");
        pattern.strip_suffix('*').map_or(pattern == name, |begin| name.starts_with(begin))
    };
    for name in &names {
        assert!(
            patterns.iter().any(|pattern| fits(pattern, name)),
            "docs/metrics.md does not say why {name} is not sent"
        );
        assert!(RULES.iter().all(|rule| rule.theirs != *name), "{name} is sent");
    }
    for pattern in patterns {
        assert!(names.iter().any(|name| fits(pattern, name)), "docs/metrics.md: there is no {pattern}");
    }
}
