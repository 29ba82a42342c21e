//! Files that are taken over from the existing system, written back, recovered, and decided about.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod downgrade;
mod file;
mod parked;
mod recover;
mod take_over;
