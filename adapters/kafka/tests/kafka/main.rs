//! The source and the outbox on librdkafka's mock cluster, and on a real Kafka.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests, against the clock where a limit is what is tested"
)]

mod embedded;
mod groups;
mod lanes;
mod logs;
mod outages;
mod outbox;
mod reader;
mod takeover;
