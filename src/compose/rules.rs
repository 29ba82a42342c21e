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
    let target = target_cluster(settings, cluster_address);
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

/// The cluster of these addresses: one of the settings where they name it, else the dead letters' with other addresses.
fn target_cluster(settings: &Settings, address: Option<String>) -> KafkaCluster {
    let outbox = &settings.kafka.outbox;
    let Some(address) = address else { return outbox.forward.cluster.clone() };
    let sources = settings.kafka.sources.iter().map(|source| &source.cluster);
    let mut known = sources.chain([&outbox.retry.cluster, &outbox.dead_letter.cluster, &outbox.forward.cluster]);
    match known.find(|cluster| cluster.address == address) {
        Some(cluster) => cluster.clone(),
        None => KafkaCluster { address, ..outbox.dead_letter.cluster.clone() },
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
