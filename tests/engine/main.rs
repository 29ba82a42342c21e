//! The whole engine on in-memory adapters, in simulated time: no sleeping, no Kafka, no disk.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods, reason = "tests")]

mod acknowledgements;
mod bugs;
mod dispatch;
mod feeds;
mod gateway;
mod health;
mod intake;
mod life_cycle;
mod outbox;
mod rules;
mod stopping;
mod world;
