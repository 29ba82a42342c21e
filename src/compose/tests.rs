//! What the settings say reaches what it governs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;

use prost::Message as _;
use secrecy::ExposeSecret;
use taskbroker_domain::{
    activation::{Activation, PartitionId, TopicId},
    ports::{codec::ActivationCodec, source::Record},
    positions::OffsetReset,
    time::Timestamp,
};
use taskbroker_grpc::{ClientTls, Delivery, GrpcOptions, Secrets, ServerTls};
use taskbroker_kafka::{Target, TopicShape};
use taskbroker_proto::pb::TaskActivation;
use taskbroker_traces::TraceOptions;

use super::*;
use crate::settings::{Sources, load};

fn settings(yaml: &str) -> Settings {
    load(&Sources::defaults().with_yaml("the test", yaml)).unwrap_or_else(|error| panic!("{error}")).settings
}

#[test]
fn every_limit_of_the_settings_is_one_of_the_engine() {
    let given = settings(
        "store: { max_pending_count: 1, max_delay_count: 2, max_processing_count: 3, max_unserved_count: 4,
            max_outbox_count: 5, max_parked_count: 6 }",
    );
    let limits = engine_options(&given).policy.limits;
    let expected = Limits { pending: 1, delayed: 2, processing: 3, unserved: 4, outgoing: 5, parked: 6 };
    assert_eq!(limits, expected);
    assert_eq!(engine_options(&settings("")).policy.limits.parked, Limits::default().parked);
}

#[test]
fn the_port_that_workers_call_is_as_the_settings_say() {
    let given = settings(
        "{grpc_addr: 127.0.0.7, grpc_port: 1234, grpc_shared_secret: [new, old], grpc_max_request_size: 5000,
        delivery_mode: push, grpc_tls_certificate: /c.pem, grpc_tls_key: /k.pem, grpc_tls_client_ca: /ca.pem,
        shutdown_timeout: 4s}",
    );
    let tls = ServerTls { certificate: "/c.pem".into(), key: "/k.pem".into(), client_ca: Some("/ca.pem".into()) };
    let expected = GrpcOptions {
        host: "127.0.0.7".to_owned(),
        port: 1234,
        delivery: Delivery::Push,
        secrets: Secrets::new(["new", "old"]),
        tls: Some(tls),
        request_bytes_max: 5000,
        drain_time_max: Duration::from_secs(1),
        ..GrpcOptions::default()
    };
    assert_eq!(workers::grpc_options(&given), Some(expected));
    let expected = GrpcOptions {
        host: "0.0.0.0".to_owned(),
        port: 50051,
        delivery: Delivery::Pull,
        secrets: Secrets::default(),
        tls: None,
        request_bytes_max: 4 << 20,
        drain_time_max: Duration::from_secs(2),
        ..GrpcOptions::default()
    };
    assert_eq!(workers::grpc_options(&settings("")), Some(expected));
    assert_eq!(workers::grpc_options(&settings("grpc_port: 0")), None);
}

#[tokio::test]
async fn workers_are_called_in_push_mode_and_as_the_settings_say() {
    let given = settings(
        "{worker_map: {a: 'http://a:1', b: 'https://b:2'}, grpc_shared_secret: [new, old], grpc_max_message_size: 60000000,
        push: {tls_ca: /ca.pem, tls_certificate: /c.pem, tls_key: /k.pem}}",
    );
    let options = workers::push_options(&given);
    let map = [("a", "http://a:1"), ("b", "https://b:2")];
    assert_eq!(options.workers, map.map(|(name, at)| (name.to_owned(), at.to_owned())).into());
    assert_eq!(options.secrets, Secrets::new(["new", "old"]));
    assert_eq!(options.message_bytes_max, 60_000_000);
    let identity = Some(("/c.pem".into(), "/k.pem".into()));
    assert_eq!(options.tls, ClientTls { ca: Some("/ca.pem".into()), identity });
    assert!(Push::new(&settings(""), None).unwrap().is_none());
    assert!(Push::new(&settings("delivery_mode: push"), None).unwrap().is_some());
}

