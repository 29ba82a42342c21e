//! `taskbroker check-config --connect`: dials what the settings name.

use std::{collections::BTreeMap, fs::File, path::Path, thread, time::Duration};

use taskbroker_kafka::{Finding, ProbedTopic, probe};

use crate::{
    compose,
    settings::{KafkaCluster, KafkaTarget, Settings},
};

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Dials every cluster and opens every file that the settings name, and tells each finding in one line. Returns the lines, and
/// whether all was found as it has to be.
pub(super) fn connect(settings: &Settings) -> (String, bool) {
    let clusters = clusters(settings);
    let findings = thread::scope(|scope| {
        let dial = |probed: &Probed| probe(&compose::cluster(&probed.cluster), &probed.topics, LIMIT);
        let dialled: Vec<_> = clusters.iter().map(|probed| (probed, scope.spawn(move || dial(probed)))).collect();
        let ended = |(probed, thread): (&Probed, thread::ScopedJoinHandle<'_, Vec<Finding>>)| {
            (format!("cluster {}", probed.cluster.name), thread.join().unwrap_or_else(|_| vec![broken()]))
        };
        dialled.into_iter().map(ended).collect::<Vec<_>>()
    });
    let findings: Vec<_> = findings.into_iter().chain([("files".to_owned(), files(settings))]).collect();
    let lines = findings.iter().flat_map(|(what, findings)| findings.iter().map(move |finding| line(what, finding)));
    let good = findings.iter().flat_map(|(_, findings)| findings).all(|finding| finding.good);
    (lines.collect(), good)
}

fn line(what: &str, finding: &Finding) -> String {
    let mark = if finding.good { "ok    " } else { "FAILED" };
    format!("{mark} {what}: {}: {}\n", finding.subject, finding.text)
}

fn broken() -> Finding {
    Finding { subject: "probe".to_owned(), good: false, text: "failed by a bug of ours".to_owned() }
}

/// A cluster, and what is to be found there.
struct Probed {
    cluster: KafkaCluster,
    topics: Vec<ProbedTopic>,
}

fn clusters(settings: &Settings) -> Vec<Probed> {
    let kafka = &settings.kafka;
    let mut probed = BTreeMap::new();
    for source in kafka.sources.iter().chain(&kafka.disabled) {
        topic(&mut probed, settings, &source.cluster, &source.topic).groups.push(source.group.clone());
    }
    let forward = settings.rules.is_some().then_some(&kafka.outbox.forward);
    for KafkaTarget { cluster, topic: name } in
        [&kafka.outbox.retry, &kafka.outbox.dead_letter].into_iter().chain(forward)
    {
        topic(&mut probed, settings, cluster, name).written = true;
    }
    probed.into_values().collect()
}

/// The entry of this topic, made where there is none.
fn topic<'a>(
    probed: &'a mut BTreeMap<String, Probed>,
    settings: &Settings,
    cluster: &KafkaCluster,
    name: &str,
) -> &'a mut ProbedTopic {
    let entry = probed.entry(cluster.name.clone());
    let topics = &mut entry.or_insert_with(|| Probed { cluster: cluster.clone(), topics: Vec::new() }).topics;
    let at = topics.iter().position(|topic| topic.name == name).unwrap_or_else(|| {
        let may_be_missing = settings.kafka.create.is_some();
        topics.push(ProbedTopic { name: name.to_owned(), may_be_missing, ..ProbedTopic::default() });
        topics.len() - 1
    });
    &mut topics[at]
}

/// The files that are read at start.
fn files(settings: &Settings) -> Vec<Finding> {
    let tls = settings.grpc.tls.as_ref();
    let push = &settings.delivery.push;
    let mut files = vec![
        ("grpc_tls_certificate", tls.map(|tls| &tls.certificate)),
        ("grpc_tls_key", tls.map(|tls| &tls.key)),
        ("grpc_tls_client_ca", tls.and_then(|tls| tls.client_ca.as_ref())),
        ("push.tls_ca", push.tls_ca.as_ref()),
        ("push.tls_certificate", push.tls_client.as_ref().map(|client| &client.certificate)),
        ("push.tls_key", push.tls_client.as_ref().map(|client| &client.key)),
        ("runtime_config_path", settings.rules.as_ref()),
    ];
    for target in &settings.kafka.topics {
        let client = target.cluster.ssl_client.as_ref();
        files.push(("ssl_ca_location", target.cluster.ssl_ca_location.as_ref()));
        files.push(("ssl_certificate_location", client.map(|client| &client.certificate_location)));
        files.push(("ssl_key_location", client.map(|client| &client.key_location)));
    }
    let mut files: Vec<_> = files.into_iter().filter_map(|(key, path)| Some((key, path?))).collect();
    files.sort();
    files.dedup();
    files.into_iter().map(|(key, path)| file(key, path)).collect()
}

fn file(key: &str, path: &Path) -> Finding {
    let (good, text) = match File::open(path) {
        Ok(_) => (true, format!("{} can be read", path.display())),
        Err(error) => (false, format!("{} cannot be read: {error}", path.display())),
    };
    Finding { subject: key.to_owned(), good, text }
}
