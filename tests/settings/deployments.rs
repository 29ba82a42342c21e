//! Whole deployments as they are found: file, variables and all.

use std::time::Duration;

use secrecy::ExposeSecret;
use taskbroker::settings::{DeliveryMode, Loaded, Raw, Sources, WarningKind, load, render_effective};

use super::{environment, warnings, yaml, yaml_problems};

/// A self-hosted installation: one topic of activations and seven raw ones in five groups, messages up to 50 MB.
const SELF_HOSTED: &str = "
log_filter: 'debug,librdkafka=warn,h2=off'
statsd_addr: '127.0.0.1:8126'
kafka_clusters:
  default:
    address: kafka:9092
    security_protocol: ''
kafka_topics:
  taskworker: {cluster: default, consumer_group: taskworker}
  taskworker-dlq: {cluster: default, consumer_group: taskworker, produce_only: true}
  profiles: {cluster: default, consumer_group: profiles, raw: &raw {namespace: ingest.raw, application: sentry, taskname: process_profile, processing_deadline_duration: 60}}
  ingest-attachments: {cluster: default, consumer_group: ingest-attachments, raw: {namespace: ingest, application: sentry, taskname: attachments, processing_deadline_duration: 30, compression_level: -1}}
  ingest-events: {cluster: default, consumer_group: ingest-events, raw: *raw}
  ingest-transactions: {cluster: default, consumer_group: ingest-events, raw: *raw}
  ingest-feedback: {cluster: default, consumer_group: ingest-events, raw: *raw}
  monitors: {cluster: default, consumer_group: monitors, auto_offset_reset: earliest, session_timeout_ms: 10000, raw: *raw}
  results: {cluster: default, consumer_group: monitors, auto_commit_interval_ms: 1000, raw: *raw}
kafka_retry_topic: taskworker
kafka_deadletter_topic: taskworker-dlq
max_message_size: 50000000
create_missing_topics: true
store:
  max_size: 1000000000
  sqlite: {path: /opt/sqlite/taskbroker-activations.sqlite, vacuum_page_count: 1000}
upkeep_task_interval_ms: 1000
db_name: something
";

/// What check-config shows, given as a file, leads to the same settings.
fn shows_what_it_has(loaded: &Loaded) {
    let shown = render_effective(loaded);
    let again =
        load(&Sources::defaults().with_yaml("shown.yaml", &shown)).unwrap_or_else(|error| panic!("{error}\n{shown}"));
    assert_eq!(format!("{:?}", again.settings), format!("{:?}", loaded.settings), "{shown}");
}

/// What its environment says of a Kafka without authentication.
const EMPTY: [(&str, &str); 8] = [
    ("TASKBROKER_KAFKA_CLUSTERS__DEFAULT__SASL_MECHANISM", ""),
    ("TASKBROKER_KAFKA_CLUSTERS__DEFAULT__SASL_USERNAME", ""),
    ("TASKBROKER_KAFKA_CLUSTERS__DEFAULT__SASL_PASSWORD", ""),
    ("TASKBROKER_KAFKA_CLUSTERS__DEFAULT__SSL_CA_LOCATION", ""),
    ("TASKBROKER_KAFKA_CLUSTERS__DEFAULT__SSL_CERTIFICATE_LOCATION", ""),
    ("TASKBROKER_KAFKA_CLUSTERS__DEFAULT__SSL_KEY_LOCATION", ""),
    ("TASKBROKER_KAFKA_SASL_PASSWORD", ""),
    ("TASKBROKER_GRPC_SHARED_SECRET", ""),
];

