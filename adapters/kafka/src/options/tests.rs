#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn cluster(protocol: &str, mechanism: &str) -> ClusterOptions {
    ClusterOptions {
        security_protocol: Some(protocol.to_owned()),
        sasl_mechanism: Some(mechanism.to_owned()),
        ..ClusterOptions::plaintext("kafka:9092")
    }
}

#[test]
fn mechanisms_that_are_not_built_in_are_refused_by_name() {
    for mechanism in ["GSSAPI", "gssapi", "OAUTHBEARER"] {
        let error = cluster("SASL_SSL", mechanism).validate().unwrap_err();
        assert_eq!(error.key, "sasl_mechanism");
        assert!(error.to_string().contains("not built in"), "{error}");
    }
    cluster("SASL_SSL", "SCRAM-SHA-512").validate().unwrap();
}

#[test]
fn an_unknown_security_protocol_is_refused_by_name() {
    assert_eq!(cluster("TLS", "PLAIN").validate().unwrap_err().key, "security_protocol");
}

#[test]
fn certificate_authorities_are_looked_for_where_none_are_named() {
    let mut options = KafkaSourceOptions::new(cluster("sasl_ssl", "PLAIN"), "group", "topic");
    assert_eq!(options.member_config().get("ssl.ca.location"), Some("probe"));
    options.cluster.ssl_ca_location = Some("/etc/ca.pem".to_owned());
    assert_eq!(options.member_config().get("ssl.ca.location"), Some("/etc/ca.pem"));
    options.cluster = ClusterOptions::plaintext("kafka:9092");
    assert_eq!(options.member_config().get("ssl.ca.location"), None);
}

#[test]
fn a_password_is_never_shown() {
    let mut cluster = cluster("SASL_SSL", "PLAIN");
    cluster.sasl_password = Some("hunter2".to_owned().into());
    let options = KafkaSourceOptions::new(cluster, "group", "topic");
    assert!(!format!("{options:?}").contains("hunter2"));
    assert_eq!(options.member_config().get("sasl.password"), Some("hunter2"));
}

#[test]
fn eager_and_cooperative_assignors_do_not_mix() {
    assert_eq!("consumer".parse(), Ok(GroupProtocol::Consumer));
    assert_eq!("range, roundrobin".parse(), Ok(GroupProtocol::default()));
    let cooperative = GroupProtocol::Classic("cooperative-sticky".to_owned());
    assert_eq!("cooperative-sticky".parse(), Ok(cooperative));
    for wrong in ["", "range,cooperative-sticky", "sticky", "consumer,range"] {
        assert_eq!(wrong.parse::<GroupProtocol>().unwrap_err().key, "assignment_strategy");
    }
}

#[test]
fn what_the_guarantees_rest_on_cannot_be_set() {
    let mut options = KafkaSourceOptions::new(ClusterOptions::plaintext("kafka:9092"), "group", "topic");
    options.properties.insert("enable.auto.commit".to_owned(), "true".to_owned());
    assert_eq!(options.validate().unwrap_err().key, "enable.auto.commit");
}

#[test]
fn each_field_of_a_cluster_is_a_property_of_every_client_of_it() {
    let cluster = ClusterOptions {
        sasl_username: Some("user".to_owned()),
        sasl_password: Some("hush".to_owned().into()),
        ssl_ca_location: Some("/ca.pem".to_owned()),
        ssl_certificate_location: Some("/certificate.pem".to_owned()),
        ssl_key_location: Some("/key.pem".to_owned()),
        ..cluster("sasl_ssl", "SCRAM-SHA-256")
    };
    let source = KafkaSourceOptions::new(cluster.clone(), "group", "topic");
    let outbox = KafkaOutboxOptions::on(&cluster, "retries", "dead");
    for config in [source.member_config(), source.connection_config(), outbox.producer_config(&cluster)] {
        for (property, value) in [
            ("bootstrap.servers", "kafka:9092"),
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanism", "SCRAM-SHA-256"),
            ("sasl.username", "user"),
            ("sasl.password", "hush"),
            ("ssl.ca.location", "/ca.pem"),
            ("ssl.certificate.location", "/certificate.pem"),
            ("ssl.key.location", "/key.pem"),
        ] {
            assert_eq!(config.get(property), Some(value), "{property}");
        }
    }
}

#[test]
fn a_consumer_has_the_group_of_its_topic_and_never_commits_by_itself() {
    let options = KafkaSourceOptions::new(ClusterOptions::plaintext("kafka:9092"), "readers", "topic");
    let config = options.member_config();
    for (property, value) in [
        ("group.id", "readers"),
        ("partition.assignment.strategy", "range,roundrobin"),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
    ] {
        assert_eq!(config.get(property), Some(value), "{property}");
    }
}

#[test]
fn the_session_time_out_is_the_members_unless_the_cluster_sets_it() {
    let mut options = KafkaSourceOptions::new(ClusterOptions::plaintext("kafka:9092"), "group", "topic");
    assert_eq!(options.member_config().get("session.timeout.ms"), Some("6000"));
    options.session_timeout = std::time::Duration::from_secs(9);
    assert_eq!(options.member_config().get("session.timeout.ms"), Some("9000"));
    options.protocol = GroupProtocol::Consumer;
    assert_eq!(options.member_config().get("session.timeout.ms"), None);
}

fn holds(config: &rdkafka::ClientConfig, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        assert_eq!(config.get(key), Some(*value), "{key}");
    }
}

#[test]
fn librdkafka_is_told_what_the_settings_say() {
    let cluster = ClusterOptions::plaintext("one:9092,two:9092");
    let mut source = KafkaSourceOptions::new(cluster.clone(), "group", "topic");
    source.session_timeout = std::time::Duration::from_millis(45_001);
    let member = source.member_config();
    holds(&member, &[("bootstrap.servers", "one:9092,two:9092"), ("session.timeout.ms", "45001")]);
    assert_eq!(member.get("group.instance.id"), None);

    let mut outbox = KafkaOutboxOptions::on(&cluster, "retries", "dead");
    outbox.message_bytes_max = 5_000_001;
    let told = [("message.max.bytes", "5000001"), ("compression.type", "none"), ("acks", "all")];
    holds(&outbox.producer_config(&cluster), &told);
}

#[test]
fn a_producer_is_idempotent_and_a_consumer_reads_ahead_no_more_than_it_may() {
    let cluster = ClusterOptions::plaintext("kafka:9092");
    let outbox = KafkaOutboxOptions::on(&cluster, "retries", "dead");
    holds(&outbox.producer_config(&cluster), &[("enable.idempotence", "true")]);
    let mut source = KafkaSourceOptions::new(cluster, "group", "topic");
    source.prefetch_bytes = 3 << 20;
    holds(&source.member_config(), &[("queued.max.messages.kbytes", "3072")]);
}
