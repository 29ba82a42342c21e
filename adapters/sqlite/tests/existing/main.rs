//! The existing system's files: taken over, and written back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod downgrade;
mod file;
mod take_over;
