//! `check-config --connect`.

use std::net::TcpListener;

use taskbroker_support::kafka::Kafka;

use crate::program::{Ended, command};

/// Dials what this configuration names: a topic that is consumed, and one for dead letters.
pub(crate) fn connect(address: &str, more: &str, topic: &str, dead_letters: &str) -> Ended {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    let text = format!(
        "grpc_addr: 127.0.0.1
kafka_clusters: {{ main: {{ address: '{address}'{more} }} }}
kafka_topics:
  {topic}: {{ cluster: main, consumer_group: '{topic}-group' }}
  {dead_letters}: {{ cluster: main, produce_only: true }}
kafka_deadletter_topic: {dead_letters}
"
    );
    std::fs::write(&path, text).unwrap();
    let mut command = command(&["check-config".as_ref(), "--connect".as_ref(), "-c".as_ref(), path.as_os_str()]);
    let began = std::time::Instant::now();
    let ended = Ended::from(command.output().unwrap());
    // It bounds itself to 10 s; the rest is for a loaded machine.
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
    ended
}

/// The line about this step.
#[track_caller]
pub(crate) fn line<'a>(ended: &'a Ended, beginning: &str) -> &'a str {
    let found = ended.stdout.lines().find(|line| line.starts_with(beginning));
    found.unwrap_or_else(|| panic!("no line begins with {beginning:?}:\n{}\n{}", ended.stdout, ended.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_has_everything_is_described_line_by_line() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = kafka.new_topic("connect", 3).await.unwrap();
    let dead_letters = kafka.new_topic("connect-dead", 1).await.unwrap();
    let ended = connect(kafka.address(), "", &topic, &dead_letters);
    for beginning in [
        "ok     cluster main: names: ",
        "ok     cluster main: TCP: connected to ",
        "ok     cluster main: Kafka: cluster ",
    ] {
        line(&ended, beginning);
    }
    let said = line(&ended, &format!("ok     cluster main: topic {topic}: "));
    assert!(said.ends_with(": 3 partitions, and the rights we need"), "{said}");
    line(&ended, &format!("ok     cluster main: topic {dead_letters}: 1 partitions"));
    line(&ended, &format!("ok     cluster main: group {topic}-group: has no position in {topic} yet"));
    ended.succeeded();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_named() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = kafka.new_topic("connect", 1).await.unwrap();
    let missing = Kafka::unique("connect-missing");
    let ended = connect(kafka.address(), "", &topic, &missing);
    let said = line(&ended, &format!("FAILED cluster main: topic {missing}: "));
    assert!(said.contains("does not exist"), "{said}");
    line(&ended, &format!("ok     cluster main: topic {topic}: 1 partitions"));
    assert_eq!(ended.code, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_spoken_to_a_plain_port_is_a_failure_of_tls() {
    let Some(kafka) = Kafka::shared() else { return };
    let ended = connect(kafka.address(), ", security_protocol: ssl", "any", "dead");
    line(&ended, "ok     cluster main: TCP: ");
    let said = line(&ended, "FAILED cluster main: TLS: ");
    assert!(said.contains("handshake failed"), "{said}");
    assert_eq!(ended.code, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn sasl_where_nobody_asks_for_it_is_a_failure_that_names_it() {
    let Some(kafka) = Kafka::shared() else { return };
    let sasl = ", security_protocol: sasl_plaintext, sasl_mechanism: PLAIN, sasl_username: me, sasl_password: hush";
    let ended = connect(kafka.address(), sasl, "any", "dead");
    let said = line(&ended, "FAILED cluster main: ");
    assert!(said.contains("SASL"), "{said}");
    assert!(!ended.stdout.contains("hush") && !ended.stderr.contains("hush"));
    assert_eq!(ended.code, Some(1));
}

#[test]
fn an_address_where_nobody_listens_is_named() {
    // Nobody listens where a listener has just gone.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ended = connect(&address.to_string(), "", "any", "dead");
    line(&ended, &format!("ok     cluster main: names: {address} is 127.0.0.1"));
    let said = line(&ended, "FAILED cluster main: TCP: ");
    assert!(said.contains("cannot be reached") && said.contains("refused"), "{said}");
    assert_eq!(ended.code, Some(1));
}

#[test]
fn a_name_that_does_not_resolve_is_named() {
    let ended = connect("kafka.invalid:9092", "", "any", "dead");
    let said = line(&ended, "FAILED cluster main: names: kafka.invalid:9092 cannot be resolved");
    assert!(!said.is_empty());
    assert_eq!(ended.code, Some(1));
}

#[test]
fn a_port_that_takes_connections_and_says_nothing_is_given_up_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let ended = connect(&silent.local_addr().unwrap().to_string(), "", "any", "dead");
    line(&ended, "ok     cluster main: TCP: ");
    let failed = ended.stdout.lines().any(|line| line.starts_with("FAILED cluster main: "));
    assert!(failed, "{}", ended.stdout);
    assert_eq!(ended.code, Some(1));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    std::fs::write(&path, "runtime_config_path: /nowhere/rules.yaml\nkafka_cluster: 'kafka.invalid:1'\n").unwrap();
    let mut command = command(&["check-config".as_ref(), "--connect".as_ref(), "-c".as_ref(), path.as_os_str()]);
    let ended = Ended::from(command.output().unwrap());
    let said = line(&ended, "FAILED files: runtime_config_path: /nowhere/rules.yaml cannot be read");
    assert!(said.contains("No such file"), "{said}");
}