#[test]
fn a_self_hosted_installation_loads_as_it_is() {
    let sources = Sources::defaults().with_yaml("/etc/taskbroker/config.yml", SELF_HOSTED).with_environment(EMPTY);
    let loaded = load(&sources).unwrap_or_else(|error| panic!("{error}"));
    let kafka = &loaded.settings.kafka;
    let topics: Vec<_> = kafka.sources.iter().map(|source| source.topic.as_str()).collect();
    assert_eq!(
        topics,
        [
            "ingest-attachments",
            "ingest-events",
            "ingest-feedback",
            "ingest-transactions",
            "monitors",
            "profiles",
            "results",
            "taskworker"
        ]
    );
    let mut groups: Vec<_> = kafka.sources.iter().map(|source| source.group.as_str()).collect();
    groups.sort_unstable();
    groups.dedup();
    assert_eq!(groups, ["ingest-attachments", "ingest-events", "monitors", "profiles", "taskworker"]);
    assert_eq!(kafka.sources.iter().filter(|source| source.raw.is_some()).count(), 7);
    assert_eq!(
        kafka.sources[0].raw,
        Some(Raw {
            namespace: "ingest".to_owned(),
            application: "sentry".to_owned(),
            taskname: "attachments".to_owned(),
            processing_deadline: Duration::from_secs(30),
            compression_level: None,
        })
    );
    assert_eq!(kafka.sources[4].session_timeout, Duration::from_secs(10));
    assert!(kafka.sources.iter().all(|source| source.cluster.sasl.is_none()));
    assert_eq!(
        (kafka.outbox.retry.topic.as_str(), kafka.outbox.dead_letter.topic.as_str()),
        ("taskworker", "taskworker-dlq")
    );
    assert_eq!(kafka.outbox.max_message_bytes.get(), 50_000_000);
    assert_eq!(kafka.create.map(|create| (create.partitions.get(), create.replication)), Some((1, None)));
    assert_eq!(kafka.topics.len(), 9);
    shows_what_it_has(&loaded);
    let unknown = warnings(&loaded, WarningKind::Unknown);
    assert_eq!(unknown, ["db_name (/etc/taskbroker/config.yml line 26): there is no such setting"]);
    let mut ignored = warnings(&loaded, WarningKind::Ignored);
    ignored.iter_mut().for_each(|line| line.truncate(line.find(" (").unwrap()));
    assert_eq!(
        ignored,
        ["kafka_topics.results.auto_commit_interval_ms", "store.sqlite.vacuum_page_count", "upkeep_task_interval_ms"]
    );
}

