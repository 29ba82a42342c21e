//! The wire: protobuf messages and services, and their conversion to the domain.
//!
//! - [`pb`]: the protocol as clients, workers and producers know it; messages, clients and servers.
//! - [`raw`]: the broker's side of `ConsumerService`, which answers with stored bytes instead of decoded messages.
//! - [`codec::Codec`]: what the broker reads from an activation's bytes, and the retry it composes of them.

mod arguments;
mod canary;
pub mod codec;
mod msgpack;
pub mod raw;
mod routes;
mod scan;

/// The protocol: messages, enums, clients and servers of the package `sentry_protos.taskbroker.v1`.
pub mod pb {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
    #![allow(clippy::cast_possible_wrap, clippy::cast_sign_loss, clippy::cast_possible_truncation)]
    #![allow(clippy::unwrap_used, clippy::semicolon_if_nothing_returned, reason = "generated code")]

    include!(concat!(env!("OUT_DIR"), "/sentry_protos.taskbroker.v1.rs"));
}

pub use canary::{CANARY, canary};

/// protobuf's `Timestamp`, as the messages use it.
pub use prost_types::Timestamp;

/// The encoded `FileDescriptorSet` of the protocol and what it imports, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The Kafka header that marks a message as published by a broker: a retry or a forwarded copy. Its presence alone counts;
/// the value says what it is, for people.
pub const MARK_HEADER: &str = "taskbroker-origin";
