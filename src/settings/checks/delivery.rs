//! Whether what is to be pushed can be.

use super::wide;
use crate::settings::{
    key::Key,
    model::{DeliveryMode, Settings},
    reader::Reader,
    report::{Origin, WarningKind},
};

/// What an activation and its frame add to the message that Kafka held, at most.
const ENVELOPE_BYTES: u64 = 64 * 1024;

pub(super) fn check(settings: &Settings, reader: &mut Reader<'_>) {
    match settings.delivery.mode {
        DeliveryMode::Push => {
            applications(settings, reader);
            message_size(settings, reader);
            results(settings, reader);
        }
        DeliveryMode::Pull => pulled(settings, reader),
    }
    tls(settings, reader);
}

/// Tasks of an application that is in no worker map are never pushed to anybody.
fn applications(settings: &Settings, reader: &mut Reader<'_>) {
    let known = &settings.delivery.worker_map;
    let names = || known.keys().cloned().collect::<Vec<_>>().join(", ");
    if let Some(application) = settings.default_application.as_ref().filter(|name| !known.contains_key(*name)) {
        let reason = format!(
            "activations without an application would belong to {application}, and nobody is pushed those: worker_map has \
             {}",
            names()
        );
        reader.findings.clash(&["default_application", "worker_map"], reason);
    }
    let kafka = &settings.kafka;
    for source in kafka.sources.iter().chain(&kafka.disabled) {
        let Some(raw) = source.raw.as_ref().filter(|raw| !known.contains_key(&raw.application)) else { continue };
        let key = Key::new("kafka_topics").child(&source.topic).child("raw").child("application");
        let reason = format!(
            "the tasks of the raw topic {} belong to {}, and nobody is pushed those: worker_map has {}",
            source.topic,
            raw.application,
            names()
        );
        reader.findings.clash_of(&[key, Key::new("worker_map")], reason);
    }
}

fn message_size(settings: &Settings, reader: &mut Reader<'_>) {
    let largest = u64::from(settings.kafka.outbox.max_message_bytes.get()).saturating_add(ENVELOPE_BYTES);
    if wide(settings.delivery.push.max_message_bytes.get()) < largest {
        let reason = format!(
            "a task of the largest size could not be pushed, and would wait for ever: set grpc_max_message_size to at least \
             {largest}, and the same in the workers (TASKBROKER_GRPC_MAX_MESSAGE_SIZE)"
        );
        reader.findings.clash(&["grpc_max_message_size", "max_message_size"], reason);
    }
}

fn results(settings: &Settings, reader: &mut Reader<'_>) {
    if settings.grpc_listen.is_none() {
        let reason =
            "no port is open, and the results of pushed tasks come by it: every task would run again and again";
        reader.findings.clash(&["grpc_port", "delivery_mode"], reason);
    }
}

fn pulled(settings: &Settings, reader: &mut Reader<'_>) {
    // What the Python client of pull workers takes at most.
    const CLIENT_BYTES: u64 = 10 * 1024 * 1024;
    let largest = u64::from(settings.kafka.outbox.max_message_bytes.get());
    if largest > CLIENT_BYTES {
        let message = format!(
            "tasks may be larger than the {CLIENT_BYTES} bytes that the Python client of pull workers takes: such a task \
             never reaches one"
        );
        warn(reader, "max_message_size", &message);
    }
    if settings.grpc_listen.is_none() {
        warn(reader, "grpc_port", "opens no port, so no worker can ask for tasks; what is taken in waits");
    }
    let canary_for_nobody = settings.canary_tasks > 0 && reader.names("worker_map").is_empty();
    if canary_for_nobody {
        let message = "the canary tasks are for the applications of worker_map, which is not given: they go to sentry";
        warn(reader, "canary_tasks", message);
    }
}

fn tls(settings: &Settings, reader: &mut Reader<'_>) {
    let push = &settings.delivery.push;
    let encrypted = settings.delivery.mode == DeliveryMode::Push
        && settings.delivery.worker_map.values().any(crate::settings::Endpoint::is_tls);
    let message = "has no effect: no worker is pushed to by TLS; give worker_map an https:// address";
    for (key, given) in [("push.tls_ca", push.tls_ca.is_some()), ("push.tls_certificate", push.tls_client.is_some())] {
        if given && !encrypted {
            warn(reader, key, message);
        }
    }
}

/// Warns of what works, with this consequence.
pub(super) fn warn(reader: &mut Reader<'_>, key: &str, message: &str) {
    let key = Key::new(key);
    let origin = reader.origin(&key);
    reader.findings.warn(WarningKind::Consequence, &key, &origin, message);
}

/// The same, if the user gave the setting.
pub(super) fn warn_if_given(reader: &mut Reader<'_>, key: &str, message: &str) {
    if reader.origin(&Key::new(key)) != Origin::Default {
        warn(reader, key, message);
    }
}
