//! That what is set reaches what it governs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use prost::Message as _;
use secrecy::ExposeSecret as _;
use taskbroker_domain::{
    activation::{PartitionId, TopicId},
    ports::{codec::ActivationCodec as _, source::Record},
    positions::OffsetReset,
    time::Timestamp,
};
use taskbroker_proto::pb::TaskActivation;

use super::{clock, engine_options, kafka, store, workers};
use crate::settings::{Settings, Sources, load};

fn settings(yaml: &str) -> Settings {
    load(&Sources::defaults().with_yaml("the test", yaml)).unwrap_or_else(|error| panic!("{error}")).settings
}

/// All that adapters and engine are told.
fn everything(yaml: &str) -> String {
    let settings = settings(yaml);
    let push = workers::push_options(&settings);
    let dispatch = workers::dispatch_options(&settings, push.workers.clone());
    let (grpc, engine) = (workers::grpc_options(&settings), engine_options(&settings));
    let (sources, outbox) = (kafka::source_options(&settings), kafka::outbox_options(&settings));
    format!("{push:?}\n{dispatch:?}\n{grpc:?}\n{engine:?}\n{sources:?}\n{outbox:?}")
}

#[test]
fn each_setting_of_the_store_reaches_the_engine() {
    let options = engine_options(&settings(
        "max_message_size: 1000
store: { linger: 1ms, max_size: 2000002, max_processing_attempts: 3, processing_deadline_grace_sec: 4,
  payload_memory_bytes: 5000005, early_reports_max: 6, tombstones_keep: 7m, hold_after_crash: 8s, absent_partition_limit: 9s }",
    ));
    let policy = options.policy;
    assert_eq!(options.store_bytes_max, Some(2_000_002));
    assert_eq!((policy.window, policy.lease_grace), (Duration::from_millis(1), Duration::from_secs(4)));
    assert_eq!((policy.max_lost_leases, policy.payload_memory_bytes, policy.early_reports_max), (3, 5_000_005, 6));
    assert_eq!(policy.tombstones_keep, Duration::from_secs(7 * 60));
    assert_eq!(
        (policy.hold_after_crash, policy.absent_partition_limit),
        (Duration::from_secs(8), Duration::from_secs(9))
    );
    assert_eq!(engine_options(&settings("store: { max_size: null }")).store_bytes_max, None);
}

#[tokio::test]
async fn the_adapter_decides_whether_there_is_a_file_and_the_path_where() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("some.sqlite");
    for (adapter, is_there) in [("memory", false), ("sqlite", true)] {
        let yaml = format!("store: {{ adapter: {adapter}, sqlite: {{ path: '{}' }} }}", path.display());
        let store = store::open(&settings(&yaml), clock().as_ref()).await.unwrap();
        assert_eq!(path.exists(), is_there, "{adapter}");
        store.close().await;
    }
}

#[test]
fn threads_are_connections_and_with_the_queue_the_calls_of_an_application_each_within_the_time_out() {
    let settings = settings(
        "delivery_mode: push\ngrpc_max_message_size: 6000000\nworker_map: {one: 'http://one:1', two: 'https://two:2'}
push: { threads: 5, timeout: 2s, queue: { size: 7 } }",
    );
    let push = workers::push_options(&settings);
    assert_eq!((push.connections, push.timeout, push.message_bytes_max), (5, Duration::from_secs(2), 6_000_000));
    let dispatch = workers::dispatch_options(&settings, push.workers.clone());
    assert_eq!(dispatch.concurrency, 12);
    assert!(dispatch.offer_limit > push.timeout, "a lease outlasts the call");
    let addresses: Vec<_> = push.workers.iter().map(|(application, at)| format!("{application} {at}")).collect();
    assert_eq!(addresses, ["one http://one:1", "two https://two:2"]);
}

#[test]
fn what_is_accepted_without_effect_changes_nothing() {
    const PUSH: &str = "delivery_mode: push\n";
    let usual = everything(PUSH);
    for accepted in [
        "fetch: { threads: 4, backoff: 9s, batch_length: 9 }",
        "push: { queue: { timeout: 9s } }",
        "push: { update: { batched: true, batch: { length: 9, size: 9, interval: 0ms } } }",
    ] {
        assert_eq!(everything(&format!("{PUSH}{accepted}")), usual, "{accepted}");
    }
    assert_ne!(everything(&format!("{PUSH}push: {{ threads: 2 }}")), usual, "this test sees what has an effect");
}

