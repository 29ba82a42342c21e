//! The ports: what the core needs of the world, and what it offers to it. Each is a trait with its types, its error and
//! its contract in words; adapters live in crates of their own, and each is held to the contract suite of its port.
//!
//! To write a new adapter: implement the trait, run its suite from `tests/contract`, and name it in `src/compose.rs`.

pub mod clock;
pub mod codec;
pub mod outbox;
pub mod service;
pub mod source;
pub mod store;
pub mod worker;
