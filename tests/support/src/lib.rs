//! What integration tests share: a real Kafka, and a broker as a process.
#![expect(clippy::disallowed_methods, reason = "tests on real processes wait by the clock, under names of their own")]

pub mod broker;
pub mod kafka;