#[test]
fn traces_are_made_where_the_settings_say_of_as_many_tasks() {
    let given = settings("{traces_endpoint: 'https://collector:4317', traces_sample_rate: 0.25}");
    let options = traces::options(&given).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(options, TraceOptions { endpoint: "https://collector:4317".to_owned(), sample_rate: 0.25, version });
    for nothing in ["", "traces_endpoint: 'https://collector:4317'", "traces_sample_rate: 1"] {
        assert_eq!(traces::options(&settings(nothing)), None, "{nothing}");
        assert!(traces::begin(&settings(nothing)).unwrap().is_none());
    }
}

const TOPICS: &str = "
kafka_clusters:
  one: {address: 'one:1', security_protocol: sasl_ssl, sasl_mechanism: PLAIN, sasl_username: first, sasl_password: p1}
  two: {address: 'two:1', security_protocol: sasl_ssl, sasl_mechanism: PLAIN, sasl_username: second, sasl_password: p2}
  three: {address: 'three:1'}
kafka_topics:
  dead: {cluster: three, produce_only: true}
  early: {cluster: one, consumer_group: g, auto_offset_reset: earliest, session_timeout_ms: 9000}
  again: {cluster: two, produce_only: true}
  tasks: {cluster: one, consumer_group: g}
kafka_retry_topic: again
kafka_deadletter_topic: dead
kafka_session_timeout_ms: 7000
kafka_commit_interval: 40ms
kafka_send_timeout_ms: 20
kafka_delivery_timeout: 2m
max_message_size: 6000000
";

#[test]
fn each_topic_is_read_as_the_settings_say() {
    let given = settings(TOPICS);
    let sources = kafka::source_options(&given);
    let read: Vec<_> = sources.iter().map(|one| (one.topic.as_str(), one.session_timeout.as_secs())).collect();
    assert_eq!(read, [("early", 9), ("tasks", 7)]);
    assert!(sources.iter().all(|one| one.cluster.sasl_username.as_deref() == Some("first")));
    let resets = [("early", OffsetReset::Earliest), ("tasks", OffsetReset::Latest)];
    let policy = engine_options(&given).policy;
    assert_eq!(policy.offset_resets, resets.map(|(topic, reset)| (topic.into(), reset)).into());
    assert_eq!(policy.group_commit_interval, Duration::from_millis(40));
    assert_eq!(engine_options(&settings("")).policy.group_commit_interval, Duration::from_millis(100));
}

#[test]
fn what_is_sent_goes_to_the_cluster_of_its_topic_as_who_we_are_there() {
    let as_who = |target: Target| {
        let password = target.cluster.sasl_password.map(|password| password.expose_secret().to_owned());
        (target.topic, target.cluster.address, target.cluster.sasl_username, password)
    };
    let expected = |topic: &str, cluster: &str, who: Option<(&str, &str)>| {
        let (user, password) = who.map(|(user, password)| (user.to_owned(), password.to_owned())).unzip();
        (topic.to_owned(), format!("{cluster}:1"), user, password)
    };
    let options = kafka::outbox_options(&settings(TOPICS));
    assert_eq!(as_who(options.retry), expected("again", "two", Some(("second", "p2"))));
    assert_eq!(as_who(options.dead_letter), expected("dead", "three", None));
    assert_eq!(as_who(options.forward), expected("taskworker-long", "three", None), "it is declared nowhere");
    assert_eq!((options.send_limit, options.delivery_limit), (Duration::from_millis(20), Duration::from_secs(120)));
    assert_eq!(options.message_bytes_max, 6_000_000);
    let declared = TOPICS.replace("  again:", "  long: {cluster: two, produce_only: true}\n  again:");
    let options = kafka::outbox_options(&settings(&format!("{declared}kafka_long_topic: long")));
    assert_eq!(as_who(options.forward), expected("long", "two", Some(("second", "p2"))));
}

#[test]
fn missing_topics_are_made_as_the_settings_say() {
    let shape = |more: &str| {
        let create = settings(&format!("create_missing_topics: true\n{more}")).kafka.create;
        create.map(kafka::shape)
    };
    assert_eq!(shape(""), Some(TopicShape { partitions: 1, replication: None }));
    let both = "default_topic_partitions: 3\ndefault_topic_replication_factor: 2";
    assert_eq!(shape(both), Some(TopicShape { partitions: 3, replication: Some(2) }));
}

