//! A Kafka with users, access control and TLS: the broker works with the right credentials, and says in one line each what it
//! lacks, while everything else goes on.

use std::time::Duration;

use anyhow::Result;
use prost::Message as _;
use serde_json::{Value, json};
use taskbroker_proto::pb::{TaskActivation, TaskActivationStatus};
use taskbroker_support::{
    broker::{BrokerProcess, Setup, Task, Worker},
    kafka::{Operation, Resource, SecuredKafka},
};

use super::{BINARY, crew::assert_empty, produce, tasks};

const WITHIN: Duration = Duration::from_secs(60);
/// What is said again and again would have been by then: a question that nobody answers takes 2.5 s, and is asked again soon.
const QUIET: Duration = Duration::from_secs(4);

/// A broker's user, who may do nothing yet.
const USER: &str = "broker";

/// A cluster as this user reaches it: in plain text, by SCRAM.
fn by_sasl(kafka: &SecuredKafka, user: &str, password: &str) -> Value {
    json!({
        "address": kafka.sasl, "security_protocol": "sasl_plaintext", "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_username": user, "sasl_password": password,
    })
}

/// Topics and a group of its own, reached by the user; nothing is granted.
async fn setup(kafka: &SecuredKafka, user: &str) -> Result<Setup> {
    let setup = Setup::on(kafka, BINARY, 1).await?;
    Ok(setup.with("kafka_clusters.test", by_sasl(kafka, user, &SecuredKafka::password(user))))
}

/// The rights a broker needs, each of them by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    ReadTopic,
    WriteTopic,
    ReadGroup,
    WriteDeadLetters,
}

impl Right {
    const ALL: [Self; 4] = [Self::ReadTopic, Self::WriteTopic, Self::ReadGroup, Self::WriteDeadLetters];

    async fn grant(self, kafka: &SecuredKafka, setup: &Setup) -> Result<()> {
        let (resource, name, operation) = match self {
            Self::ReadTopic => (Resource::Topic, &setup.topic, Operation::Read),
            Self::WriteTopic => (Resource::Topic, &setup.topic, Operation::Write),
            Self::ReadGroup => (Resource::Group, &setup.group, Operation::Read),
            Self::WriteDeadLetters => (Resource::Topic, &setup.dead_letters, Operation::Write),
        };
        kafka.grant(USER, resource, name, operation).await
    }

    async fn grant_all_but(kafka: &SecuredKafka, setup: &Setup, lacking: Option<Self>) -> Result<()> {
        for right in Self::ALL.into_iter().filter(|right| Some(*right) != lacking) {
            right.grant(kafka, setup).await?;
        }
        Ok(())
    }
}

async fn fetch(worker: &mut Worker) -> Result<TaskActivation> {
    Ok(worker.fetch_within(WITHIN).await?.unwrap_or_else(|| panic!("no task comes")))
}

/// One task is completed, one is retried and completed, one goes to the dead letters.
async fn work_end_to_end(kafka: &SecuredKafka, setup: &Setup, broker: &BrokerProcess) -> Result<()> {
    let ids = produce(kafka, &setup.topic, [Task::new(), Task::new().dead_letter(), Task::new().dead_letter()]).await?;
    let mut worker = broker.worker()?;
    let statuses = [TaskActivationStatus::Complete, TaskActivationStatus::Retry, TaskActivationStatus::Failure];
    for (id, status) in ids.iter().zip(statuses) {
        assert_eq!(fetch(&mut worker).await?.id, *id);
        worker.report(id, status).await?;
    }
    let retried = fetch(&mut worker).await?;
    assert_eq!(retried.retry_state.as_ref().map(|state| state.attempts), Some(1));
    worker.complete(&retried.id).await?;
    assert_empty(broker, WITHIN).await?;
    assert_eq!(dead(kafka, setup).await?, [ids[2].clone()]);
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await
}

/// The ids of the dead letters.
async fn dead(kafka: &SecuredKafka, setup: &Setup) -> Result<Vec<String>> {
    let dead = kafka.consume_all(&setup.dead_letters).await?;
    dead.iter().map(|message| Ok(TaskActivation::decode(message.payload.as_slice())?.id)).collect()
}

/// The lines that say this, all of them different: none is repeated while nothing changes.
fn said_once(broker: &BrokerProcess, what: &[&str]) -> Vec<String> {
    let lines = broker.log().lines();
    lines.into_iter().filter(|line| what.iter().all(|what| line.contains(what))).collect()
}

#[tokio::test]
async fn a_user_with_the_four_rights_works_end_to_end_by_sasl_and_tls() -> Result<()> {
    let Some(kafka) = SecuredKafka::shared() else { return Ok(()) };
    let ca = kafka.ca.display().to_string();
    let password = SecuredKafka::password(USER);
    let by_both = |mechanism: &str| {
        json!({
            "address": kafka.sasl_tls, "security_protocol": "sasl_ssl", "sasl_mechanism": mechanism, "ssl_ca_location": ca,
            "sasl_username": USER, "sasl_password": password,
        })
    };
    let by_tls = json!({ "address": kafka.tls, "security_protocol": "ssl", "ssl_ca_location": ca });
    for cluster in [by_both("SCRAM-SHA-512"), by_both("PLAIN"), by_tls, by_sasl(&kafka, USER, &password)] {
        let setup = setup(&kafka, USER).await?.with("kafka_clusters.test", cluster);
        Right::grant_all_but(&kafka, &setup, None).await?;
        let mut broker = BrokerProcess::start(&setup).await?;
        work_end_to_end(&kafka, &setup, &broker).await?;
        broker.stop().await?;
        assert_eq!(broker.log().errors(), Vec::<String>::new());
        assert!(broker.log().with(&password).is_empty(), "the password is in the log");
    }
    Ok(())
}

