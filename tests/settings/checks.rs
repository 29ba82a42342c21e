//! Settings that are each right but do not go together, and such as do something one may not have meant. The existing
//! system starts with all of them.

use taskbroker::settings::{WarningKind, load};

use super::{MAPS, Sources, warnings, yaml, yaml_problems};

/// The problems that these settings have, each of which must begin with the text beside it.
fn refused(text: &str, beginnings: &[&str]) {
    let said = yaml_problems(text);
    assert_eq!(said.len(), beginnings.len(), "{text}: {said:#?}");
    for (line, beginning) in said.iter().zip(beginnings) {
        assert!(line.starts_with(beginning), "{line}\n{beginning}");
    }
}

/// These settings can be used, and are warned of in a line that begins so.
fn warned(text: &str, beginning: &str) {
    let said = warnings(&yaml(text), WarningKind::Consequence);
    assert!(said.iter().any(|line| line.starts_with(beginning)), "{beginning}\n{said:#?}");
}

/// These settings can be used, and no warning names this key.
fn quiet(text: &str, key: &str) {
    let said = warnings(&yaml(text), WarningKind::Consequence);
    assert!(said.iter().all(|line| !line.starts_with(key)), "{said:#?}");
}

#[test]
fn one_message_of_the_largest_size_fits_wherever_it_goes() {
    refused(
        "max_message_size: 50000000\nstore: {payload_memory_bytes: 10000000}",
        &["store.payload_memory_bytes, max_message_size: the memory for payloads does not hold one message"],
    );
    refused(
        "max_message_size: 50000000\nstore: {max_size: 2000000}",
        &["store.max_size, max_message_size: the store may not grow to hold one message of the largest size"],
    );
    refused(
        "max_message_size: 54525952\ndelivery_mode: push",
        &[
            "grpc_max_message_size, max_message_size: a task of the largest size could not be pushed, and would wait for ever: set \
           grpc_max_message_size to at least 54591488",
        ],
    );
    assert_eq!(
        yaml("max_message_size: 50000000\ndelivery_mode: push").settings.kafka.outbox.max_message_bytes.get(),
        50_000_000
    );
    warned(
        "max_message_size: 10485761",
        "max_message_size (test.yaml line 1): tasks may be larger than the 10485760 bytes",
    );
    quiet("max_message_size: 10485760", "max_message_size");
}

#[test]
fn every_task_that_is_pushed_has_workers_it_is_pushed_to() {
    let push = "delivery_mode: push\nworker_map: {one: 'http://one:1', two: 'http://two:1'}\n";
    refused(
        &format!("{push}default_application: three"),
        &[
            "default_application, worker_map: activations without an application would belong to three, and nobody is pushed \
           those: worker_map has one, two",
        ],
    );
    let raw = "raw: {namespace: n, application: three, taskname: t, processing_deadline_duration: 5}";
    let maps = MAPS.replace("consumer_group: workers", &format!("consumer_group: g, {raw}"));
    let maps = format!("{maps}  again: {{cluster: main, produce_only: true}}\nkafka_retry_topic: again\n");
    refused(
        &format!("{push}{maps}"),
        &["kafka_topics.tasks.raw.application, worker_map: the tasks of the raw topic tasks belong to three"],
    );
    // Workers that ask need no map.
    assert_eq!(yaml(&maps).settings.kafka.sources.len(), 1);
    assert_eq!(yaml(&format!("{push}default_application: two")).settings.default_application.as_deref(), Some("two"));
    refused(
        "delivery_mode: push\ngrpc_port: 0",
        &["grpc_port, delivery_mode: no port is open, and the results of pushed tasks come by it"],
    );
    warned("grpc_port: 0", "grpc_port (test.yaml line 1): opens no port, so no worker can ask for tasks");
    warned(
        "canary_tasks: 2",
        "canary_tasks (test.yaml line 1): the canary tasks are for the applications of worker_map",
    );
    quiet("canary_tasks: 2\nworker_map: {a: 'http://a:1'}", "canary_tasks");
}

#[test]
fn certificates_come_with_what_they_need() {
    refused(
        "grpc_tls_certificate: /c.pem",
        &["grpc_tls_certificate, grpc_tls_key: a certificate and its key go together: give both, or neither"],
    );
    refused(
        "push: {tls_key: /k.pem}",
        &["push.tls_certificate, push.tls_key: a certificate and its key go together: give both, or neither"],
    );
    refused(
        "grpc_tls_client_ca: /ca.pem",
        &["grpc_tls_client_ca, grpc_tls_certificate, grpc_tls_key: callers can show a certificate only over TLS"],
    );
    let push = "delivery_mode: push\npush: {tls_ca: /ca.pem}\n";
    warned(
        &format!("{push}worker_map: {{a: 'http://a:1'}}"),
        "push.tls_ca (test.yaml line 2): has no effect: no worker is",
    );
    quiet(&format!("{push}worker_map: {{a: 'https://a:1'}}"), "push.tls_ca");
}

#[test]
fn a_session_is_as_long_as_kafka_and_its_client_allow() {
    refused(
        "kafka_session_timeout_ms: 300001",
        &[
            "kafka_session_timeout_ms: a session of 300001ms would outlast the 5m after which a member that does not poll leaves \
           the group: set at most 300000",
        ],
    );
    warned("kafka_session_timeout_ms: 5999", "kafka_session_timeout_ms (test.yaml line 1): is less than the 6000");
    quiet("kafka_session_timeout_ms: 300000", "kafka_session_timeout_ms");
    warned(
        "kafka_session_timeout_ms: 7000\nkafka_assignment_strategy: consumer",
        "kafka_session_timeout_ms (test.yaml line 1): has no effect with the consumer protocol",
    );
}

