//! The images: Kafka and the broker as containers, started, driven, killed and started again. Both images are made for these
//! tests by `scripts/images`, the broker's of the very binary that the other tests run.
//!
//! Where no Docker daemon answers, these tests are skipped with the reason; with `TASKBROKER_TEST_REQUIRE_DOCKER=1` they fail.
//! The daemon must publish ports on this machine's loopback.

#![allow(clippy::disallowed_methods, reason = "these tests run in real time, with names of their own")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests fail by panicking, and say why they are skipped"
)]

mod broker;
mod certificates;
mod compose;
mod docker;
mod kafka;
mod quota;
mod shape;
mod survival;
mod trouble;