const TOPICS: &str = "
kafka_clusters:
  far:
    address: 'a:1,b:2'
    security_protocol: SASL_SSL
    sasl_mechanism: SCRAM-SHA-256
    sasl_username: user
    sasl_password: hush
    ssl_ca_location: /ca.pem
    ssl_certificate_location: /certificate.pem
    ssl_key_location: /key.pem
  near: { address: 'c:3' }
kafka_topics:
  events:
    cluster: far
    consumer_group: readers
    session_timeout_ms: 9000
    auto_offset_reset: earliest
    raw: { namespace: n, application: a, taskname: t, processing_deadline_duration: 7 }
  tasks: { cluster: near, consumer_group: workers }
  retries: { cluster: near, produce_only: true }
  taskworker-dlq: { cluster: far, produce_only: true }
kafka_retry_topic: retries
kafka_session_timeout_ms: 8000
";

#[test]
fn each_topic_reaches_its_consumer_with_its_group_its_cluster_its_session_and_its_start() {
    let settings = settings(TOPICS);
    let sources = kafka::source_options(&settings);
    let said: Vec<_> = sources
        .iter()
        .map(|source| (&*source.topic, &*source.group, &*source.cluster.address, source.session_timeout.as_millis()))
        .collect();
    assert_eq!(said, [("events", "readers", "a:1,b:2", 9000), ("tasks", "workers", "c:3", 8000)]);
    let policy = engine_options(&settings).policy;
    assert_eq!(policy.offset_reset("events"), OffsetReset::Earliest);
    assert_eq!(policy.offset_reset("tasks"), OffsetReset::Latest);
    let outbox = kafka::outbox_options(&settings);
    let targets = [&outbox.retry, &outbox.dead_letter].map(|target| (&*target.topic, &*target.cluster.address));
    assert_eq!(targets, [("retries", "c:3"), ("taskworker-dlq", "a:1,b:2")]);
}

#[test]
fn each_field_of_a_cluster_reaches_its_clients() {
    let settings = settings(TOPICS);
    let [far, near] = [&settings.kafka.sources[0], &settings.kafka.sources[1]].map(|one| kafka::cluster(&one.cluster));
    assert_eq!(far.address, "a:1,b:2");
    assert_eq!(far.security_protocol.as_deref(), Some("sasl_ssl"));
    assert_eq!(far.sasl_mechanism.as_deref(), Some("SCRAM-SHA-256"));
    assert_eq!(far.sasl_username.as_deref(), Some("user"));
    assert_eq!(far.sasl_password.as_ref().map(|password| password.expose_secret()), Some("hush"));
    assert_eq!(far.ssl_ca_location.as_deref(), Some("/ca.pem"));
    assert_eq!(far.ssl_certificate_location.as_deref(), Some("/certificate.pem"));
    assert_eq!(far.ssl_key_location.as_deref(), Some("/key.pem"));
    assert_eq!(near.security_protocol.as_deref(), Some("plaintext"));
    assert!(near.sasl_username.is_none() && near.sasl_password.is_none() && near.ssl_ca_location.is_none());
}

/// Bytes that levels of compression differ on.
fn words() -> Vec<u8> {
    (0..20_000_u32).map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[number as usize % 4] % 16).collect()
}

#[test]
fn what_a_raw_topic_says_of_its_tasks_is_what_they_are() {
    let wrapped = |more: &str| {
        let yaml = TOPICS.replace("processing_deadline_duration: 7", &format!("processing_deadline_duration: 7{more}"));
        let settings = settings(&yaml);
        let codec = kafka::raw_codec(settings.kafka.sources[0].raw.as_ref().unwrap());
        let partition =
            PartitionId { topic: "events".into(), topic_id: TopicId([1; 16]), group: "g".into(), partition: 0 };
        let record = Record { payload: words().into(), ..Record::default() };
        let activation = codec.decode(&record, &partition, Timestamp::from_millis(1)).unwrap();
        TaskActivation::decode(activation.payload).unwrap()
    };
    let task = wrapped("");
    assert_eq!((task.namespace.as_str(), task.application(), task.taskname.as_str()), ("n", "a", "t"));
    assert_eq!(task.processing_deadline_duration, 7);
    assert_eq!(task.headers["compression-type"], "zstd");
    let frame = &task.parameters_bytes[..];
    assert_ne!(&wrapped(", compression_level: 19").parameters_bytes[..], frame, "the level is that of the frame");
    assert_eq!(&wrapped(", compression_level: 3").parameters_bytes[..], frame);
    let plain = wrapped(", compression_level: -1");
    assert!(plain.headers.is_empty() && plain.parameters_bytes.len() > words().len());
}