#[test]
fn topics_are_told_apart() {
    warned("kafka_long_topic: taskworker-dlq", "kafka_long_topic (test.yaml line 1): is the dead-letter topic");
    refused(
        "kafka_long_topic: 'a b'",
        &["kafka_long_topic (test.yaml line 1): no topic can be called \"a b\": 1 to 249 letters, digits, dots"],
    );
    let raw = "raw: {namespace: n, application: sentry, taskname: t, processing_deadline_duration: 5}";
    let maps = MAPS.replace("consumer_group: workers", &format!("consumer_group: g, {raw}"));
    refused(&maps, &["kafka_retry_topic (built-in default): is missing: the consumed topic is raw"]);
    refused(
        &format!("{maps}kafka_retry_topic: tasks"),
        &[
            "kafka_retry_topic = tasks (test.yaml line 6): is a raw topic: a retry, which is an activation, would be wrapped",
        ],
    );
    let disabled = MAPS.replace("consumer_group: workers", "consumer_group: g, consumer_disabled: true");
    warned(&disabled, "kafka_topics (test.yaml line 5): no topic is consumed for now");
    let kafka = yaml(&disabled).settings.kafka;
    assert_eq!((kafka.sources.len(), kafka.disabled.len(), kafka.outbox.retry.topic.as_str()), (0, 1, "tasks"));
}

#[test]
fn a_raw_topic_says_everything_about_its_tasks() {
    let maps = MAPS.replace("consumer_group: workers", "consumer_group: g, raw: {namespace: n}");
    refused(
        &format!("{maps}  again: {{cluster: main, produce_only: true}}\nkafka_retry_topic: again"),
        &[
            "kafka_topics.tasks.raw.application (test.yaml line 5): is missing",
            "kafka_topics.tasks.raw.taskname (test.yaml line 5): is missing",
            "kafka_topics.tasks.raw.processing_deadline_duration (test.yaml line 5): is missing",
        ],
    );
    let maps = MAPS.replace("consumer_group: workers", "consumer_group: g, raw: {taskname: t}");
    let said =
        yaml_problems(&format!("{maps}  again: {{cluster: main, produce_only: true}}\nkafka_retry_topic: again"));
    assert!(said[0].starts_with("kafka_topics.tasks.raw.namespace (test.yaml line 5): is missing"), "{said:?}");
    let with = |more: &str| {
        let raw = format!("raw: {{namespace: n, application: a, taskname: t, {more}}}");
        let maps = MAPS.replace("consumer_group: workers", &format!("consumer_group: g, {raw}"));
        format!("{maps}  again: {{cluster: main, produce_only: true}}\nkafka_retry_topic: again")
    };
    let level = |more: &str| yaml(&with(more)).settings.kafka.sources[0].raw.as_ref().unwrap().compression_level;
    assert_eq!(level("processing_deadline_duration: 5"), Some(3));
    assert_eq!(level("processing_deadline_duration: 5, compression_level: -1"), None);
    assert_eq!(level("processing_deadline_duration: 5, compression_level: -7"), Some(-7));
    refused(
        &with("processing_deadline_duration: 0, compression_level: 23"),
        &[
            "kafka_topics.tasks.raw.processing_deadline_duration = 0 (test.yaml line 5): expected at least 1 second",
            "kafka_topics.tasks.raw.compression_level = 23 (test.yaml line 5): out of range: expected -131072 to 22",
        ],
    );
    refused(
        &with("processing_deadline_duration: 65536"),
        &[
            "kafka_topics.tasks.raw.processing_deadline_duration = 65536 (test.yaml line 5): expected a number from 0 to 65535",
        ],
    );
}

#[test]
fn what_sends_a_password_in_the_clear_is_warned_of() {
    let fields = "security_protocol: sasl_plaintext, sasl_mechanism: PLAIN, sasl_username: u, sasl_password: hunter2";
    let text = MAPS.replace("address: 'kafka:9092'", &format!("address: 'kafka:9092', {fields}"));
    warned(&text, "kafka_clusters.main.security_protocol (test.yaml line 2): sends the password");
    quiet(&text.replace("sasl_plaintext", "sasl_ssl"), "kafka_clusters");
}

#[test]
fn members_of_one_group_have_names_of_their_own() {
    let maps = MAPS.replace("  tasks:", "  more: {cluster: main, consumer_group: workers}\n  tasks:");
    let text = format!("{maps}kafka_retry_topic: tasks\nkafka_group_instance_id: broker-1");
    let names = |text: &str| -> Vec<_> {
        let sources = yaml(text).settings.kafka.sources;
        sources.into_iter().map(|source| source.group_instance_id.unwrap()).collect()
    };
    assert_eq!(names(&text), ["broker-1.more", "broker-1.tasks"]);
    assert_eq!(names(&text.replacen("consumer_group: workers", "consumer_group: others", 1)), ["broker-1", "broker-1"]);
}

#[test]
fn a_store_that_is_no_file_is_refused() {
    refused(
        "db_path: ':memory:'",
        &["store.sqlite.path = \":memory:\" (test.yaml line 1): expected the path of a file; store.adapter: memory"],
    );
    assert!(load(&Sources::defaults().with_yaml("a", "store: {adapter: memory, sqlite: {path: ':memory:'}}")).is_ok());
}

#[test]
fn what_changes_nothing_is_said() {
    warned("default_topic_replication_factor: 3", "default_topic_replication_factor (test.yaml line 1): has no effect");
    quiet("default_topic_replication_factor: 3\ncreate_missing_topics: true", "default_topic_replication_factor");
    warned("batch_status_updates: true", "batch_status_updates (test.yaml line 1): has no effect: reports");
    warned(
        "health_check_killswitched: true",
        "health_check_killswitched (test.yaml line 1): health is good whatever is",
    );
}
