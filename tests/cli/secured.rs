//! `check-config --connect` at a Kafka with users, access control and TLS.

use taskbroker_support::kafka::{Kafka, Operation, Resource, SecuredKafka};

use crate::connect::{connect, line};

/// How a cluster is reached by both SASL and TLS.
fn by_sasl_and_tls(kafka: &SecuredKafka, user: &str, password: &str) -> String {
    format!(
        ", security_protocol: sasl_ssl, sasl_mechanism: SCRAM-SHA-512, sasl_username: {user}, sasl_password: {password}, \
         ssl_ca_location: '{}'",
        kafka.ca.display()
    )
}

/// A topic that is consumed, and one for dead letters.
async fn topics(kafka: &Kafka) -> (String, String) {
    (kafka.new_topic("connect", 1).await.unwrap(), kafka.new_topic("connect-dead", 1).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_sasl_that_work_have_a_line_each() {
    let Some(kafka) = SecuredKafka::shared() else { return };
    let (topic, dead_letters) = topics(&kafka).await;
    for (resource, name, operation) in [
        (Resource::Topic, &topic, Operation::Read),
        (Resource::Topic, &topic, Operation::Write),
        (Resource::Topic, &dead_letters, Operation::Write),
        (Resource::Group, &format!("{topic}-group"), Operation::Read),
    ] {
        kafka.grant("reader", resource, name, operation).await.unwrap();
    }
    let cluster = by_sasl_and_tls(&kafka, "reader", &SecuredKafka::password("reader"));
    let ended = connect(&kafka.sasl_tls, &cluster, &topic, &dead_letters);
    line(&ended, "ok     cluster main: TLS: the connection is encrypted, and the server's certificate is trusted");
    line(&ended, "ok     cluster main: SASL: authenticated as reader by SCRAM-SHA-512");
    for topic in [&topic, &dead_letters] {
        let said = line(&ended, &format!("ok     cluster main: topic {topic}: "));
        assert!(said.ends_with("1 partitions, and the rights we need"), "{said}");
    }
    line(&ended, &format!("ok     cluster main: group {topic}-group: "));
    assert!(!ended.stdout.contains("reader-secret"), "{}", ended.stdout);
    ended.succeeded();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_right_that_is_lacking_has_a_line_that_names_it() {
    let Some(kafka) = SecuredKafka::shared() else { return };
    let (topic, dead_letters) = topics(&kafka).await;
    kafka.grant("reader", Resource::Topic, &topic, Operation::Write).await.unwrap();
    kafka.grant("reader", Resource::Topic, &dead_letters, Operation::Describe).await.unwrap();
    let cluster = by_sasl_and_tls(&kafka, "reader", &SecuredKafka::password("reader"));
    let ended = connect(&kafka.sasl_tls, &cluster, &topic, &dead_letters);
    line(&ended, &format!("FAILED cluster main: topic {topic}: exists, but we lack the right to READ"));
    line(&ended, &format!("FAILED cluster main: topic {dead_letters}: exists, but we lack the right to WRITE"));
    line(&ended, &format!("FAILED cluster main: group {topic}-group: we lack the right to READ it"));
    assert_eq!(ended.code, Some(1));

    // Whoever may do nothing is not told whether there is such a topic.
    let cluster = by_sasl_and_tls(&kafka, "stranger", &SecuredKafka::password("stranger"));
    let ended = connect(&kafka.sasl_tls, &cluster, &topic, &dead_letters);
    line(&ended, "ok     cluster main: SASL: authenticated as stranger by SCRAM-SHA-512");
    let said = line(&ended, &format!("FAILED cluster main: topic {topic}: "));
    assert!(said.contains("DESCRIBE"), "{said}");
    assert_eq!(ended.code, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_a_failure_of_sasl_and_not_of_tls() {
    let Some(kafka) = SecuredKafka::shared() else { return };
    let ended = connect(&kafka.sasl_tls, &by_sasl_and_tls(&kafka, "reader", "guessed"), "any", "dead");
    line(&ended, "ok     cluster main: TLS: ");
    let said = line(&ended, "FAILED cluster main: SASL: ");
    assert!(said.contains("uthentication failed"), "{said}");
    assert!(!ended.stdout.contains("guessed") && !ended.stderr.contains("guessed"));
    assert_eq!(ended.code, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_trusted_is_a_failure_of_tls() {
    let Some(kafka) = SecuredKafka::shared() else { return };
    let ended = connect(&kafka.tls, ", security_protocol: ssl", "any", "dead");
    let said = line(&ended, "FAILED cluster main: TLS: ");
    assert!(said.contains("certificate"), "{said}");
    assert_eq!(ended.code, Some(1));
}
