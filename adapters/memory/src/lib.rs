//! Adapters that live in memory: for deterministic tests of everything above the ports, and for trying the broker out.
//!
//! - [`MemoryStore`]: an activation store that outlives the ledger that uses it, and fails when told to.
//! - [`MemoryLog`] and [`MemorySource`]: a log with partitions, and members of a group that read it.
//! - [`MemoryOutbox`]: keeps what was published, and fails when told to.
//! - [`ManualClock`]: time that passes when told to.

mod clock;
mod faults;
mod lock;
mod log;
mod outbox;
mod source;
mod store;

pub use clock::ManualClock;
pub use faults::{Answer, Fault, Faults, Held};
pub use log::MemoryLog;
pub use outbox::{MemoryOutbox, Outcome};
pub use source::{CommitMode, MemorySource, Revocation};
pub use store::MemoryStore;
