//! Every key of the top level that the existing system has: its default there, that what is given arrives in the settings, from
//! a file and from the environment, and what is refused.

use taskbroker::settings::{DeliveryMode, LogFormat, OffsetReset, Settings};

use super::{environment, environment_problems, yaml, yaml_problems};

/// A key, what it is where nothing is said, and what is given; how either arrives in the settings.
type Case = (&'static str, &'static str, &'static str, fn(&Settings) -> String);

const KEYS: [Case; 28] = [
    ("log_filter", "info,librdkafka=warn,h2=off", "debug", |s| s.log.filter.clone()),
    ("log_format", "text", "json", |s| match s.log.format {
        LogFormat::Text => "text".to_owned(),
        LogFormat::Json => "json".to_owned(),
    }),
    ("statsd_addr", "127.0.0.1:8126", "agent:8125", |s| s.metrics.statsd_address.clone().unwrap_or_default()),
    ("traces_sample_rate", "0", "0.25", |s| s.traces.sample_rate.to_string()),
    ("default_metrics_tags", "{}", "{cell: 01, region: eu}", |s| pairs(&s.metrics.default_tags)),
    ("grpc_addr", "0.0.0.0", "127.0.0.7", |s| s.grpc_listen.unwrap().ip().to_string()),
    ("grpc_port", "50051", "1234", |s| s.grpc_listen.unwrap().port().to_string()),
    ("grpc_shared_secret", "[]", "[new, old]", |s| secrets(s)),
    ("grpc_max_message_size", "54525952", "60000000", |s| s.delivery.push.max_message_bytes.to_string()),
    ("grpc_max_request_size", "4194304", "5000000", |s| s.grpc.max_request_bytes.to_string()),
    ("kafka_deadletter_topic", "taskworker-dlq", "graves", |s| s.kafka.outbox.dead_letter.topic.clone()),
    ("kafka_retry_topic", "taskworker", "again", |s| s.kafka.outbox.retry.topic.clone()),
    ("kafka_long_topic", "taskworker-long", "long", |s| s.kafka.outbox.forward.topic.clone()),
    ("create_missing_topics", "false", "true", |s| s.kafka.create.is_some().to_string()),
    ("kafka_session_timeout_ms", "6000", "7000", |s| s.kafka.sources[0].session_timeout.as_millis().to_string()),
    ("kafka_auto_offset_reset", "latest", "earliest", |s| match s.kafka.sources[0].offset_reset {
        OffsetReset::Latest => "latest".to_owned(),
        OffsetReset::Earliest => "earliest".to_owned(),
    }),
    ("kafka_send_timeout_ms", "500", "20", |s| s.kafka.outbox.send_timeout.as_millis().to_string()),
    ("max_message_size", "5000000", "6000000", |s| s.kafka.outbox.max_message_bytes.to_string()),
    ("runtime_config_path", "none", "/rules.yaml", |s| {
        s.rules.as_ref().map_or_else(|| "none".to_owned(), |path| path.display().to_string())
    }),
    ("health_check_killswitched", "false", "true", |s| s.health_forced.to_string()),
    ("upkeep_deadline_reset_skip_after_startup_sec", "60", "7", |s| s.quiet_after_start.as_secs().to_string()),
    ("max_delayed_task_allowed_sec", "3600", "7", |s| s.max_delay.as_secs().to_string()),
    ("canary_tasks", "0", "2", |s| s.canary_tasks.to_string()),
    ("delivery_mode", "pull", "push", |s| match s.delivery.mode {
        DeliveryMode::Pull => "pull".to_owned(),
        DeliveryMode::Push => "push".to_owned(),
    }),
    ("batch_status_updates", "false", "true", |s| s.grpc.batch_status_updates.to_string()),
    ("status_update_batch_size", "1", "9", |s| s.grpc.status_update_batch_size.to_string()),
    ("status_update_interval_ms", "100", "9", |s| s.grpc.status_update_interval.as_millis().to_string()),
    ("worker_map", "{sentry: http://127.0.0.1:50052}", "{a: http://a:1, b: https://b:2}", |s| {
        pairs(s.delivery.worker_map.iter().map(|(name, at)| (name, at.as_str())))
    }),
];

/// As YAML has a map.
fn pairs<K: ToString, V: ToString>(entries: impl IntoIterator<Item = (K, V)>) -> String {
    let entries = entries.into_iter().map(|(key, value)| format!("{}: {}", key.to_string(), value.to_string()));
    format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
}

fn secrets(settings: &Settings) -> String {
    let secrets: Vec<_> = settings.grpc.shared_secrets.iter().map(secrecy::ExposeSecret::expose_secret).collect();
    format!("[{}]", secrets.join(", "))
}

#[test]
fn each_key_has_the_default_of_the_existing_system_and_arrives_from_file_and_environment() {
    let nothing = yaml("").settings;
    for (key, default, given, arrived) in KEYS {
        assert_eq!(arrived(&nothing), default, "{key} where nothing is said");
        assert_eq!(arrived(&yaml(&format!("{key}: {given}")).settings), given, "{key} from a file");
        let (variable, value) = (format!("TASKBROKER_{}", key.to_uppercase()), given.replace(": ", "="));
        let by_environment = environment(&[(variable.as_str(), value.as_str())]).settings;
        assert_eq!(arrived(&by_environment), given, "{variable}={value}");
    }
}

#[test]
fn how_missing_topics_are_created_arrives_where_they_are() {
    let creation = |text: &str| {
        let create = yaml(text).settings.kafka.create;
        create.map(|create| (create.partitions.get(), create.replication.map(std::num::NonZeroU16::get)))
    };
    assert_eq!(creation("default_topic_partitions: 3"), None);
    assert_eq!(creation("create_missing_topics: true"), Some((1, None)));
    let both = "create_missing_topics: true\ndefault_topic_partitions: 3\ndefault_topic_replication_factor: 2";
    assert_eq!(creation(both), Some((3, Some(2))));
}

#[test]
fn a_start_is_called_by_every_word_that_librdkafka_has_for_it() {
    for (words, reset) in [
        (["earliest", "beginning", "smallest"], OffsetReset::Earliest),
        (["latest", "end", "largest"], OffsetReset::Latest),
    ] {
        for word in words {
            let settings = yaml(&format!("kafka_auto_offset_reset: {word}")).settings;
            assert_eq!(settings.kafka.sources[0].offset_reset, reset, "{word}");
        }
    }
}

#[test]
fn a_value_that_cannot_be_meant_is_refused_by_its_key() {
    for (key, wrong) in [
        ("log_format", "xml"),
        ("statsd_addr", "agent"),
        ("statsd_addr", "agent:0"),
        ("traces_endpoint", "collector:4317"),
        ("traces_endpoint", "http://collector:4317/v1/traces"),
        ("traces_sample_rate", "1.5"),
        ("traces_sample_rate", "-0.1"),
        ("traces_sample_rate", "many"),
        ("grpc_addr", "localhost"),
        ("grpc_port", "65536"),
        ("grpc_max_message_size", "0"),
        ("grpc_max_request_size", "0"),
        ("create_missing_topics", "perhaps"),
        ("default_topic_partitions", "0"),
        ("default_topic_replication_factor", "0"),
        ("kafka_session_timeout_ms", "0"),
        // A broker without a position would fail by it.
        ("kafka_auto_offset_reset", "error"),
        ("kafka_send_timeout_ms", "1s"),
        ("max_message_size", "999"),
        ("health_check_killswitched", "perhaps"),
        ("upkeep_deadline_reset_skip_after_startup_sec", "-1"),
        ("max_delayed_task_allowed_sec", "-1"),
        ("canary_tasks", "-1"),
        ("delivery_mode", "both"),
        ("batch_status_updates", "2"),
        ("status_update_batch_size", "0"),
        ("status_update_interval_ms", "0"),
    ] {
        let said = yaml_problems(&format!("{key}: {wrong}"));
        assert!(said.len() == 1 && said[0].starts_with(&format!("{key} = ")), "{key}: {wrong}: {said:?}");
        assert!(said[0].contains("(test.yaml line 1): ") && said[0].contains(wrong), "{said:?}");
    }
}

#[test]
fn an_empty_secret_is_refused_wherever_it_stands() {
    for wrong in ["['']", "[one, '']", "['', one]"] {
        let said = yaml_problems(&format!("grpc_shared_secret: {wrong}"));
        assert_eq!(said, ["grpc_shared_secret (test.yaml line 1): expected a text that is not empty"], "{wrong}");
    }
    for wrong in [r#"[""]"#, r#"["one", ""]"#, "[,one]"] {
        let said = environment_problems(&[("TASKBROKER_GRPC_SHARED_SECRET", wrong)]);
        assert!(said.len() == 1 && said[0].starts_with("grpc_shared_secret (environment"), "{wrong}: {said:?}");
    }
}
