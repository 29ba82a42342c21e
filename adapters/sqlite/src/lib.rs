//! The activation store in a SQLite file.
//!
//! The ledger decides, this crate writes down: there is no rule in its SQL. Its shape follows the access pattern of a
//! journal: rows by integer key, payloads apart from them, no further index, one driver call per commit, one writer.
//!
//! - [`SqliteStore::open`] takes the file over for as long as the store lives; [`Opened`] says what it found.
//! - [`backup()`] copies a store that may be in use; [`inspect()`] sums one up.
//!
//! The file also shows a read-only view `inflight_taskactivations`, in the form that operators' scripts know.

mod backup;
mod commit;
mod connect;
mod damage;
mod disk;
mod error;
mod examine;
mod existing;
mod inspect;
mod lock;
mod nonsense;
mod open;
mod options;
mod parked;
mod paths;
mod read;
mod recover;
mod routes;
mod schema;
mod store;
mod wal;
mod writer;

pub use backup::{Backup, backup};
pub use disk::volume_bytes;
pub use existing::{Downgrade, Downgraded, TakeOver, TakeOverLog, TakenOver, TakenOverPartition, downgrade};
pub use inspect::{Group, Inspection, PARKED_MAX, Parked, inspect};
pub use open::{Opened, SetAside};
pub use options::{IntegrityCheck, SqliteOptions};
pub use parked::{Shelf, Shelved, ShelvedKind};
pub use recover::{Recover, Recovered, recover};
pub use schema::SCHEMA_VERSION;
pub use store::SqliteStore;