/// Without this right at first: one line says so, and which; nothing crashes; when it is granted the tasks come.
async fn waits_for_a_right_to_read(lacking: Right, said: &[&str]) -> Result<()> {
    let Some(kafka) = SecuredKafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, USER).await?;
    Right::grant_all_but(&kafka, &setup, Some(lacking)).await?;
    let ids = produce(&kafka, &setup.topic, tasks(1)).await?;
    let mut broker = BrokerProcess::start(&setup).await?;
    let name = if lacking == Right::ReadGroup { &setup.group } else { &setup.topic };
    broker.log().await_line(0, said[0], WITHIN).await?;
    tokio::time::sleep(QUIET).await;
    let lines = said_once(&broker, said);
    assert!(lines.len() == 1 && lines[0].contains(name.as_str()), "{name}: {lines:#?}\n{}", broker.log().tail(40));
    let loud: Vec<_> =
        broker.log().lines().into_iter().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    assert!(loud.len() <= 3, "{loud:#?}");
    assert!(broker.is_running());
    lacking.grant(&kafka, &setup).await?;
    let mut worker = broker.worker()?;
    let task = fetch(&mut worker).await?;
    assert_eq!(task.id, ids[0]);
    worker.complete(&task.id).await?;
    assert_empty(&broker, WITHIN).await?;
    broker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_broker_that_may_not_read_the_topic_says_so_once_and_reads_when_it_may() -> Result<()> {
    waits_for_a_right_to_read(Right::ReadTopic, &["Kafka refuses the topic", "READ on the topic"]).await
}

#[tokio::test]
async fn a_broker_that_may_not_read_in_its_group_says_so_once_and_reads_when_it_may() -> Result<()> {
    waits_for_a_right_to_read(Right::ReadGroup, &["Kafka refuses the topic", "READ on the group"]).await
}

#[tokio::test]
async fn dead_letters_that_may_not_be_written_wait_for_the_right_and_healthy_work_goes_on() -> Result<()> {
    let Some(kafka) = SecuredKafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, USER).await?;
    Right::grant_all_but(&kafka, &setup, Some(Right::WriteDeadLetters)).await?;
    // To know that there is such a topic is another right.
    kafka.grant(USER, Resource::Topic, &setup.dead_letters, Operation::Describe).await?;
    let mut broker = BrokerProcess::start(&setup).await?;
    let mut worker = broker.worker()?;
    // One of them at most once: that nothing was sent is certain, so it is sent again as well.
    let failing = [Task::new().dead_letter(), Task::new().dead_letter().at_most_once()];
    let ids = produce(&kafka, &setup.topic, failing).await?;
    for _ in &ids {
        let task = fetch(&mut worker).await?;
        worker.report(&task.id, TaskActivationStatus::Failure).await?;
    }
    let said = ["publishing to the topic fails", setup.dead_letters.as_str(), "the right to WRITE to the topic"];
    broker.log().await_line(0, said[0], WITHIN).await?;
    for id in produce(&kafka, &setup.topic, tasks(20)).await? {
        assert_eq!(fetch(&mut worker).await?.id, id);
        worker.complete(&id).await?;
    }
    tokio::time::sleep(QUIET).await;
    assert_eq!(said_once(&broker, &said).len(), 1, "{}", broker.log().tail(40));
    let metrics = broker.metrics().await?;
    let again = |sent: &str| metrics.of_labels("taskbroker_publish_retries_total", &["kind=\"dead_letter\"", sent]);
    assert!(again("sent=\"no\"") >= 2.0 && again("sent=\"perhaps\"") == 0.0, "{metrics:?}");
    assert_eq!(metrics.in_flight(), 2.0);
    Right::WriteDeadLetters.grant(&kafka, &setup).await?;
    assert_empty(&broker, WITHIN).await?;
    let mut found = dead(&kafka, &setup).await?;
    let mut expected = ids.clone();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(broker.log().with("publishing to the topic works again").len(), 1);
    assert_eq!(broker.log().errors(), Vec::<String>::new());
    broker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_said_once_and_the_broker_goes_on_trying() -> Result<()> {
    let Some(kafka) = SecuredKafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, USER).await?;
    let setup = setup.with("kafka_clusters.test", by_sasl(&kafka, USER, "no-such-password"));
    let mut broker = BrokerProcess::prepare(&setup)?;
    broker.spawn()?;
    let said = "Kafka refuses the connection: see its credentials and certificates";
    broker.log().await_line(0, said, WITHIN).await?;
    tokio::time::sleep(QUIET).await;
    let lines = said_once(&broker, &[said]);
    assert!(lines.len() == 1 && lines[0].contains("uthentication failed"), "{lines:#?}\n{}", broker.log().tail(40));
    assert!(broker.log().with("no-such-password").is_empty(), "the password is in the log");
    assert!(broker.is_running());
    broker.stop().await?;
    assert_eq!(broker.log().errors(), Vec::<String>::new());
    Ok(())
}
