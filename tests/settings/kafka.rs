//! Every field of a topic and a cluster, in the later form and in the earlier one.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use taskbroker::settings::{
    KafkaCluster, Loaded, OffsetReset, Raw, SaslMechanism, SecurityProtocol, Settings, WarningKind,
};

use super::{MAPS, environment, warnings, yaml, yaml_problems};

#[test]
fn each_field_of_a_topic_arrives_and_is_that_of_all_topics_where_it_is_not_given() {
    let kafka = yaml(
        "kafka_clusters: {main: {address: 'a:1'}, other: {address: 'b:2'}}
kafka_topics:
  all: {cluster: other, consumer_group: g, produce_only: false, consumer_disabled: false, session_timeout_ms: 9000,
    auto_offset_reset: earliest, raw: {namespace: n, application: sentry, taskname: t, processing_deadline_duration: 65535,
    compression_level: 19}}
  least: {cluster: main, consumer_group: h}
  nothing: {cluster: main, consumer_group: h, produce_only: null, consumer_disabled: null, session_timeout_ms: null,
    auto_offset_reset: null, raw: null}
  off: {cluster: main, consumer_group: i, consumer_disabled: true}
  out: {cluster: main, consumer_group: j, produce_only: true, consumer_disabled: true}
  taskworker-dlq: {cluster: other, produce_only: true}
kafka_retry_topic: out
kafka_session_timeout_ms: 8000
kafka_auto_offset_reset: latest",
    )
    .settings
    .kafka;
    let names: Vec<_> = kafka.sources.iter().map(|source| (&*source.topic, &*source.group)).collect();
    assert_eq!(names, [("all", "g"), ("least", "h"), ("nothing", "h")]);
    assert_eq!(kafka.disabled.iter().map(|source| &*source.topic).collect::<Vec<_>>(), ["off"]);
    let (all, others) = kafka.sources.split_first().unwrap();
    assert_eq!((&*all.cluster.name, &*all.cluster.address), ("other", "b:2"));
    assert_eq!((all.session_timeout, all.offset_reset), (Duration::from_secs(9), OffsetReset::Earliest));
    let raw = Raw {
        namespace: "n".to_owned(),
        application: "sentry".to_owned(),
        taskname: "t".to_owned(),
        processing_deadline: Duration::from_secs(65_535),
        compression_level: Some(19),
    };
    assert_eq!(all.raw, Some(raw));
    for usual in others {
        assert_eq!((&*usual.cluster.name, &usual.raw), ("main", &None), "{}", usual.topic);
        assert_eq!((usual.session_timeout, usual.offset_reset), (Duration::from_secs(8), OffsetReset::Latest));
    }
    assert_eq!((&*kafka.outbox.retry.topic, &*kafka.outbox.retry.cluster.name), ("out", "main"));
}

/// The cluster `main` with these fields, on whose topic nothing hangs.
fn cluster(fields: &str) -> KafkaCluster {
    let yaml = yaml(&MAPS.replace("address: 'kafka:9092'", fields));
    yaml.settings.kafka.sources[0].cluster.clone()
}

#[test]
fn each_field_of_a_cluster_arrives() {
    let full = cluster(
        "address: 'a:1, b:2', security_protocol: sasl_ssl, sasl_mechanism: PLAIN, sasl_username: u, sasl_password: '007', \
         ssl_ca_location: /ca.pem, ssl_certificate_location: /certificate.pem, ssl_key_location: /key.pem",
    );
    assert_eq!((&*full.name, &*full.address, full.security_protocol), ("main", "a:1,b:2", SecurityProtocol::SaslSsl));
    let sasl = full.sasl.unwrap();
    assert_eq!((sasl.mechanism, &*sasl.username, sasl.password.expose_secret()), (SaslMechanism::Plain, "u", "007"));
    assert_eq!(full.ssl_ca_location.unwrap().to_str(), Some("/ca.pem"));
    let ours = full.ssl_client.unwrap();
    assert_eq!(ours.certificate_location.to_str(), Some("/certificate.pem"));
    assert_eq!(ours.key_location.to_str(), Some("/key.pem"));
    let least = cluster("address: 'a:1', sasl_mechanism: null, ssl_ca_location: ''");
    assert_eq!(least.security_protocol, SecurityProtocol::Plaintext);
    assert!(least.sasl.is_none() && least.ssl_ca_location.is_none() && least.ssl_client.is_none());
}

