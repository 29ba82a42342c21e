//! Configurations of the existing system: the earlier keys, topics and clusters, and what has no effect here.

use taskbroker::settings::{Key, SaslMechanism, SecurityProtocol, Sources, WarningKind, load};

use super::{MAPS, environment, warnings, yaml, yaml_problems};

#[test]
fn the_earlier_keys_describe_a_topic_and_two_clusters() {
    let loaded = environment(&[
        ("TASKBROKER_KAFKA_TOPIC", "tasks"),
        ("TASKBROKER_KAFKA_CONSUMER_GROUP", "workers"),
        ("TASKBROKER_KAFKA_CLUSTER", "kafka:9092"),
        ("TASKBROKER_KAFKA_DEADLETTER_CLUSTER", "dead:9092"),
        ("TASKBROKER_KAFKA_DEADLETTER_TOPIC", "graves"),
        ("TASKBROKER_KAFKA_RETRY_TOPIC", "again"),
        ("TASKBROKER_KAFKA_DEADLETTER_SECURITY_PROTOCOL", "SASL_SSL"),
        ("TASKBROKER_KAFKA_DEADLETTER_SASL_MECHANISM", "scram-sha-256"),
        ("TASKBROKER_KAFKA_DEADLETTER_SASL_USERNAME", "u"),
        ("TASKBROKER_KAFKA_DEADLETTER_SASL_PASSWORD", "0123"),
    ]);
    let kafka = &loaded.settings.kafka;
    assert_eq!((kafka.sources[0].topic.as_str(), kafka.sources[0].group.as_str()), ("tasks", "workers"));
    assert_eq!(kafka.sources[0].cluster.address, "kafka:9092");
    assert!(kafka.sources[0].cluster.sasl.is_none());
    assert_eq!(kafka.outbox.dead_letter.cluster.address, "dead:9092");
    assert_eq!(kafka.outbox.dead_letter.cluster.security_protocol, SecurityProtocol::SaslSsl);
    let sasl = kafka.outbox.dead_letter.cluster.sasl.as_ref().unwrap();
    assert_eq!((sasl.mechanism, sasl.username.as_str()), (SaslMechanism::ScramSha256, "u"));
    assert_eq!(secrecy::ExposeSecret::expose_secret(&sasl.password), "0123");
    assert_eq!((kafka.outbox.dead_letter.topic.as_str(), kafka.outbox.retry.topic.as_str()), ("graves", "again"));
    let shown = &loaded.effective[&Key::new("kafka_topics.tasks.consumer_group")];
    assert_eq!(shown.origin.to_string(), "environment variable TASKBROKER_KAFKA_CONSUMER_GROUP");
}

#[test]
fn without_a_dead_letter_cluster_the_main_one_is_used_with_its_credentials() {
    let text = "kafka_cluster: kafka:9092\nkafka_security_protocol: sasl_plaintext\nkafka_sasl_mechanism: PLAIN\n\
                kafka_sasl_username: u\nkafka_sasl_password: p";
    let outbox = yaml(text).settings.kafka.outbox;
    assert_eq!(outbox.dead_letter.cluster.address, "kafka:9092");
    assert_eq!(outbox.dead_letter.cluster.sasl.unwrap().username, "u");
}

#[test]
fn the_earlier_keys_and_the_maps_cannot_be_mixed() {
    let said = yaml_problems(&format!("{MAPS}\nkafka_topic: a\nkafka_sasl_password: b"));
    assert_eq!(
        said,
        [
            "kafka_topics, kafka_clusters, kafka_topic, kafka_sasl_password: the earlier keys and the maps cannot be mixed: \
          move all into the maps"
        ]
    );
    // Variables that a chart always sets, but leaves empty, are not given.
    let sources = Sources::defaults().with_yaml("a.yaml", MAPS).with_environment([("TASKBROKER_KAFKA_TOPIC", "")]);
    assert!(load(&sources).is_ok());
    assert!(load(&Sources::defaults().with_yaml("a.yaml", &format!("{MAPS}\nkafka_topic: ''"))).is_ok());
}

