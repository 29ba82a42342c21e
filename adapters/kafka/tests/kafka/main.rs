//! The source and the outbox on librdkafka's mock cluster, and on a real Kafka.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs, reason = "tests")]

mod embedded;
mod groups;
mod logs;
mod outages;
mod outbox;
mod reader;
mod takeover;
