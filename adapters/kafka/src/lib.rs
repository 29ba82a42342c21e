//! The activation source and the outbox on Kafka.
