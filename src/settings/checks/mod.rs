//! Settings that are each right but do not go together, or do something one may not have meant.

mod consequences;
mod delivery;

use std::net::SocketAddr;

use super::{
    key::Key,
    model::{Settings, StoreAdapter},
    reader::Reader,
    value::{Setting, show_duration},
};

/// Looks for both.
pub(super) fn check(settings: &Settings, reader: &mut Reader<'_>) {
    ports(settings, reader);
    tombstones(settings, reader);
    message_sizes(settings, reader);
    session_timeouts(settings, reader);
    store_file(settings, reader);
    delivery::check(settings, reader);
    consequences::warn_of(settings, reader);
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

/// One message of the largest size must fit wherever it goes.
fn message_sizes(settings: &Settings, reader: &mut Reader<'_>) {
    let largest = u64::from(settings.kafka.outbox.max_message_bytes.get());
    if wide(settings.store.payload_memory_bytes.get()) < largest {
        let reason =
            "the memory for payloads does not hold one message of the largest size: raise it, or lower the size";
        reader.findings.clash(&["store.payload_memory_bytes", "max_message_size"], reason);
    }
    if settings.store.max_bytes.is_some_and(|bytes| bytes.get() < largest) {
        let reason = "the store may not grow to hold one message of the largest size, and such a message would stop its \
                      partition: raise it, or lower the size";
        reader.findings.clash(&["store.max_size", "max_message_size"], reason);
    }
}

/// librdkafka refuses a session that outlasts the longest time between two polls.
fn session_timeouts(settings: &Settings, reader: &mut Reader<'_>) {
    const POLL_MOST_MS: u64 = 300_000;
    let kafka = &settings.kafka;
    let longest = kafka.sources.iter().chain(&kafka.disabled).map(|source| source.session_timeout).max();
    if let Some(longest) = longest.filter(|longest| longest.as_millis() > POLL_MOST_MS.into()) {
        let reason = format!(
            "a session of {} would outlast the {} after which a member that does not poll leaves the group: set at most \
             {}",
            show_duration(longest),
            show_duration(std::time::Duration::from_millis(POLL_MOST_MS)),
            POLL_MOST_MS.write()
        );
        reader.findings.clash(&["kafka_session_timeout_ms"], reason);
    }
}

/// A name that SQLite takes for a database without a file would be lost with every connection.
fn store_file(settings: &Settings, reader: &mut Reader<'_>) {
    let path = settings.store.sqlite_path.to_string_lossy();
    let is_none = path == ":memory:" || path.starts_with("file:") || path.starts_with("sqlite:");
    if settings.store.adapter == StoreAdapter::Sqlite && is_none {
        let key = Key::new("store.sqlite.path");
        reader.refuse(&key, &key, "expected the path of a file; store.adapter: memory keeps everything in memory");
    }
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