#[test]
fn protocols_and_mechanisms_are_known_in_any_case() {
    for (written, expected) in [
        ("plaintext", SecurityProtocol::Plaintext),
        ("PLAINTEXT", SecurityProtocol::Plaintext),
        ("ssl", SecurityProtocol::Ssl),
        ("SSL", SecurityProtocol::Ssl),
        ("sasl_plaintext", SecurityProtocol::SaslPlaintext),
        ("SASL_PLAINTEXT", SecurityProtocol::SaslPlaintext),
        ("Sasl_Ssl", SecurityProtocol::SaslSsl),
    ] {
        let more = if expected.is_sasl() { ", sasl_mechanism: PLAIN, sasl_username: u, sasl_password: p" } else { "" };
        let found = cluster(&format!("address: 'a:1', security_protocol: {written}{more}"));
        assert_eq!((found.security_protocol, found.sasl.is_some()), (expected, expected.is_sasl()), "{written}");
    }
    for (written, expected) in [
        ("plain", SaslMechanism::Plain),
        ("scram-sha-256", SaslMechanism::ScramSha256),
        ("SCRAM-SHA-256", SaslMechanism::ScramSha256),
        ("Scram-Sha-512", SaslMechanism::ScramSha512),
    ] {
        let fields =
            format!("security_protocol: sasl_ssl, sasl_mechanism: {written}, sasl_username: u, sasl_password: p");
        assert_eq!(cluster(&format!("address: 'a:1', {fields}")).sasl.unwrap().mechanism, expected, "{written}");
    }
    let said = yaml_problems(&MAPS.replace("address: 'kafka:9092'", "address: 'a:1', security_protocol: tls"));
    assert!(said[0].starts_with("kafka_clusters.main.security_protocol = \"tls\""), "{said:?}");
}

/// Each of the earlier keys, a value, and the later key that it stands for.
const EARLIER: [(&str, &str, &str); 23] = [
    ("kafka_topic", "events", "kafka_topics.events"),
    ("kafka_consumer_group", "readers", "kafka_topics.events.consumer_group"),
    ("raw_mode", "true", "kafka_topics.events.raw"),
    ("raw_namespace", "n", "kafka_topics.events.raw.namespace"),
    ("raw_application", "sentry", "kafka_topics.events.raw.application"),
    ("raw_taskname", "t", "kafka_topics.events.raw.taskname"),
    ("raw_processing_deadline_duration", "45", "kafka_topics.events.raw.processing_deadline_duration"),
    ("kafka_cluster", "a:1", "kafka_clusters.default.address"),
    ("kafka_security_protocol", "sasl_ssl", "kafka_clusters.default.security_protocol"),
    ("kafka_sasl_mechanism", "PLAIN", "kafka_clusters.default.sasl_mechanism"),
    ("kafka_sasl_username", "reader", "kafka_clusters.default.sasl_username"),
    ("kafka_sasl_password", "one", "kafka_clusters.default.sasl_password"),
    ("kafka_ssl_ca_location", "/1/ca", "kafka_clusters.default.ssl_ca_location"),
    ("kafka_ssl_certificate_location", "/1/certificate", "kafka_clusters.default.ssl_certificate_location"),
    ("kafka_ssl_key_location", "/1/key", "kafka_clusters.default.ssl_key_location"),
    ("kafka_deadletter_cluster", "b:2", "kafka_clusters.deadletter.address"),
    ("kafka_deadletter_security_protocol", "SASL_SSL", "kafka_clusters.deadletter.security_protocol"),
    ("kafka_deadletter_sasl_mechanism", "SCRAM-SHA-512", "kafka_clusters.deadletter.sasl_mechanism"),
    ("kafka_deadletter_sasl_username", "mortician", "kafka_clusters.deadletter.sasl_username"),
    ("kafka_deadletter_sasl_password", "two", "kafka_clusters.deadletter.sasl_password"),
    ("kafka_deadletter_ssl_ca_location", "/2/ca", "kafka_clusters.deadletter.ssl_ca_location"),
    (
        "kafka_deadletter_ssl_certificate_location",
        "/2/certificate",
        "kafka_clusters.deadletter.ssl_certificate_location",
    ),
    ("kafka_deadletter_ssl_key_location", "/2/key", "kafka_clusters.deadletter.ssl_key_location"),
];