#[test]
fn a_pushing_broker_of_a_cluster_loads_as_it_is() {
    let loaded = environment(&[
        ("TASKBROKER_DELIVERY_MODE", "push"),
        ("TASKBROKER_WORKER_MAP", "{sentry=http://sentry-workers:50052, launchpad=\"https://launchpad:50052\"}"),
        ("TASKBROKER_GRPC_SHARED_SECRET", r#"["new, with a comma","old"]"#),
        ("TASKBROKER_DEFAULT_METRICS_TAGS", "{region=eu, cell=01}"),
        ("TASKBROKER_PUSH__THREADS", "8"),
        ("TASKBROKER_PUSH__QUEUE__SIZE", "64"),
        ("TASKBROKER_PUSH__UPDATE__BATCHED", "true"),
        ("TASKBROKER_FETCH__THREADS", "4"),
        ("TASKBROKER_RUNTIME_CONFIG_PATH", "/etc/taskbroker/runtime.yaml"),
        ("TASKBROKER_KAFKA_CLUSTER", "kafka:9092"),
        ("TASKBROKER_KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("TASKBROKER_KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
        ("TASKBROKER_KAFKA_SASL_USERNAME", "broker"),
        ("TASKBROKER_KAFKA_SASL_PASSWORD", "007"),
        ("TASKBROKER_GRPC_PORT", "tcp://10.0.0.1:50051"),
    ]);
    shows_what_it_has(&loaded);
    let settings = &loaded.settings;
    assert_eq!(settings.delivery.mode, DeliveryMode::Push);
    let map: Vec<_> =
        settings.delivery.worker_map.iter().map(|(name, at)| (name.as_str(), at.as_str(), at.is_tls())).collect();
    assert_eq!(map, [("launchpad", "https://launchpad:50052", true), ("sentry", "http://sentry-workers:50052", false)]);
    let secrets: Vec<_> = settings.grpc.shared_secrets.iter().map(|secret| secret.expose_secret()).collect();
    assert_eq!(secrets, ["new, with a comma", "old"]);
    let tags: Vec<_> = settings.metrics.default_tags.iter().map(|(k, v)| format!("{k}:{v}")).collect();
    assert_eq!(tags, ["cell:01", "region:eu"]);
    let (push, fetch) = (&settings.delivery.push, &settings.delivery.fetch);
    assert_eq!((push.threads.get(), push.queue_size.get(), push.update_batched), (8, 64, true));
    assert_eq!(fetch.threads.get(), 4);
    assert_eq!(settings.rules.as_deref().and_then(|path| path.to_str()), Some("/etc/taskbroker/runtime.yaml"));
    let sasl = settings.kafka.sources[0].cluster.sasl.as_ref().unwrap();
    assert_eq!((sasl.username.as_str(), sasl.password.expose_secret()), ("broker", "007"));
    assert_eq!(settings.grpc_listen.map(|address| address.port()), Some(50051));
}

#[test]
fn the_map_of_workers_that_is_given_replaces_the_built_in_one() {
    let names = |text: &str| yaml(text).settings.delivery.worker_map.into_keys().collect::<Vec<_>>();
    assert_eq!(names(""), ["sentry"]);
    assert_eq!(names("worker_map: {}"), ["sentry"]);
    assert_eq!(names("worker_map: {mine: 'http://mine:1'}"), ["mine"]);
    let sources = Sources::defaults().with_yaml("a.yaml", "worker_map: {mine: 'http://mine:1'}");
    let sources = sources.with_environment([("TASKBROKER_WORKER_MAP__OTHER", "http://other:1")]);
    let both: Vec<_> = load(&sources).unwrap().settings.delivery.worker_map.into_keys().collect();
    assert_eq!(both, ["mine", "other"]);
    for wrong in
        ["one:50052", "ftp://one:50052", "http://", "http://one:0", "http://u@one:1", "http://one:1/x", "http://o ne"]
    {
        let said = yaml_problems(&format!("worker_map: {{one: '{wrong}'}}"));
        assert!(said[0].starts_with("worker_map.one = ") && said[0].contains("expected http://host:port"), "{said:?}");
    }
    assert_eq!(names("worker_map: {a: 'http://[::1]:5', b: 'http://[::1]', c: 'http://host/'}"), ["a", "b", "c"]);
}

#[test]
fn a_raw_topic_in_the_earlier_form_is_one_in_the_later_form() {
    let earlier = yaml(
        "raw_mode: true\nraw_namespace: n\nraw_application: a\nraw_taskname: t\nkafka_topic: events\nkafka_retry_topic: again",
    );
    let source = &earlier.settings.kafka.sources[0];
    assert_eq!((source.topic.as_str(), source.group.as_str()), ("events", "taskworker"));
    let raw = source.raw.as_ref().unwrap();
    assert_eq!((raw.namespace.as_str(), raw.application.as_str(), raw.taskname.as_str()), ("n", "a", "t"));
    assert_eq!((raw.processing_deadline, raw.compression_level), (Duration::from_secs(30), Some(3)));
    shows_what_it_has(&earlier);
    let named = "raw_mode: true\nraw_namespace: n\nraw_application: a\nraw_taskname: t\nkafka_retry_topic: again\n";
    let longest = yaml(&format!("{named}raw_processing_deadline_duration: 65535")).settings.kafka.sources.remove(0);
    assert_eq!(longest.raw.unwrap().processing_deadline, Duration::from_secs(65_535));
    let said = yaml_problems(&format!("{named}raw_processing_deadline_duration: 65536"));
    assert!(said[0].starts_with("raw_processing_deadline_duration = 65536 (test.yaml line 6): expected"), "{said:?}");
    let said = yaml_problems("raw_mode: true\nraw_namespace: n\nkafka_retry_topic: again");
    assert!(
        said.iter()
            .any(|line| line.starts_with("raw_application: is missing") || line.starts_with("raw_application (")),
        "{said:?}"
    );
    assert!(
        yaml_problems("raw_mode: true\nraw_namespace: n\nraw_application: a\nraw_taskname: t")[0].contains("is raw")
    );
    let ignored = warnings(&yaml("raw_namespace: n"), WarningKind::Ignored);
    assert!(
        ignored[0].starts_with("raw_namespace (test.yaml line 1): has no effect without raw_mode: true"),
        "{ignored:?}"
    );
    let said = yaml_problems(&format!("{}raw_mode: true", super::MAPS));
    assert!(said[0].starts_with("kafka_topics, kafka_clusters, raw_mode: the earlier keys"), "{said:?}");
    assert_eq!(yaml(&format!("{}raw_mode: false", super::MAPS)).settings.kafka.sources.len(), 1);
}

#[test]
fn earlier_names_of_durations_are_in_milliseconds() {
    let loaded =
        yaml("push_timeout_ms: 1500\npush_queue_timeout_ms: '250'\nfetch_wait_ms: 20\npush_update_interval_ms: 7");
    let push = &loaded.settings.delivery.push;
    assert_eq!((push.timeout, push.queue_timeout), (Duration::from_millis(1500), Duration::from_millis(250)));
    assert_eq!(loaded.settings.delivery.fetch.backoff, Duration::from_millis(20));
    assert_eq!(push.update_batch_interval, Duration::from_millis(7));
    assert_eq!(warnings(&loaded, WarningKind::Renamed).len(), 4);
    let later = environment(&[("TASKBROKER_PUSH_TIMEOUT_MS", "1"), ("TASKBROKER_PUSH__TIMEOUT", "2s")]);
    assert_eq!(later.settings.delivery.push.timeout, Duration::from_secs(2));
    let given = environment(&[("TASKBROKER_PUSH_TIMEOUT_MS", "40")]);
    assert_eq!(given.settings.delivery.push.timeout, Duration::from_millis(40));
    assert!(
        yaml_problems("push_timeout_ms: soon")[0].starts_with("push.timeout = \"soon\" (test.yaml line 1): expected a")
    );
    assert!(
        yaml_problems("fetch_threads: 3")[0]
            .starts_with("fetch.threads = 3 (test.yaml line 1): expected a power of two")
    );
    assert!(yaml_problems("push_timeout_ms: 0")[0].contains("out of range: expected 1ms to 1h"));
}
