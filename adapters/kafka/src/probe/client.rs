//! TLS, SASL, topics and rights, as librdkafka finds them.

use std::{sync::Mutex, thread, time::Duration};

use rdkafka::{
    ClientConfig, ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    metadata::Metadata,
    types::RDKafkaErrorCode,
};

use super::{ProbedTopic, Report, network};
use crate::{
    ClusterOptions,
    deadline::Deadline,
    native::{CommittedEntry, committed_entries, rights_on_topic},
    options::connection_config,
};

/// How long one question may take before the reasons for its silence are looked at.
const QUESTION_LIMIT: Duration = Duration::from_secs(1);
/// How long to wait before a question is put again that cannot be answered just now.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// How many complaints are looked at for a reason.
const COMPLAINTS_MAX: usize = 20;

/// Goes on where TCP works.
pub(super) fn ask(cluster: &ClusterOptions, topics: &[ProbedTopic], deadline: Deadline, report: &Report) {
    let config = connection_config(cluster);
    let consumer = match client(&config, "taskbroker-check") {
        Ok(consumer) => consumer,
        Err(error) => return report.bad("settings", format!("librdkafka does not take them: {error}")),
    };
    let Some(metadata) = greet(&consumer, cluster, deadline, report) else { return };
    brokers(&metadata, deadline, report);
    for topic in topics {
        look_at_topic(&consumer, topic, deadline, report);
    }
    let mut groups: Vec<(&str, &str)> = Vec::new();
    for topic in topics {
        groups.extend(topic.groups.iter().map(|group| (group.as_str(), topic.name.as_str())));
    }
    for (group, topic) in groups {
        look_at_group(&config, group, topic, deadline, report);
    }
}

fn client(config: &ClientConfig, group: &str) -> Result<BaseConsumer<Listener>, KafkaError> {
    let mut config = config.clone();
    config.set("group.id", group).set("enable.auto.commit", "false").set("allow.auto.create.topics", "false");
    config.create_with_context(Listener::default())
}

/// Waits for the first answer. What librdkafka complains of meanwhile says which step failed.
fn greet(
    consumer: &BaseConsumer<Listener>,
    cluster: &ClusterOptions,
    deadline: Deadline,
    report: &Report,
) -> Option<Metadata> {
    loop {
        let answer = consumer.fetch_metadata(None, deadline.left_of(QUESTION_LIMIT));
        if let Ok(metadata) = answer {
            welcome(cluster, consumer, &metadata, deadline, report);
            return Some(metadata);
        }
        // Complaints come as events, one at each call.
        while consumer.poll(Duration::from_millis(20)).is_some() && !deadline.left().is_zero() {}
        let complaints = consumer.context().complaints();
        if blame(&complaints, cluster, report) {
            return None;
        }
        // A step of one's own stays for what says nothing at all.
        if deadline.left() < QUESTION_LIMIT {
            let telling = complaints.iter().find(|(code, _)| *code != RDKafkaErrorCode::AllBrokersDown);
            let said = telling.map_or("no answer", |(_, text)| text);
            report.bad("Kafka", format!("does not answer as Kafka does: {said}"));
            return None;
        }
    }
}

/// Tells the step that failed, if the complaints name one.
fn blame(complaints: &[Complaint], cluster: &ClusterOptions, report: &Report) -> bool {
    // A server that hangs up in the middle is a failure of transport to librdkafka, told apart by its words only.
    let of_tls = |(code, text): &&Complaint| *code == RDKafkaErrorCode::SSL || text.contains("SSL handshake failed");
    if let Some((_, text)) = complaints.iter().find(of_tls) {
        report.bad("TLS", text);
        return true;
    }
    if let Some((_, text)) = complaints.iter().find(|(code, _)| *code == RDKafkaErrorCode::Authentication) {
        tls_works(cluster, report);
        report.bad("SASL", text);
        return true;
    }
    let hung_up = |text: &str| text.contains("Disconnected") || text.contains("disconnected");
    let mut dropped = complaints.iter().filter(|(_, text)| hung_up(text));
    match (cluster.encrypted(), dropped.next()) {
        (false, Some((_, text))) => {
            report
                .bad("Kafka", format!("hangs up, as a port does that wants TLS or SASL (security_protocol?): {text}"));
            true
        }
        _ => false,
    }
}

fn welcome(
    cluster: &ClusterOptions,
    consumer: &BaseConsumer<Listener>,
    metadata: &Metadata,
    deadline: Deadline,
    report: &Report,
) {
    tls_works(cluster, report);
    if let (true, Some(user)) = (cluster.authenticated(), &cluster.sasl_username) {
        let mechanism = cluster.sasl_mechanism.as_deref().unwrap_or_default();
        report.good("SASL", format!("authenticated as {user} by {mechanism}"));
    }
    let id = consumer.client().fetch_cluster_id(deadline.left_of(QUESTION_LIMIT));
    let id = id.unwrap_or_else(|| "without an id".to_owned());
    report.good("Kafka", format!("cluster {id} with {} brokers", metadata.brokers().len()));
}

fn tls_works(cluster: &ClusterOptions, report: &Report) {
    if cluster.encrypted() {
        report.good("TLS", "the connection is encrypted, and the server's certificate is trusted");
    }
}

