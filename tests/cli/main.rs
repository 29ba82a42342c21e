//! The program as a user sees it: the real binary, its output and its exit codes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod check_config;
mod clock;
mod connect;
mod dev;
mod effects;
mod encryption;
mod help;
mod operator;
mod program;
mod run;
mod secured;
mod stores;
