//! Defaults, file, environment: which wins, and how it is shown.

use std::{collections::BTreeSet, path::Path, time::Duration};

use config::{File, FileFormat, Source, Value, ValueKind};
use taskbroker::settings::{
    AssignmentStrategy, Key, OffsetReset, Origin, Sources, StoreAdapter, WarningKind, load, render_effective,
};

use super::{MAPS, environment, warnings, yaml, yaml_problems};

/// Those of the top level: `keys`.
#[test]
fn the_defaults_are_those_of_the_existing_system_where_it_has_them() {
    let settings = load(&Sources::defaults()).unwrap().settings;
    let (source, outbox) = (settings.kafka.sources[0].clone(), settings.kafka.outbox);
    assert_eq!((source.topic.as_str(), source.group.as_str()), ("taskworker", "taskworker"));
    assert_eq!(source.cluster.address, "127.0.0.1:9092");
    assert_eq!(source.assignment_strategy, AssignmentStrategy::RangeRoundRobin);
    assert_eq!(outbox.delivery_timeout, Duration::from_secs(300));
    let (push, fetch) = (settings.delivery.push, settings.delivery.fetch);
    assert_eq!((push.threads.get(), push.queue_size.get()), (1, 1));
    assert_eq!((push.timeout, push.queue_timeout), (Duration::from_secs(30), Duration::from_secs(5)));
    assert_eq!((push.update_batched, push.update_batch_length.get(), push.update_batch_size.get()), (false, 1, 1));
    assert_eq!(push.update_batch_interval, Duration::from_millis(100));
    assert_eq!((fetch.threads.get(), fetch.backoff, fetch.batch_length.get()), (1, Duration::from_millis(100), 1));
    let store = settings.store;
    assert_eq!(store.adapter, StoreAdapter::Sqlite);
    assert_eq!(store.sqlite_path, Path::new("./taskbroker-inflight.sqlite"));
    assert_eq!(store.max_bytes.map(u64::from), Some(3_000_000_000));
    assert_eq!((store.max_pending.get(), store.max_delayed.get(), store.max_processing.get()), (2048, 8192, 2048));
    assert_eq!(store.max_lost_leases.get(), 5);
    assert_eq!(store.deadline_grace, Duration::from_secs(3));
    assert_eq!(store.linger, Duration::from_millis(200));
}

#[test]
fn every_documented_key_is_read_and_every_key_that_is_read_is_documented() {
    let documented = File::from_str(include_str!("../../config/default.yaml"), FileFormat::Yaml).collect().unwrap();
    let mut keys = BTreeSet::new();
    for (name, value) in documented {
        leaves(&Key::new(&name), &value, &mut keys);
    }
    let loaded = load(&Sources::defaults()).unwrap();
    // The defaults name no topic and no cluster; which ones that stands for is worked out.
    let derived = |key: &&Key| ["kafka_topics", "kafka_clusters", "worker_map"].contains(&key.segments()[0].as_str());
    let read: BTreeSet<_> = loaded.effective.keys().filter(|key| !derived(key)).cloned().collect();
    assert_eq!(keys, read);
    assert!(loaded.effective.values().all(|effective| effective.origin == Origin::Default));
}

fn leaves(key: &Key, value: &Value, into: &mut BTreeSet<Key>) {
    match &value.kind {
        ValueKind::Table(table) => table.iter().for_each(|(name, value)| leaves(&key.child(name), value, into)),
        _ => {
            into.insert(key.clone());
        }
    }
}

#[test]
fn every_file_in_config_loads_without_a_doubt() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let loaded = load(&Sources::defaults().with_file(&path)).unwrap_or_else(|error| panic!("{error}"));
        let expected = |kind| kind == WarningKind::Consequence;
        assert!(loaded.warnings.iter().all(|warning| expected(warning.kind)), "{path:?}: {:?}", loaded.warnings);
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(names, ["default.yaml", "development.yaml", "production.yaml"]);
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let file = "grpc_port: 1000\nhttp_port: 2000\nstore:\n  max_pending_count: 7\n";
    let variables = [("TASKBROKER_GRPC_PORT", "3000"), ("TASKBROKER_STORE__MAX_DELAY_COUNT", "8")];
    let loaded = load(&Sources::defaults().with_yaml("a.yaml", file).with_environment(variables)).unwrap();
    let settings = &loaded.settings;
    assert_eq!(settings.grpc_listen.map(|address| address.port()), Some(3000));
    assert_eq!(settings.http_listen.map(|address| address.port()), Some(2000));
    assert_eq!(settings.store.max_pending.get(), 7);
    assert_eq!(settings.store.max_delayed.get(), 8);
    assert_eq!(settings.store.max_processing.get(), 2048);
    let origin = |key| loaded.effective[&Key::new(key)].origin.to_string();
    assert_eq!(origin("grpc_port"), "environment variable TASKBROKER_GRPC_PORT");
    assert_eq!(origin("http_port"), "a.yaml line 2");
    assert_eq!(origin("store.max_pending_count"), "a.yaml line 4");
    assert_eq!(origin("store.max_processing_count"), "built-in default");
}

