//! The taskbroker daemon: engine, settings and composition root.

pub mod engine;