#[test]
fn the_engine_waits_and_names_as_the_settings_say() {
    let given = settings("upkeep_deadline_reset_skip_after_startup_sec: 7\ndefault_application: mine");
    let policy = engine_options(&given).policy;
    assert_eq!(
        (policy.quiet_after_start, policy.default_application.as_deref()),
        (Duration::from_secs(7), Some("mine"))
    );
    let policy = engine_options(&settings("")).policy;
    assert_eq!((policy.quiet_after_start, policy.default_application), (Duration::from_secs(60), None));
}

#[test]
fn metrics_go_where_the_settings_say_with_their_tags() {
    let given = settings("statsd_addr: agent:8125\ndefault_metrics_tags: {region: eu, cell: '01'}");
    let tags = [("cell", "01"), ("region", "eu")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let expected = StatsdOptions { tags: tags.into(), ..StatsdOptions::new("agent:8125") };
    assert_eq!(statsd_options(&given), Some(expected));
    assert_eq!(statsd_options(&settings("")), Some(StatsdOptions::new("127.0.0.1:8126")));
    assert_eq!(statsd_options(&settings("statsd_addr: null")), None);
}

#[test]
fn each_application_of_the_map_has_as_many_canary_tasks_as_the_settings_say() {
    let made = |yaml: &str| -> Vec<TaskActivation> {
        let made = canaries(&settings(yaml), &SystemClock::new());
        made.into_iter().map(|bytes| TaskActivation::decode(bytes).unwrap()).collect()
    };
    let tasks = made("canary_tasks: 2\nworker_map: {a: 'http://a:1', b: 'http://b:1'}");
    let applications: Vec<_> = tasks.iter().map(TaskActivation::application).collect();
    assert_eq!(applications, ["a", "a", "b", "b"]);
    let ids: BTreeSet<_> = tasks.iter().map(|task| task.id.as_str()).collect();
    assert_eq!(ids.len(), 4);
    for task in &tasks {
        assert_eq!((task.namespace.as_str(), task.taskname.as_str()), ("internal", "canary_task"));
        assert_eq!(task.processing_deadline_duration, 10);
    }
    assert_eq!(made(""), []);
}

fn read(codec: &dyn ActivationCodec, payload: Vec<u8>) -> Activation {
    let partition = PartitionId { topic: "t".into(), topic_id: TopicId([7; 16]), group: "g".into(), partition: 0 };
    let record = Record { payload: payload.into(), timestamp: Some(NOW), ..Record::default() };
    codec.decode(&record, &partition, NOW).unwrap()
}

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

#[test]
fn a_delay_is_cut_to_what_the_settings_allow() {
    let until = |yaml: &str| {
        let delayed = TaskActivation { id: "i".to_owned(), delay: Some(1_000_000), ..TaskActivation::default() };
        read(codec(&settings(yaml)).as_ref(), delayed.encode_to_vec()).terms.delayed_until
    };
    assert_eq!(until("max_delayed_task_allowed_sec: 5"), Some(NOW.saturating_add(Duration::from_secs(5))));
    assert_eq!(until(""), Some(NOW.saturating_add(Duration::from_secs(3600))));
}

#[test]
fn a_raw_message_becomes_the_task_that_the_settings_say() {
    let named = "raw_mode: true\nraw_namespace: n\nraw_application: a\nraw_taskname: t\nkafka_retry_topic: again\n";
    let task = |more: &str| {
        let raw = settings(&format!("{named}{more}")).kafka.sources.remove(0).raw.unwrap();
        read(&kafka::raw_codec(&raw), b"event".to_vec())
    };
    let given = task("raw_processing_deadline_duration: 7");
    assert_eq!(*given.route, taskbroker_domain::activation::Route::new("a", "n", "t"));
    assert_eq!(given.terms.run_limit, Duration::from_secs(7));
    assert_eq!(task("").terms.run_limit, Duration::from_secs(30));
}