#[test]
fn an_empty_variable_counts_as_not_given() {
    let loaded = environment(&[("TASKBROKER_GRPC_PORT", ""), ("TASKBROKER_KAFKA_SASL_PASSWORD", "  ")]);
    assert_eq!(loaded.settings.grpc_listen.map(|address| address.port()), Some(50051));
    assert!(loaded.warnings.iter().all(|warning| warning.kind == WarningKind::Consequence));
}

#[test]
fn port_zero_opens_no_port() {
    let settings = yaml("grpc_port: 0\nhttp_port: 0").settings;
    assert_eq!((settings.grpc_listen, settings.http_listen), (None, None));
}

#[test]
fn null_means_no_limit_where_there_may_be_none() {
    assert_eq!(yaml("store: {max_size: null}").settings.store.max_bytes, None);
    for none in ["null", "~"] {
        assert_eq!(environment(&[("TASKBROKER_STORE__MAX_SIZE", none)]).settings.store.max_bytes, None);
        assert_eq!(environment(&[("TASKBROKER_STATSD_ADDR", none)]).settings.metrics.statsd_address, None);
    }
}

#[test]
fn maps_come_by_the_environment_whole_or_key_by_key() {
    let whole = environment(&[
        ("TASKBROKER_KAFKA_CLUSTERS", r#"{main={address="a:1,b:2", security_protocol=SSL}}"#),
        ("TASKBROKER_KAFKA_TOPICS", "{tasks={cluster=main,consumer_group=g}, dlq={cluster=main, produce_only=true}}"),
        ("TASKBROKER_KAFKA_DEADLETTER_TOPIC", "dlq"),
    ]);
    let single = environment(&[
        ("TASKBROKER_KAFKA_CLUSTERS__MAIN__ADDRESS", "a:1,b:2"),
        ("TASKBROKER_KAFKA_CLUSTERS__MAIN__SECURITY_PROTOCOL", "ssl"),
        ("TASKBROKER_KAFKA_TOPICS__TASKS__CLUSTER", "main"),
        ("TASKBROKER_KAFKA_TOPICS__TASKS__CONSUMER_GROUP", "g"),
        ("TASKBROKER_KAFKA_TOPICS__DLQ__CLUSTER", "main"),
        ("TASKBROKER_KAFKA_TOPICS__DLQ__PRODUCE_ONLY", "true"),
        ("TASKBROKER_KAFKA_DEADLETTER_TOPIC", "dlq"),
    ]);
    let file = yaml(
        "kafka_clusters: {main: {address: 'a:1,b:2', security_protocol: ssl}}\n\
         kafka_topics: {tasks: {cluster: main, consumer_group: g}, dlq: {cluster: main, produce_only: true}}\n\
         kafka_deadletter_topic: dlq",
    );
    assert_eq!(format!("{:?}", whole.settings), format!("{:?}", single.settings));
    assert_eq!(format!("{:?}", whole.settings), format!("{:?}", file.settings));
    assert_eq!(whole.settings.kafka.sources[0].cluster.address, "a:1,b:2");
}

#[test]
fn names_of_topics_may_hold_dots_and_hyphens() {
    let text = MAPS.replace("  tasks:", "  'my.tasks_0-a':");
    let loaded = yaml(&text);
    assert_eq!(loaded.settings.kafka.sources[0].topic, "my.tasks_0-a");
    let again = yaml(&render_effective(&loaded));
    assert_eq!(format!("{:?}", again.settings), format!("{:?}", loaded.settings));
    let said = yaml_problems(&MAPS.replace("  tasks:", "  'tasks/0':"));
    assert!(
        said[0].starts_with("kafka_topics.\"tasks/0\" (test.yaml line 5): no topic can be called \"tasks/0\""),
        "{said:?}"
    );
    let by_environment = environment(&[
        ("TASKBROKER_KAFKA_CLUSTERS", r#"{main={address="kafka:9092"}}"#),
        (
            "TASKBROKER_KAFKA_TOPICS",
            "{My.Tasks={cluster=main,consumer_group=g},taskworker-dlq={cluster=main,produce_only=true}}",
        ),
    ]);
    assert_eq!(by_environment.settings.kafka.sources[0].topic, "My.Tasks");
}

#[test]
fn a_variable_changes_one_field_of_a_topic_in_the_file() {
    let variables = [("TASKBROKER_KAFKA_TOPICS__TASKS__CONSUMER_GROUP", "others")];
    let loaded = load(&Sources::defaults().with_yaml("a.yaml", MAPS).with_environment(variables)).unwrap();
    assert_eq!(loaded.settings.kafka.sources[0].group, "others");
    assert_eq!(loaded.settings.kafka.sources[0].topic, "tasks");
}

#[test]
fn a_topic_overrides_what_holds_for_all() {
    let text =
        MAPS.replace("consumer_group: workers", "consumer_group: g, session_timeout_ms: 9000, auto_offset_reset: end");
    let source = yaml(&format!("{text}\nkafka_auto_offset_reset: earliest")).settings.kafka.sources.remove(0);
    assert_eq!(source.session_timeout, Duration::from_secs(9));
    assert_eq!(source.offset_reset, OffsetReset::Latest);
}

#[test]
fn an_alias_repeats_what_its_anchor_names() {
    let text = "x-common: &c {address: 'kafka:9092'}\nkafka_clusters: {main: *c, other: *c}\n\
                kafka_topics: {t: {cluster: main, consumer_group: g}, taskworker-dlq: {cluster: other, produce_only: true}}";
    assert_eq!(yaml(text).settings.kafka.outbox.dead_letter.cluster.address, "kafka:9092");
}

#[test]
fn a_relative_path_is_looked_for_in_the_directories_above() {
    // The working directory of this test is the repository; `tests` lies below it.
    let loaded = load(&Sources::defaults().with_file("config/development.yaml")).unwrap();
    assert_eq!(loaded.effective[&Key::new("grpc_addr")].value, "\"127.0.0.1\"");
    let name = Path::new(env!("CARGO_MANIFEST_DIR")).file_name().unwrap();
    let from_above = Path::new(name).join("config/development.yaml");
    assert!(load(&Sources::defaults().with_file(from_above)).is_ok());
}

#[test]
fn the_same_sources_give_the_same_result() {
    let sources = Sources::defaults()
        .with_yaml("a.yaml", &format!("{MAPS}\nunknown_b: 1\nunknown_a: 2\npush: {{threads: 2}}\nsentry_env: x"))
        .with_environment([("TASKBROKER_ZZ", "1"), ("TASKBROKER_AA", "1"), ("TASKBROKER_PUSH__TIMEOUT", "1s")]);
    let first = load(&sources).unwrap();
    for _ in 0..20 {
        let again = load(&sources).unwrap();
        assert_eq!(again.warnings, first.warnings);
        assert_eq!(render_effective(&again), render_effective(&first));
        assert_eq!(format!("{:?}", again.settings), format!("{:?}", first.settings));
    }
}

#[test]
fn the_effective_configuration_reads_as_the_same_settings() {
    let text = format!("{MAPS}\nstore: {{linger: 1500ms, max_size: null}}\nlog_filter: 'a b: #\"c\" \\ ü'\n");
    let first = load(&Sources::defaults().with_yaml("a\nb.yaml", &text)).unwrap();
    let shown = render_effective(&first);
    let second = yaml(&shown);
    assert_eq!(format!("{:?}", first.settings), format!("{:?}", second.settings), "{shown}");
    assert!(warnings(&second, WarningKind::Unknown).is_empty(), "{shown}");
    assert!(shown.contains("  linger: 1500ms  # a\\nb.yaml line 7\n"), "{shown}");
    assert!(shown.contains("grpc_port: 50051  # built-in default\n"), "{shown}");
}

#[test]
fn the_effective_configuration_of_the_defaults_names_the_topics_they_stand_for() {
    let first = load(&Sources::defaults()).unwrap();
    let shown = render_effective(&first);
    let second = yaml(&shown);
    assert!(shown.contains("    consumer_group: taskworker  # built-in default\n"), "{shown}");
    assert_eq!(format!("{:?}", first.settings), format!("{:?}", second.settings), "{shown}");
}