#[test]
fn topics_and_clusters_must_fit_together() {
    for (text, said) in [
        (
            "kafka_clusters: {main: {address: 'a:1'}}".to_owned(),
            "kafka_topics: is missing: topics and clusters are declared together",
        ),
        (
            "kafka_topics: {tasks: {cluster: main, consumer_group: g}}".to_owned(),
            "kafka_clusters: is missing: topics and clusters are declared together",
        ),
        (
            MAPS.replace("cluster: main, consumer_group", "consumer_group"),
            "kafka_topics.tasks.cluster (test.yaml line 5): is missing: a topic names its cluster",
        ),
        (
            MAPS.replace("cluster: main, consumer_group", "cluster: mian, consumer_group"),
            "kafka_topics.tasks.cluster = mian (test.yaml line 5): there is no such cluster in kafka_clusters; there are: main",
        ),
        (
            MAPS.replace("taskworker-dlq", "other"),
            "kafka_deadletter_topic = taskworker-dlq (built-in default): is not declared in kafka_topics: declare it there, \
             with produce_only: true",
        ),
        (
            format!("{MAPS}kafka_retry_topic: again"),
            "kafka_retry_topic = again (test.yaml line 6): is not declared in kafka_topics: declare it there, with \
             produce_only: true",
        ),
        (
            format!("{MAPS}kafka_retry_topic: taskworker-dlq"),
            "kafka_retry_topic = taskworker-dlq (test.yaml line 6): is the dead-letter topic: retries would never run",
        ),
        (
            format!("{MAPS}kafka_deadletter_topic: tasks"),
            "kafka_deadletter_topic = tasks (test.yaml line 6): is the consumed topic: dead letters would run again, without \
             end",
        ),
        (
            "kafka_topic: tasks\nkafka_deadletter_topic: tasks".to_owned(),
            "kafka_deadletter_topic = tasks (test.yaml line 2): is the consumed topic: dead letters would run again, without \
             end",
        ),
        (
            "kafka_deadletter_topic: dead\nkafka_retry_topic: dead".to_owned(),
            "kafka_retry_topic = dead (test.yaml line 2): is the dead-letter topic: retries would never run",
        ),
        (
            MAPS.replace("consumer_group: workers", "produce_only: true"),
            "kafka_topics: no topic is consumed: each is produce_only, and one must not be",
        ),
        (
            format!("{MAPS}  more: {{cluster: main, consumer_group: workers}}"),
            "kafka_retry_topic (built-in default): is missing: with more than one consumed topic, say where retries go",
        ),
        (
            MAPS.replace(", consumer_group: workers", ""),
            "kafka_topics.tasks.consumer_group (test.yaml line 5): is missing: a topic that is consumed has a group",
        ),
        (
            MAPS.replace("address: 'kafka:9092'", "ssl_ca_location: ''"),
            "kafka_clusters.main.address (test.yaml line 2): is missing: a cluster needs its bootstrap servers, \
             host:port,host:port",
        ),
    ] {
        let all = yaml_problems(&text);
        assert!(all.iter().any(|line| line == said), "{said}\n{all:#?}");
    }
}

#[test]
fn a_topic_about_which_nothing_is_said_is_refused() {
    let said = yaml_problems(&format!("{MAPS}  more:\n"));
    assert_eq!(said, ["kafka_topics.more (test.yaml line 6): is empty: say something about it, or remove it"]);
}

#[test]
fn retries_and_dead_letters_each_go_to_their_own_cluster() {
    let outbox = yaml("kafka_cluster: a:1\nkafka_deadletter_cluster: b:1").settings.kafka.outbox;
    assert_eq!((outbox.retry.topic.as_str(), outbox.retry.cluster.address.as_str()), ("taskworker", "a:1"));
    assert_eq!(outbox.dead_letter.cluster.address, "b:1");
    assert_eq!(outbox.forward.cluster.address, "b:1");
    let outbox =
        yaml("kafka_cluster: a:1\nkafka_deadletter_cluster: b:1\nkafka_retry_topic: again").settings.kafka.outbox;
    assert_eq!(outbox.retry.cluster.address, "b:1");
}

