//! The pure core of taskbroker: no I/O, no clock, no randomness, no threads.
//!
//! # Glossary
//!
//! - **activation**: one task to be run: a task name, arguments, and conditions.
//! - **ledger**: every activation in flight at this broker, in memory; the one place where decisions are made.
//! - **entry**: an activation in the ledger. **row**: an entry in the store, the ledger's journal.
//! - **claim**: a worker gets a task. **lease**: how long it may keep it. **settle**: a report ends it.
//! - **window**: how long an entry read from Kafka may live without a row (`linger`).
//! - **watermark**: the offset below which a partition's log is a row or settled; **settled set**: what is settled above it.
//! - **early report**: a completion that came before its task was read again after a restart.
//! - **tombstone**: remembers a removed retry of ours, so that a second copy of it does not run.
//! - **commit**: a batch of changes that becomes durable at once. **group commit**: a position told to Kafka.
//! - **marked**: carries our header, so a retry or a forwarded copy. **parked**: refused for good by Kafka, kept.
//! - **withdrawn**: left to whoever reads the partition next, because it was lost before a row was written.

pub mod activation;
pub mod admission;
mod id;
pub mod ledger;
pub mod lifecycle;
pub mod policy;
pub mod ports;
pub mod positions;
pub mod rules;
pub mod time;
