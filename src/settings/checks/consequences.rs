//! What works and may not be meant.

use std::time::Duration;

use super::delivery::{warn, warn_if_given};
use crate::settings::{
    key::Key,
    model::{AssignmentStrategy, SecurityProtocol, Settings, StoreAdapter},
    reader::Reader,
    report::WarningKind,
};

/// Warns of it.
pub(super) fn warn_of(settings: &Settings, reader: &mut Reader<'_>) {
    openness(settings, reader);
    sessions(settings, reader);
    passwords(settings, reader);
    topics(settings, reader);
    without_effect(settings, reader);
    traces(settings, reader);
    if settings.store.adapter == StoreAdapter::Memory {
        warn(reader, "store.adapter", "what is in flight is lost when the process ends; for trials only");
    }
    if settings.health_forced {
        let message =
            "health is good whatever is: nothing restarts the broker or keeps clients from it when it stands still";
        warn(reader, "health_check_killswitched", message);
    }
}

fn openness(settings: &Settings, reader: &mut Reader<'_>) {
    let grpc = &settings.grpc;
    let open = grpc.shared_secrets.is_empty() && grpc.tls.as_ref().is_none_or(|tls| tls.client_ca.is_none());
    if open && settings.grpc_listen.is_some_and(|address| !address.ip().is_loopback()) {
        let message = "listens beyond this machine, and callers need no grpc_shared_secret: whoever reaches it can take \
                       and settle tasks; give one, protect the port, or set 127.0.0.1";
        warn(reader, "grpc_addr", message);
    }
}

fn sessions(settings: &Settings, reader: &mut Reader<'_>) {
    // `group.min.session.timeout.ms`, unless the cluster's own settings say otherwise.
    const LEAST: Duration = Duration::from_secs(6);
    let sources = &settings.kafka.sources;
    if sources.iter().any(|source| source.assignment_strategy == AssignmentStrategy::Consumer) {
        let message =
            "has no effect with the consumer protocol: the Kafka brokers' group.consumer.session.timeout.ms holds";
        warn_if_given(reader, "kafka_session_timeout_ms", message);
    } else if sources.iter().any(|source| source.session_timeout < LEAST) {
        let message = "is less than the 6000 that Kafka grants unless its group.min.session.timeout.ms says otherwise: it \
                       would not let this broker into the group";
        warn(reader, "kafka_session_timeout_ms", message);
    }
}

fn passwords(settings: &Settings, reader: &mut Reader<'_>) {
    let mut clusters: Vec<_> = settings.kafka.topics.iter().map(|target| &target.cluster).collect();
    clusters.sort_by(|a, b| a.name.cmp(&b.name));
    clusters.dedup_by(|a, b| a.name == b.name);
    for cluster in clusters.into_iter().filter(|cluster| cluster.security_protocol == SecurityProtocol::SaslPlaintext) {
        let key = Key::new("kafka_clusters").child(&cluster.name).child("security_protocol");
        let origin = reader.effective.get(&key).map(|effective| effective.origin.clone());
        let message =
            "sends the password, or what proves it, unencrypted: use sasl_ssl where the network is not your own";
        reader.findings.warn(WarningKind::Consequence, &key, &origin.unwrap_or(super::super::Origin::Default), message);
    }
}

fn topics(settings: &Settings, reader: &mut Reader<'_>) {
    let outbox = &settings.kafka.outbox;
    if outbox.forward.topic == outbox.dead_letter.topic {
        let message = "is the dead-letter topic: demoted tasks would lie among dead letters and not run";
        warn(reader, "kafka_long_topic", message);
    }
    if settings.kafka.sources.is_empty() {
        let message = "no topic is consumed for now, each is consumer_disabled: only what is in the store is served";
        warn(reader, "kafka_topics", message);
    }
}

fn without_effect(settings: &Settings, reader: &mut Reader<'_>) {
    if settings.kafka.create.is_none() {
        let message = "has no effect without create_missing_topics: true";
        warn_if_given(reader, "default_topic_replication_factor", message);
    }
    if settings.grpc.batch_status_updates {
        let message = "has no effect: reports that come together share one commit in any case, each is durable before it is \
                       answered, and the next task is returned with it where a worker asks for one";
        warn(reader, "batch_status_updates", message);
    }
}

/// They take both a collector and a share of the tasks.
fn traces(settings: &Settings, reader: &mut Reader<'_>) {
    let traced = settings.traces.sample_rate > 0.0;
    match &settings.traces.endpoint {
        Some(_) if !traced => {
            let message = "gets nothing: traces_sample_rate, the share of tasks that are traced, is 0";
            warn(reader, "traces_endpoint", message);
        }
        None if traced => {
            let message =
                "has no effect without traces_endpoint, an OpenTelemetry collector; there is no reporting to Sentry";
            warn(reader, "traces_sample_rate", message);
        }
        _ => {}
    }
}
