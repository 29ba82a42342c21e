//! What integration tests share: a real Kafka, and a broker as a process.
#![allow(clippy::disallowed_methods, reason = "these tests run in real time, with names of their own")]

pub mod broker;
pub mod kafka;