/// A cluster tells its clients where its brokers are, which is not always where they can reach them.
fn brokers(metadata: &Metadata, deadline: Deadline, report: &Report) {
    for broker in metadata.brokers() {
        let (host, port) = (broker.host(), u16::try_from(broker.port()).unwrap_or_default());
        if let Err(reason) = network::is_reachable(host, port, deadline) {
            let text = format!(
                "the cluster says that its broker {} is at {host}:{port}, which cannot be reached from here (advertised.listeners?): \
                 {reason}",
                broker.id()
            );
            report.bad("Kafka", text);
        }
    }
}

fn look_at_topic(consumer: &BaseConsumer<Listener>, topic: &ProbedTopic, deadline: Deadline, report: &Report) {
    let subject = format!("topic {}", topic.name);
    match rights_on_topic(consumer.client(), &topic.name, deadline.left_of(4 * QUESTION_LIMIT)) {
        Err(failure) if failure.lacking_right().is_some() => {
            report.bad(subject, format!("we lack every right on it, READ and WRITE and DESCRIBE: {failure}"));
        }
        Err(failure) => report.bad(subject, failure.to_string()),
        Ok(None) if topic.may_be_missing => {
            report.good(subject, "does not exist; it will be created (create_missing_topics)");
        }
        Ok(None) => report.bad(subject, "does not exist, or we may not know of it: create it, or allow DESCRIBE"),
        Ok(Some(rights)) => {
            let lacks_read = !topic.groups.is_empty() && !rights.read;
            let missing: Vec<_> = [("READ", lacks_read), ("WRITE", topic.written && !rights.write)]
                .into_iter()
                .filter_map(|(right, lacking)| lacking.then_some(right))
                .collect();
            if missing.is_empty() {
                report.good(subject, format!("{} partitions, and the rights we need", rights.partitions));
            } else {
                report.bad(subject, format!("exists, but we lack the right to {}", missing.join(" and ")));
            }
        }
    }
}

/// Asks for the group's position of one partition, which needs the rights that a member needs.
fn look_at_group(config: &ClientConfig, group: &str, topic: &str, deadline: Deadline, report: &Report) {
    let subject = format!("group {group}");
    let consumer = match client(config, group) {
        Ok(consumer) => consumer,
        Err(error) => return report.bad(subject, error.to_string()),
    };
    match settled_position(&consumer, topic, deadline) {
        Err(error) if lacks_group(&consumer, &error) => {
            report.bad(subject, "we lack the right to READ it (a right on the group, not on the topic)");
        }
        Err(error) => report.bad(subject, format!("its position in {topic} cannot be read: {error}")),
        Ok(Some(offset)) => report.good(subject, format!("its position in {topic}, partition 0, is {offset}")),
        Ok(None) => report.good(subject, format!("has no position in {topic} yet (auto_offset_reset decides)")),
    }
}

/// A group's coordinator may be about to move, or to start: it is asked again.
fn settled_position(
    consumer: &BaseConsumer<Listener>,
    topic: &str,
    deadline: Deadline,
) -> Result<Option<i64>, KafkaError> {
    let deadline = Deadline::after(deadline.left_of(4 * QUESTION_LIMIT));
    loop {
        match position(consumer, topic, deadline) {
            Err(error) if is_moving(&error) && deadline.left() > ASK_AGAIN_AFTER => thread::sleep(ASK_AGAIN_AFTER),
            answer => return answer,
        }
    }
}

fn is_moving(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::NotCoordinator | Code::CoordinatorLoadInProgress | Code::CoordinatorNotAvailable)
    )
}

fn position(consumer: &BaseConsumer<Listener>, topic: &str, deadline: Deadline) -> Result<Option<i64>, KafkaError> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Invalid)?;
    let list = consumer.committed_offsets(list, deadline.left())?;
    match committed_entries(&list).first() {
        Some(CommittedEntry { error: Some(code), .. }) => Err(KafkaError::OffsetFetch(*code)),
        Some(entry) if entry.offset >= 0 => Ok(Some(entry.offset)),
        Some(_) | None => Ok(None),
    }
}

/// Whoever may not know of a group is not told who coordinates it, so that the question itself is never answered; the reason is a
/// complaint.
fn lacks_group(consumer: &BaseConsumer<Listener>, error: &KafkaError) -> bool {
    let lacking = RDKafkaErrorCode::GroupAuthorizationFailed;
    if error.rdkafka_error_code() == Some(lacking) {
        return true;
    }
    for _ in 0..COMPLAINTS_MAX {
        if consumer.poll(Duration::from_millis(20)).is_none() {
            break;
        }
    }
    consumer.context().complaints().iter().any(|(code, _)| *code == lacking)
}

/// Collects what librdkafka complains of.
#[derive(Default)]
struct Listener(Mutex<Vec<Complaint>>);

/// What librdkafka complains of, and in which words.
type Complaint = (RDKafkaErrorCode, String);

impl Listener {
    fn complaints(&self) -> Vec<Complaint> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl ClientContext for Listener {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        let mut complaints = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        complaints.push((code, reason.to_owned()));
    }
}

impl ConsumerContext for Listener {}