#[test]
fn credentials_are_complete_or_refused() {
    let with = |fields: &str| MAPS.replace("address: 'kafka:9092'", &format!("address: 'kafka:9092', {fields}"));
    let said = yaml_problems(&with("security_protocol: sasl_ssl, sasl_username: u"));
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("kafka_clusters.main.sasl_mechanism (test.yaml line 2): is missing"), "{said:?}");
    assert!(said[1].starts_with("kafka_clusters.main.sasl_password (test.yaml line 2): is missing"), "{said:?}");
    let said = yaml_problems(&with("security_protocol: sasl_ssl, sasl_mechanism: GSSAPI"));
    assert!(said[0].contains("Kerberos is not in this build"), "{said:?}");
    let said = yaml_problems(&with("security_protocol: sasl_ssl, sasl_mechanism: oauthbearer"));
    assert!(said[0].contains("OAUTHBEARER is not in this build"), "{said:?}");
    let said = yaml_problems(&with("security_protocol: ssl, ssl_key_location: /k.pem"));
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("a certificate and its key go together"), "{said:?}");
    let loaded = yaml(&with("sasl_username: u, ssl_ca_location: /ca.pem, sasl_password: ''"));
    let said = warnings(&loaded, WarningKind::Consequence);
    assert!(said.iter().any(|line| line.contains("sasl_username") && line.contains("has no effect")), "{said:?}");
    assert!(said.iter().any(|line| line.contains("ssl_ca_location") && line.contains("has no effect")), "{said:?}");
    assert!(said.iter().all(|line| !line.contains("sasl_password")), "{said:?}");
}

#[test]
fn earlier_names_still_work_and_the_later_ones_win() {
    let loaded = yaml("db_path: /a.sqlite\nmax_pending_count: 5\nstore: {max_delay_count: 6}\nmax_delay_count: 7");
    assert_eq!(loaded.settings.store.sqlite_path.to_str(), Some("/a.sqlite"));
    assert_eq!(loaded.settings.store.max_pending.get(), 5);
    assert_eq!(loaded.settings.store.max_delayed.get(), 6);
    assert_eq!(
        warnings(&loaded, WarningKind::Renamed),
        [
            "db_path (test.yaml line 1): is the earlier name of store.sqlite.path: use that",
            "max_pending_count (test.yaml line 2): is the earlier name of store.max_pending_count: use that",
            "max_delay_count (test.yaml line 4): has no effect: store.max_delay_count, its later name, is given as well \
             (test.yaml line 3)",
        ]
    );
    let said = yaml_problems("max_pending_count: x");
    assert_eq!(said, ["store.max_pending_count = \"x\" (test.yaml line 1): expected a whole number"]);
}

#[test]
fn what_has_no_effect_is_said_once_with_the_reason() {
    let loaded = load(
        &Sources::defaults()
            .with_yaml("a.yaml", "upkeep_task_interval_ms: 1000\nkafka_auto_commit_interval_ms: 5000\n")
            .with_environment([("TASKBROKER_STORE__PG__PORT", "4"), ("TASKBROKER_STORE__PG__HOST", "4")]),
    )
    .unwrap();
    let said = warnings(&loaded, WarningKind::Ignored);
    assert_eq!(said.len(), 3, "{said:#?}");
    assert!(said.iter().any(|line| line.contains("upkeep_task_interval_ms")), "{said:#?}");
    assert!(said.iter().any(|line| line.contains("kafka_commit_interval")), "{said:#?}");
    assert!(said.iter().any(|line| line.matches("environment variable").count() == 2), "{said:#?}");
}

#[test]
fn asking_for_nothing_needs_no_warning() {
    let loaded = yaml(
        "grpc_shared_secret: []\nraw_mode: false\ncreate_missing_topics: false\ncanary_tasks: 0\nruntime_config_path: null\n\
         delivery_mode: pull\nbatch_status_updates: false\ndefault_metrics_tags: {}\ngrpc_addr: 127.0.0.1\n\
         traces_sample_rate: 0.0\nlog_async_backtrace: false\nsentry_dsn: null\nsentry_env: ''",
    );
    assert_eq!(loaded.warnings, []);
    let loaded = environment(&[
        ("TASKBROKER_GRPC_SHARED_SECRET", "[]"),
        ("TASKBROKER_RAW_MODE", "false"),
        ("TASKBROKER_GRPC_ADDR", "127.0.0.1"),
    ]);
    assert_eq!(loaded.warnings, []);
}

