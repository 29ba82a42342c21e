//! Settings that are each right but do not go together, or do something one may not have meant.

use std::net::SocketAddr;

use super::{
    key::Key,
    model::{AssignmentStrategy, DeliveryMode, Settings, StoreAdapter},
    reader::Reader,
    report::WarningKind,
    value::show_duration,
};

/// Looks for both.
pub(super) fn check(settings: &Settings, reader: &mut Reader<'_>) {
    ports(settings, reader);
    tombstones(settings, reader);
    payload_memory(settings, reader);
    message_sizes(settings, reader);
    consequences(settings, reader);
}

fn ports(settings: &Settings, reader: &mut Reader<'_>) {
    let (Some(grpc), Some(http)) = (settings.grpc_listen, settings.http_listen) else { return };
    if overlap(grpc, http) {
        let reason = format!("both listen at port {}: give http_port another number, or 0 to open none", grpc.port());
        reader.findings.clash(&["grpc_port", "http_port"], reason);
    }
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && (everywhere || one.ip() == other.ip())
}

fn tombstones(settings: &Settings, reader: &mut Reader<'_>) {
    let (kept, delivery) = (settings.store.tombstones_keep, settings.kafka.outbox.delivery_timeout);
    if kept < delivery {
        let reason = format!(
            "a removed retry is remembered for {}, but a copy of it may arrive for {} and would run again: keep it at least \
             as long",
            show_duration(kept),
            show_duration(delivery)
        );
        reader.findings.clash(&["store.tombstones_keep", "kafka_delivery_timeout"], reason);
    }
}

fn payload_memory(settings: &Settings, reader: &mut Reader<'_>) {
    let memory = u64::try_from(settings.store.payload_memory_bytes.get()).unwrap_or(u64::MAX);
    if memory < u64::from(settings.kafka.outbox.max_message_bytes.get()) {
        let reason =
            "the memory for payloads does not hold one message of the largest size: raise it, or lower the size";
        reader.findings.clash(&["store.payload_memory_bytes", "max_message_size"], reason);
    }
}

/// What a push request takes besides the activation in it.
const PUSH_OVERHEAD_BYTES: usize = 16;

/// What Kafka may bring must fit through the call to a worker: it could never be delivered.
fn message_sizes(settings: &Settings, reader: &mut Reader<'_>) {
    let largest = usize::try_from(settings.kafka.outbox.max_message_bytes.get()).unwrap_or(usize::MAX);
    let pushed = settings.delivery.push.max_message_bytes.get();
    if settings.delivery.mode == DeliveryMode::Push && pushed < largest.saturating_add(PUSH_OVERHEAD_BYTES) {
        let reason = format!(
            "a task of the largest size could never be pushed to a worker: raise grpc_max_message_size to {} at least",
            largest.saturating_add(PUSH_OVERHEAD_BYTES)
        );
        reader.findings.clash(&["grpc_max_message_size", "max_message_size"], reason);
    }
}

fn consequences(settings: &Settings, reader: &mut Reader<'_>) {
    let open =
        settings.grpc.shared_secrets.is_empty() && settings.grpc.tls.as_ref().is_none_or(|tls| tls.client_ca.is_none());
    if open && settings.grpc_listen.is_some_and(|address| !address.ip().is_loopback()) {
        let message = "listens beyond this machine, and callers need no grpc_shared_secret: whoever reaches it can take \
                       and settle tasks; give one, protect the port, or set 127.0.0.1";
        warn(reader, "grpc_addr", message);
    }
    if settings.store.adapter == StoreAdapter::Memory {
        warn(reader, "store.adapter", "what is in flight is lost when the process ends; for trials only");
    }
    let session_timeout = Key::new("kafka_session_timeout_ms");
    let mut strategies = settings.kafka.sources.iter().map(|source| source.assignment_strategy);
    if strategies.any(|strategy| strategy == AssignmentStrategy::Consumer)
        && reader.origin(&session_timeout) != super::Origin::Default
    {
        let message =
            "has no effect with the consumer protocol: the Kafka brokers' group.consumer.session.timeout.ms holds";
        warn(reader, "kafka_session_timeout_ms", message);
    }
}

fn warn(reader: &mut Reader<'_>, key: &str, message: &str) {
    let key = Key::new(key);
    let origin = reader.origin(&key);
    reader.findings.warn(WarningKind::Consequence, &key, &origin, message);
}
