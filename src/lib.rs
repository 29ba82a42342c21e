//! The taskbroker daemon: settings, engine and composition root.

pub mod engine;
pub mod settings;
