//! The taskbroker daemon: settings, engine, composition root and commands.

pub mod cli;
pub mod compose;
pub mod dev;
pub mod engine;
pub mod reload;
pub mod settings;
