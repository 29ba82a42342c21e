//! The files of the existing system (getsentry/taskbroker): one table, one index, and sqlx's bookkeeping of six
//! migrations. Times are whole seconds since the epoch.

mod downgrade;
mod options;
mod row;
mod schema;
mod swap;
mod take_over;

use sqlx::SqliteConnection;
use taskbroker_domain::ports::store::StoreError;

pub use self::{
    downgrade::{Downgrade, Downgraded, downgrade},
    options::{TakeOver, TakeOverLog},
    take_over::{TakenOver, TakenOverPartition},
};
pub(crate) use self::{
    row::{Fate, Reader, Theirs, nowhere},
    swap::discard,
    take_over::take_over,
};
use crate::connect::scalar;

/// Its table.
pub(crate) const TABLE: &str = "inflight_taskactivations";

/// How many of its migrations this program knows.
pub(crate) const MIGRATIONS_KNOWN: i64 = 6;

/// The namespace and task of its canaries: they have partition 0 and running offsets, and come from no log.
const CANARY: (&str, &str) = ("internal", "canary_task");

/// Its status words.
mod status {
    pub(super) const PENDING: &str = "Pending";
    pub(super) const CLAIMED: &str = "Claimed";
    pub(super) const PROCESSING: &str = "Processing";
    pub(super) const FAILURE: &str = "Failure";
    pub(super) const RETRY: &str = "Retry";
    pub(super) const COMPLETE: &str = "Complete";
    pub(super) const DELAY: &str = "Delay";
}

/// `on_attempts_exceeded`.
const DISCARD: i64 = 1;
const DEAD_LETTER: i64 = 2;

/// How many migrations are applied.
pub(crate) async fn migrations(conn: &mut SqliteConnection) -> Result<i64, StoreError> {
    scalar(conn, "SELECT coalesce(max(version), 0) FROM _sqlx_migrations WHERE success").await
}