#[test]
fn listening_beyond_this_machine_without_authentication_is_a_warning() {
    let loaded = yaml("grpc_addr: 0.0.0.0");
    assert!(warnings(&loaded, WarningKind::Consequence)[0].starts_with("grpc_addr (test.yaml line 1): listens beyond"));
    assert_eq!(yaml("grpc_addr: '::1'").warnings, []);
}

#[test]
fn traces_take_a_collector_and_a_share() {
    let traces = |text: &str| {
        let loaded = yaml(&format!("{text}\ngrpc_addr: 127.0.0.1"));
        let given = loaded.settings.traces.clone();
        let endpoint = given.endpoint.map(|endpoint| endpoint.as_str().to_owned());
        (endpoint, given.sample_rate, warnings(&loaded, WarningKind::Consequence))
    };
    let collector = Some("http://collector:4317".to_owned());
    let both = "traces_endpoint: http://collector:4317\ntraces_sample_rate: ";
    for (share, rate) in [("1", 1.0), ("0.01", 0.01), ("'0.5'", 0.5), ("1e-3", 0.001)] {
        assert_eq!(traces(&format!("{both}{share}")), (collector.clone(), rate, vec![]));
    }
    for nothing in ["", "traces_sample_rate: null", "traces_endpoint: ''\ntraces_sample_rate: 0"] {
        assert_eq!(traces(nothing), (None, 0.0, vec![]));
    }
    let (_, _, said) = traces("traces_endpoint: http://collector:4317");
    assert!(said[0].starts_with("traces_endpoint (test.yaml line 1): gets nothing: traces_sample_rate"), "{said:?}");
    let (_, _, said) = traces("traces_sample_rate: 0.1");
    assert!(
        said[0].starts_with("traces_sample_rate (test.yaml line 1): has no effect without traces_endpoint"),
        "{said:?}"
    );
    let given =
        environment(&[("TASKBROKER_TRACES_ENDPOINT", "https://otel"), ("TASKBROKER_TRACES_SAMPLE_RATE", "1.0")]);
    assert_eq!(
        (given.settings.traces.endpoint.unwrap().as_str(), given.settings.traces.sample_rate),
        ("https://otel", 1.0)
    );
}

#[test]
fn every_key_without_effect_says_why() {
    let keys = [
        "kafka_auto_commit_interval_ms",
        "kafka_consume_retry_topic",
        "upkeep_task_interval_ms",
        "upkeep_unhealthy_interval_ms",
        "maintenance_task_interval_ms",
        "full_vacuum_on_start",
        "full_vacuum_on_upkeep",
        "vacuum_interval_ms",
        "vacuum_page_count",
        "store__sqlite__vacuum_page_count",
        "enable_sqlite_status_metrics",
        "store__sqlite__enable_status_metrics",
        "runtime_metrics_interval",
        "log_async_backtrace",
        "db_insert_batch_max_len",
        "db_insert_batch_max_size",
        "db_insert_batch_max_time_ms",
        "store__insert_batch_max_length",
        "store__insert_batch_max_bytes",
        "store__insert_batch_max_time_ms",
        "db_write_failure_backoff_ms",
        "store__insert_failure_backoff_ms",
        "db_query_max_retries",
        "db_query_retry_delay_ms",
        "store__retry__max_retries",
        "store__retry__delay",
        "sentry_dsn",
        "sentry_env",
        "store__pg__run_migrations",
        "store__pg__host",
        "store__pg__port",
        "store__pg__username",
        "store__pg__password",
        "store__pg__ddl_username",
        "store__pg__ddl_password",
        "store__pg__database_name",
        "store__pg__default_database_name",
        "store__pg__query_params",
        "store__contention_drain_age_sec",
        "run_migrations",
        "pg_host",
        "pg_port",
        "pg_username",
        "pg_password",
        "pg_ddl_username",
        "pg_ddl_password",
        "pg_database_name",
        "pg_default_database_name",
        "pg_extra_query_params",
    ];
    let defaults = format!("{:?}", yaml("").settings);
    for key in keys {
        let variable = format!("TASKBROKER_{}", key.to_uppercase());
        let loaded = environment(&[(variable.as_str(), "1")]);
        assert_eq!(format!("{:?}", loaded.settings), defaults, "{key}");
        let said = warnings(&loaded, WarningKind::Ignored);
        assert_eq!(said.len(), 1, "{key}: {said:?}");
        // What stands in a section without effect is told of the section.
        let told = key.replace("__", ".");
        let told = ["store.retry", "store.pg"].into_iter().find(|section| told.starts_with(section)).unwrap_or(&told);
        let beginning = format!("{told} (environment variable {variable}): has no effect");
        assert!(said[0].starts_with(&beginning), "{said:?}");
    }
}

