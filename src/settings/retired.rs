//! Keys of existing configurations that are not settings of this program under that name: what becomes of each, and why.

use super::key::Key;

/// What becomes of a key that is no setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is the setting of this name.
    Renamed(&'static str),
    /// It is the setting of this name, a duration, in milliseconds.
    RenamedMs(&'static str),
    /// It has no effect, for this reason.
    Ignored(&'static str),
}

/// A retired key, or a section of them.
#[derive(Debug)]
pub(super) struct Retired {
    /// Its dotted name; what stands below it shares its fate.
    pub(super) name: &'static str,
    /// The values that ask for nothing, which pass without a word.
    pub(super) harmless: &'static [&'static str],
    /// What becomes of it.
    pub(super) fate: Fate,
}

/// The keys that describe Kafka in the earlier form. They are settings as long as the later form is not used.
pub(super) const EARLIER_KAFKA: [&str; 19] = [
    "raw_mode",
    "kafka_topic",
    "kafka_cluster",
    "kafka_consumer_group",
    "kafka_security_protocol",
    "kafka_sasl_mechanism",
    "kafka_sasl_username",
    "kafka_sasl_password",
    "kafka_ssl_ca_location",
    "kafka_ssl_certificate_location",
    "kafka_ssl_key_location",
    "kafka_deadletter_cluster",
    "kafka_deadletter_security_protocol",
    "kafka_deadletter_sasl_mechanism",
    "kafka_deadletter_sasl_username",
    "kafka_deadletter_sasl_password",
    "kafka_deadletter_ssl_ca_location",
    "kafka_deadletter_ssl_certificate_location",
    "kafka_deadletter_ssl_key_location",
];

/// What the consumed topic's messages are turned into, in the earlier form, with `raw_mode`.
pub(super) const EARLIER_RAW: [&str; 4] =
    ["raw_namespace", "raw_application", "raw_taskname", "raw_processing_deadline_duration"];

/// What `kafka_topics.<name>.raw` can have.
pub(super) const RAW_FIELDS: [&str; 5] =
    ["namespace", "application", "taskname", "processing_deadline_duration", "compression_level"];

/// What a topic can have, in `kafka_topics.<name>`.
pub(super) const TOPIC_FIELDS: [&str; 6] =
    ["cluster", "consumer_group", "produce_only", "consumer_disabled", "session_timeout_ms", "auto_offset_reset"];

/// What a cluster can have, in `kafka_clusters.<name>`.
pub(super) const CLUSTER_FIELDS: [&str; 8] = [
    "address",
    "security_protocol",
    "sasl_mechanism",
    "sasl_username",
    "sasl_password",
    "ssl_ca_location",
    "ssl_certificate_location",
    "ssl_key_location",
];

/// The fields of a topic that are no settings.
pub(super) const RETIRED_TOPIC_FIELDS: [Retired; 1] =
    [Retired { name: "auto_commit_interval_ms", harmless: &[], fate: Fate::Ignored(COMMITS) }];

/// The entry for `key` or for the section it stands in.
pub(super) fn find(key: &Key) -> Option<&'static Retired> {
    RETIRED.iter().find(|retired| {
        let mut names = retired.name.split('.');
        let mut segments = key.segments().iter();
        names.all(|name| segments.next().is_some_and(|segment| segment == name))
    })
}

const COMMITS: &str = "has no effect: positions are committed once the journal has them, within kafka_commit_interval";
const NO_UPKEEP: &str = "has no effect: timers act when they are due, there is no upkeep interval";
const NO_VACUUM: &str = "has no effect: the file's free space is used again, it is not vacuumed in operation";
const GROUP_COMMIT: &str = "has no effect: all changes that wait share one commit, which starts at once";
const PG_ONLY: &str = "has no effect: it is for the postgres adapter, which is not supported yet";
const NO_SENTRY: &str = "has no effect: reporting to Sentry is not supported yet; errors are in the logs";

const fn renamed(name: &'static str, to: &'static str) -> Retired {
    Retired { name, harmless: &[], fate: Fate::Renamed(to) }
}

const fn ignored(name: &'static str, why: &'static str) -> Retired {
    Retired { name, harmless: &[], fate: Fate::Ignored(why) }
}

