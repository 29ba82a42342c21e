//! Keys of existing configurations that are not settings of this program under that name: what becomes of each, and why.

use super::key::Key;

/// What becomes of a key that is no setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is the setting of this name.
    Renamed(&'static str),
    /// It has no effect, for this reason.
    Ignored(&'static str),
    /// It is an error, for this reason: to ignore it would expose, lose or run something.
    Refused(&'static str),
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
pub(super) const EARLIER_KAFKA: [&str; 18] = [
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

/// The fields of a topic that are not (yet) settings.
pub(super) const RETIRED_TOPIC_FIELDS: [Retired; 2] = [
    Retired { name: "auto_commit_interval_ms", harmless: &[], fate: Fate::Ignored(COMMITS) },
    Retired { name: "raw", harmless: &[], fate: Fate::Refused(RAW) },
];

/// The entry for `key` or for the section it stands in.
pub(super) fn find(key: &Key) -> Option<&'static Retired> {
    RETIRED.iter().find(|retired| {
        let mut names = retired.name.split('.');
        let mut segments = key.segments().iter();
        names.all(|name| segments.next().is_some_and(|segment| segment == name))
    })
}

const COMMITS: &str = "has no effect: positions are committed once the journal has them, within kafka_commit_interval";
const RAW: &str = "raw topics are not supported yet: remove it, and consume a topic of activations";
const NO_UPKEEP: &str = "has no effect: timers act when they are due, there is no upkeep interval";
const NO_VACUUM: &str = "has no effect: the file's free space is used again, it is not vacuumed in operation";
const GROUP_COMMIT: &str = "has no effect: all changes that wait share one commit, which starts at once";
const PUSH_ONLY: &str = "has no effect: it is for push delivery, which is not supported yet";
const PG_ONLY: &str = "has no effect: it is for the postgres adapter, which is not supported yet";
const RAW_ONLY: &str = "has no effect without raw topics, which are not supported yet";
const NO_SENTRY: &str = "has no effect: reporting to Sentry is not supported yet; errors are in the logs";
const NO_STATSD: &str = "has no effect: statsd is not supported yet; metrics are served at http_port for Prometheus";
const NO_TOPICS: &str =
    "has no effect: topics are not created yet; create them, the broker waits for them and names them";

const fn renamed(name: &'static str, to: &'static str) -> Retired {
    Retired { name, harmless: &[], fate: Fate::Renamed(to) }
}

const fn ignored(name: &'static str, why: &'static str) -> Retired {
    Retired { name, harmless: &[], fate: Fate::Ignored(why) }
}

const fn ignored_unless(name: &'static str, harmless: &'static [&'static str], why: &'static str) -> Retired {
    Retired { name, harmless, fate: Fate::Ignored(why) }
}

const fn refused_unless(name: &'static str, harmless: &'static [&'static str], why: &'static str) -> Retired {
    Retired { name, harmless, fate: Fate::Refused(why) }
}

/// Every retired key.
pub(super) const RETIRED: [Retired; 80] = [
    renamed("database_adapter", "store.adapter"),
    renamed("db_path", "store.sqlite.path"),
    renamed("db_max_size", "store.max_size"),
    renamed("max_pending_count", "store.max_pending_count"),
    renamed("max_delay_count", "store.max_delay_count"),
    renamed("max_processing_count", "store.max_processing_count"),
    renamed("max_processing_attempts", "store.max_processing_attempts"),
    renamed("processing_deadline_grace_sec", "store.processing_deadline_grace_sec"),
    refused_unless(
        "grpc_shared_secret",
        &["[]"],
        "authentication is not supported yet, and the port would be open to everybody: remove it and protect the port",
    ),
    refused_unless(
        "runtime_config_path",
        &[],
        "runtime rules are not supported yet, and tasks that they drop would run: remove it to go without them",
    ),
    refused_unless("raw_mode", &["false"], RAW),
    ignored("raw_namespace", RAW_ONLY),
    ignored("raw_application", RAW_ONLY),
    ignored("raw_taskname", RAW_ONLY),
    ignored("raw_processing_deadline_duration", RAW_ONLY),
    ignored("kafka_auto_commit_interval_ms", COMMITS),
    ignored("kafka_consume_retry_topic", "has no effect: the existing system removed it, too"),
    ignored("kafka_long_topic", "has no effect: demoting namespaces to another topic is not supported yet"),
    ignored(
        "upkeep_deadline_reset_skip_after_startup_sec",
        "has no effect: leases are journalled and go on after a restart, so that none is reset early",
    ),
    ignored("upkeep_task_interval_ms", NO_UPKEEP),
    ignored("upkeep_unhealthy_interval_ms", "has no effect: health is judged by progress, not by an upkeep interval"),
    ignored_unless("health_check_killswitched", &["false"], "has no effect: health cannot be forced yet"),
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
    ignored_unless("batch_status_updates", &["false"], GROUP_COMMIT),
    ignored("status_update_batch_size", GROUP_COMMIT),
    ignored("status_update_interval_ms", GROUP_COMMIT),
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
    ignored_unless("traces_sample_rate", &["0", "0.0"], NO_SENTRY),
    ignored("statsd_addr", NO_STATSD),
    ignored_unless("default_metrics_tags", &["{}"], NO_STATSD),
    ignored_unless("create_missing_topics", &["false"], NO_TOPICS),
    ignored("default_topic_partitions", NO_TOPICS),
    ignored_unless("canary_tasks", &["0"], "has no effect: canary tasks are not supported yet"),
    ignored("grpc_max_message_size", PUSH_ONLY),
    ignored("worker_map", PUSH_ONLY),
    ignored("fetch", PUSH_ONLY),
    ignored("fetch_threads", PUSH_ONLY),
    ignored("fetch_wait_ms", PUSH_ONLY),
    ignored("fetch_batch_size", PUSH_ONLY),
    ignored("push", PUSH_ONLY),
    ignored("push_threads", PUSH_ONLY),
    ignored("push_timeout_ms", PUSH_ONLY),
    ignored("push_queue_size", PUSH_ONLY),
    ignored("push_queue_timeout_ms", PUSH_ONLY),
    ignored_unless("batch_push_updates", &["false"], PUSH_ONLY),
    ignored("push_update_batch_size", PUSH_ONLY),
    ignored("push_update_interval_ms", PUSH_ONLY),
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
        let names = RETIRED.iter().map(|retired| retired.name).chain(EARLIER_KAFKA);
        let missing: Vec<_> =
            names.filter(|name| !words.iter().any(|word| word.trim_end_matches('.') == *name)).collect();
        assert!(missing.is_empty(), "not in config/default.yaml: {missing:?}");
    }

    #[test]
    fn a_section_shares_its_fate_with_what_it_holds() {
        let entry = find(&Key::new("store.pg.password")).map(|retired| retired.name);
        assert_eq!(entry, Some("store.pg"));
        assert!(find(&Key::new("store.pgx")).is_none());
        assert!(find(&Key::new("store")).is_none());
    }
}