#[test]
fn every_earlier_name_leads_to_its_setting() {
    for (earlier, later, value, shown, other) in [
        ("database_adapter", "store.adapter", "memory", "memory", "sqlite"),
        ("db_path", "store.sqlite.path", "/x.sqlite", "/x.sqlite", "/y.sqlite"),
        ("db_max_size", "store.max_size", "7000000", "7000000", "8000000"),
        ("max_pending_count", "store.max_pending_count", "3", "3", "5"),
        ("max_delay_count", "store.max_delay_count", "3", "3", "5"),
        ("max_processing_count", "store.max_processing_count", "3", "3", "5"),
        ("max_processing_attempts", "store.max_processing_attempts", "3", "3", "5"),
        ("processing_deadline_grace_sec", "store.processing_deadline_grace_sec", "7", "7", "5"),
        ("push_threads", "push.threads", "3", "3", "5"),
        ("push_timeout_ms", "push.timeout", "3", "3ms", "5ms"),
        ("push_queue_size", "push.queue.size", "3", "3", "5"),
        ("push_queue_timeout_ms", "push.queue.timeout", "3", "3ms", "5ms"),
        ("batch_push_updates", "push.update.batched", "true", "true", "false"),
        ("push_update_batch_size", "push.update.batch.length", "3", "3", "5"),
        ("push_update_interval_ms", "push.update.batch.interval", "3", "3ms", "5ms"),
        ("fetch_threads", "fetch.threads", "4", "4", "8"),
        ("fetch_wait_ms", "fetch.backoff", "3", "3ms", "5ms"),
        ("fetch_batch_size", "fetch.batch_length", "3", "3", "5"),
    ] {
        let by_file = yaml(&format!("{earlier}: {value}"));
        let variable = format!("TASKBROKER_{}", earlier.to_uppercase());
        let by_environment = environment(&[(variable.as_str(), value)]);
        let variable_of_later = format!("TASKBROKER_{}", later.replace('.', "__").to_uppercase());
        let by_later_name = environment(&[(variable_of_later.as_str(), shown)]);
        assert_ne!(format!("{:?}", by_later_name.settings), format!("{:?}", yaml("").settings), "{later}");
        let both = environment(&[(variable.as_str(), value), (variable_of_later.as_str(), other)]);
        assert_eq!(both.effective[&Key::new(later)].value, other, "{later} wins");
        assert_eq!(warnings(&both, WarningKind::Renamed).len(), 1, "{earlier}");
        for loaded in [by_file, by_environment] {
            assert_eq!(format!("{:?}", loaded.settings), format!("{:?}", by_later_name.settings), "{earlier}");
            assert_eq!(loaded.effective[&Key::new(later)].value, shown, "{earlier}");
            let said = warnings(&loaded, WarningKind::Renamed);
            assert!(
                said.len() == 1 && said[0].ends_with(&format!("is the earlier name of {later}: use that")),
                "{said:?}"
            );
        }
    }
}