const fn ignored_unless(name: &'static str, harmless: &'static [&'static str], why: &'static str) -> Retired {
    Retired { name, harmless, fate: Fate::Ignored(why) }
}

const fn renamed_ms(name: &'static str, to: &'static str) -> Retired {
    Retired { name, harmless: &[], fate: Fate::RenamedMs(to) }
}

/// Every retired key.
pub(super) const RETIRED: [Retired; 57] = [
    renamed("database_adapter", "store.adapter"),
    renamed("db_path", "store.sqlite.path"),
    renamed("db_max_size", "store.max_size"),
    renamed("max_pending_count", "store.max_pending_count"),
    renamed("max_delay_count", "store.max_delay_count"),
    renamed("max_processing_count", "store.max_processing_count"),
    renamed("max_processing_attempts", "store.max_processing_attempts"),
    renamed("processing_deadline_grace_sec", "store.processing_deadline_grace_sec"),
    ignored("kafka_auto_commit_interval_ms", COMMITS),
    ignored("kafka_consume_retry_topic", "has no effect: the existing system removed it, too"),
    ignored("upkeep_task_interval_ms", NO_UPKEEP),
    ignored("upkeep_unhealthy_interval_ms", "has no effect: health is judged by progress, not by an upkeep interval"),
    ignored("maintenance_task_interval_ms", NO_VACUUM),
    ignored("full_vacuum_on_start", NO_VACUUM),
    ignored("full_vacuum_on_upkeep", NO_VACUUM),
    ignored("vacuum_interval_ms", NO_VACUUM),
    ignored("vacuum_page_count", NO_VACUUM),
    ignored("store.sqlite.vacuum_page_count", NO_VACUUM),
    ignored("enable_sqlite_status_metrics", "has no effect: the store's metrics cost nothing and are always there"),
    ignored(
        "store.sqlite.enable_status_metrics",
        "has no effect: the store's metrics cost nothing and are always there",
    ),
    ignored("runtime_metrics_interval", "has no effect: metrics are read when they are asked for"),
    ignored_unless("log_async_backtrace", &["false"], "has no effect: there are no asynchronous backtraces"),
    ignored("db_insert_batch_max_len", GROUP_COMMIT),
    ignored("db_insert_batch_max_size", GROUP_COMMIT),
    ignored("db_insert_batch_max_time_ms", GROUP_COMMIT),
    ignored("store.insert_batch_max_length", GROUP_COMMIT),
    ignored("store.insert_batch_max_bytes", GROUP_COMMIT),
    ignored("store.insert_batch_max_time_ms", GROUP_COMMIT),
    ignored("db_write_failure_backoff_ms", "has no effect: a commit that failed for a passing reason is tried again"),
    ignored(
        "store.insert_failure_backoff_ms",
        "has no effect: a commit that failed for a passing reason is tried again",
    ),
    ignored("db_query_max_retries", "has no effect: a commit is tried again until it is known to be durable"),
    ignored("db_query_retry_delay_ms", "has no effect: a commit is tried again until it is known to be durable"),
    ignored("store.retry", "has no effect: a commit is tried again until it is known to be durable"),
    ignored("sentry_dsn", NO_SENTRY),
    ignored("sentry_env", NO_SENTRY),
    renamed("fetch_threads", "fetch.threads"),
    renamed_ms("fetch_wait_ms", "fetch.backoff"),
    renamed("fetch_batch_size", "fetch.batch_length"),
    renamed("push_threads", "push.threads"),
    renamed_ms("push_timeout_ms", "push.timeout"),
    renamed("push_queue_size", "push.queue.size"),
    renamed_ms("push_queue_timeout_ms", "push.queue.timeout"),
    renamed("batch_push_updates", "push.update.batched"),
    renamed("push_update_batch_size", "push.update.batch.length"),
    renamed_ms("push_update_interval_ms", "push.update.batch.interval"),
    ignored("store.pg", PG_ONLY),
    ignored("store.contention_drain_age_sec", PG_ONLY),
    ignored_unless("run_migrations", &["false"], PG_ONLY),
    ignored("pg_host", PG_ONLY),
    ignored("pg_port", PG_ONLY),
    ignored("pg_username", PG_ONLY),
    ignored("pg_password", PG_ONLY),
    ignored("pg_ddl_username", PG_ONLY),
    ignored("pg_ddl_password", PG_ONLY),
    ignored("pg_database_name", PG_ONLY),
    ignored("pg_default_database_name", PG_ONLY),
    ignored("pg_extra_query_params", PG_ONLY),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_retired_key_is_named_in_the_documented_defaults() {
        let documented = include_str!("../../config/default.yaml");
        let comments: Vec<_> = documented.lines().filter(|line| line.starts_with('#')).collect();
        let comments = comments.join("\n");
        let words: Vec<_> = comments.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).collect();
        let names = RETIRED.iter().map(|retired| retired.name).chain(EARLIER_KAFKA).chain(EARLIER_RAW);
        let missing: Vec<_> =
            names.filter(|name| !words.iter().any(|word| word.trim_end_matches('.') == *name)).collect();
        assert!(missing.is_empty(), "not in config/default.yaml: {missing:?}");
    }

    #[test]
    fn every_retired_key_is_compared_with_the_existing_system() {
        let text = include_str!("../../docs/compatibility.md");
        let named: Vec<_> = text.split('`').skip(1).step_by(2).collect();
        let is_named = |name: &&str| named.iter().any(|key| key == name || key.strip_suffix(".*") == Some(name));
        let names = RETIRED.iter().map(|retired| retired.name).chain(EARLIER_KAFKA).chain(EARLIER_RAW);
        let fields = TOPIC_FIELDS.into_iter().chain(CLUSTER_FIELDS);
        let missing: Vec<_> = names.chain(fields).filter(|name| !is_named(name)).collect();
        assert!(missing.is_empty(), "not in docs/compatibility.md: {missing:?}");
    }

    #[test]
    fn a_section_shares_its_fate_with_what_it_holds() {
        let entry = find(&Key::new("store.pg.password")).map(|retired| retired.name);
        assert_eq!(entry, Some("store.pg"));
        assert!(find(&Key::new("store.pgx")).is_none());
        assert!(find(&Key::new("store")).is_none());
    }
}