const LATER: &str = "
kafka_clusters:
  default: {address: 'a:1', security_protocol: sasl_ssl, sasl_mechanism: PLAIN, sasl_username: reader, sasl_password: one,
    ssl_ca_location: /1/ca, ssl_certificate_location: /1/certificate, ssl_key_location: /1/key}
  deadletter: {address: 'b:2', security_protocol: sasl_ssl, sasl_mechanism: SCRAM-SHA-512, sasl_username: mortician,
    sasl_password: two, ssl_ca_location: /2/ca, ssl_certificate_location: /2/certificate, ssl_key_location: /2/key}
kafka_topics:
  events: {cluster: default, consumer_group: readers,
    raw: {namespace: n, application: sentry, taskname: t, processing_deadline_duration: 45}}
  again: {cluster: deadletter, produce_only: true}
  graves: {cluster: deadletter, produce_only: true}
kafka_retry_topic: again
kafka_deadletter_topic: graves
";

fn with_all_earlier_keys() -> [Loaded; 2] {
    let topics = [("kafka_retry_topic", "again"), ("kafka_deadletter_topic", "graves")];
    let given: Vec<_> = EARLIER.iter().map(|(key, value, _)| (*key, *value)).chain(topics).collect();
    let file: String = given.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
    let variables: Vec<_> =
        given.iter().map(|(key, value)| (format!("TASKBROKER_{}", key.to_uppercase()), *value)).collect();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    [yaml(&file), environment(&variables)]
}

fn passwords(settings: &Settings) -> [String; 2] {
    let kafka = &settings.kafka;
    [&kafka.sources[0].cluster, &kafka.outbox.dead_letter.cluster]
        .map(|cluster| cluster.sasl.as_ref().unwrap().password.expose_secret().to_owned())
}

#[test]
fn all_the_earlier_keys_together_say_what_the_maps_say() {
    let later = yaml(LATER).settings;
    for earlier in with_all_earlier_keys() {
        assert_eq!(format!("{:#?}", earlier.settings), format!("{later:#?}"));
        assert_eq!(passwords(&earlier.settings), ["one", "two"]);
    }
    assert_eq!(passwords(&later), ["one", "two"]);
}

#[test]
fn each_of_the_earlier_keys_is_told_with_the_key_that_it_stands_for() {
    let [by_file, by_environment] = with_all_earlier_keys();
    for loaded in [&by_file, &by_environment] {
        let said = warnings(loaded, WarningKind::Renamed);
        assert_eq!(said.len(), EARLIER.len(), "{said:#?}");
        for (key, _, later) in EARLIER {
            let rest =
                format!(": is the earlier form of {later}: move all of Kafka into kafka_topics and kafka_clusters");
            assert!(
                said.iter().any(|line| line.starts_with(&format!("{key} (")) && line.ends_with(&rest)),
                "{key}: {said:#?}"
            );
        }
    }
    assert_eq!(warnings(&yaml(LATER), WarningKind::Renamed), Vec::<String>::new());
    assert_eq!(warnings(&yaml("raw_mode: false"), WarningKind::Renamed), Vec::<String>::new());
}

#[test]
fn each_of_the_earlier_keys_is_refused_beside_the_maps() {
    for (key, value, _) in EARLIER.into_iter().filter(|(key, ..)| *key == "raw_mode" || !key.starts_with("raw_")) {
        let said = yaml_problems(&format!("{MAPS}{key}: {value}"));
        let expected = format!("kafka_topics, kafka_clusters, {key}: the earlier keys and the maps cannot be mixed");
        assert!(said.len() == 1 && said[0].starts_with(&expected), "{said:?}");
    }
}
