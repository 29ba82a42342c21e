//! Rules that change while the broker runs: from their file to the engine and the outbox.

use std::sync::Arc;

use anyhow::{Context, Result};
use taskbroker_domain::rules::Rules;
use taskbroker_kafka::KafkaOutbox;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::kafka::cluster;
use crate::{
    engine::Broker,
    reload::RulesWatch,
    settings::{KafkaCluster, RulesFile, Settings},
};

/// SIGHUP, from here on: it no longer ends the process.
pub(super) fn hangup() -> Result<Signal> {
    signal(SignalKind::hangup()).context("SIGHUP cannot be listened for")
}

/// Has the outbox forward to where the file says, and returns the rules that are to be in force. Tasks are not forwarded to
/// a topic that this broker reads itself: they would come back. None: the topic cannot be produced to; what is in force stays.
pub(super) fn in_force(settings: &Settings, outbox: &KafkaOutbox, file: RulesFile) -> Option<Rules> {
    let RulesFile { mut rules, topic, cluster_address, unknown: _ } = file;
    let usual = &settings.kafka.outbox.forward;
    let topic = topic.unwrap_or_else(|| usual.topic.clone());
    let target = target_cluster(settings, &topic, cluster_address);
    let own = |(name, address): (&str, &str)| name == topic && have_one_in_common(address, &target.address);
    let mut sources =
        settings.kafka.sources.iter().map(|source| (source.topic.as_str(), source.cluster.address.as_str()));
    if !rules.demoted.is_empty() && sources.any(own) {
        warn!(topic, "demoted_topic is a topic that this broker reads: its namespaces are not demoted");
        rules.demoted.clear();
    }
    if let Err(error) = outbox.set_forward(&topic, &cluster(&target)) {
        error!(%error, topic, "demoted_topic cannot be produced to: the rules in force stay");
        return None;
    }
    Some(rules)
}

/// Whether two lists of addresses name one cluster.
fn have_one_in_common(addresses: &str, others: &str) -> bool {
    addresses.split(',').any(|address| others.split(',').any(|other| other.trim() == address.trim()))
}

/// The cluster that demoted tasks go to: without an address that of the topic, or the dead letters' where it is not declared;
/// with one, a cluster of the settings that has it, or the dead letters' in all but its address.
fn target_cluster(settings: &Settings, topic: &str, address: Option<String>) -> KafkaCluster {
    let dead_letters = &settings.kafka.outbox.dead_letter.cluster;
    let declared = || settings.kafka.topics.iter();
    let Some(address) = address else {
        return declared().find(|target| target.topic == topic).map_or(dead_letters, |target| &target.cluster).clone();
    };
    // Two clusters of one address differ in who we are there; the dead letters' is meant then.
    let mut known = [dead_letters].into_iter().chain(declared().map(|target| &target.cluster));
    match known.find(|cluster| cluster.address == address) {
        Some(cluster) => cluster.clone(),
        None => KafkaCluster { address, ..dead_letters.clone() },
    }
}

/// Reads the file again when it changes, and on SIGHUP, until it is stopped.
pub(super) fn keep_in_force(
    settings: &Settings,
    watch: Option<RulesWatch>,
    mut hangup: Signal,
    broker: &Broker,
    outbox: Arc<KafkaOutbox>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let (settings, set_rules) = (settings.clone(), broker.rules_setter());
    async move {
        match watch {
            Some(watch) => {
                let apply = move |file| in_force(&settings, &outbox, file).into_iter().for_each(&set_rules);
                watch.run(hangup, apply, stop).await;
            }
            None => {
                while let Some(Some(())) = stop.run_until_cancelled(hangup.recv()).await {
                    info!("SIGHUP: there is nothing to read again (runtime_config_path is not set)");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::{
        compose::kafka::outbox_options,
        settings::{Sources, load, read_rules},
    };

    const KAFKA: &str = "
kafka_clusters: {main: {address: '127.0.0.1:1,127.0.0.1:2'}, dead: {address: '127.0.0.1:3'}, far: {address: '127.0.0.1:4'}}
kafka_topics:
  tasks: {cluster: main, consumer_group: g}
  taskworker-dlq: {cluster: dead, produce_only: true}
  declared: {cluster: far, produce_only: true}
";

    fn settings(yaml: &str) -> Settings {
        load(&Sources::defaults().with_yaml("the test", yaml)).unwrap().settings
    }

    fn file(more: &str) -> RulesFile {
        read_rules("rules", &format!("drop_task_killswitch: [t]\ndemoted_namespaces: [slow]\n{more}")).unwrap()
    }

    #[test]
    fn demoted_tasks_go_to_the_cluster_that_is_named_or_that_of_the_topic_or_of_the_dead_letters() {
        let settings = settings(KAFKA);
        let to = |topic: &str, address: Option<&str>| {
            let cluster = target_cluster(&settings, topic, address.map(str::to_owned));
            (cluster.name, cluster.address)
        };
        let expected = |name: &str, address: &str| (name.to_owned(), address.to_owned());
        assert_eq!(to("taskworker-long", None), expected("dead", "127.0.0.1:3"));
        assert_eq!(to("declared", None), expected("far", "127.0.0.1:4"));
        assert_eq!(to("declared", Some("127.0.0.1:3")), expected("dead", "127.0.0.1:3"));
        assert_eq!(to("elsewhere", Some("127.0.0.1:4")), expected("far", "127.0.0.1:4"));
        assert_eq!(to("elsewhere", Some("127.0.0.1:9")), expected("dead", "127.0.0.1:9"));
    }

    #[test]
    fn at_an_address_of_two_clusters_we_are_who_we_are_to_the_dead_letters() {
        let says = |prefix: &str, user: &str| {
            [
                ("security_protocol", "sasl_ssl"),
                ("sasl_mechanism", "PLAIN"),
                ("sasl_username", user),
                ("sasl_password", "p"),
            ]
            .map(|(field, value)| format!("kafka_{prefix}{field}: {value}\n"))
            .concat()
        };
        let yaml = format!("kafka_cluster: 'a:1'\n{}{}", says("", "reader"), says("deadletter_", "mortician"));
        let cluster = target_cluster(&settings(&yaml), "taskworker-long", Some("a:1".to_owned()));
        assert_eq!(cluster.sasl.unwrap().username, "mortician");
    }

    #[test]
    fn nothing_is_demoted_to_a_topic_that_is_read_here() {
        let settings = settings(KAFKA);
        let outbox = KafkaOutbox::new(outbox_options(&settings)).unwrap();
        let demotes = |more: &str| {
            let rules = in_force(&settings, &outbox, file(more)).unwrap();
            assert_eq!(rules.drop.len(), 1, "the other rules hold");
            !rules.demoted.is_empty()
        };
        assert!(demotes(""));
        assert!(!demotes("demoted_topic: tasks"));
        assert!(!demotes("demoted_topic: tasks\ndemoted_topic_cluster: '127.0.0.1:2'"));
        assert!(demotes("demoted_topic: tasks\ndemoted_topic_cluster: '127.0.0.1:3'"), "another topic of that name");
        assert!(demotes("demoted_topic: others"));
    }
}
