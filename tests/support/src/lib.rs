//! What integration tests share: a real Kafka, and a broker as a process.

pub mod kafka;
