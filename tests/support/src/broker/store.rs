//! A broker's store, as operators' scripts see it.

use anyhow::Result;
use sqlx::{ConnectOptions, Row, sqlite::SqliteConnectOptions};

use super::BrokerProcess;

/// A row of the view that operators read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTask {
    /// The activation's id.
    pub id: String,
    /// Its status word.
    pub status: String,
    /// How often a worker lost it.
    pub attempts: i64,
    /// The partition it was read from; -1: none.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// When its lease ends, in seconds since the epoch.
    pub deadline: Option<i64>,
    /// When its delay ends, in seconds since the epoch.
    pub delay_until: Option<i64>,
}

impl BrokerProcess {
    /// What its store holds, in the order of ids. Reads the file from outside; the broker may run or not.
    pub async fn stored(&self) -> Result<Vec<StoredTask>> {
        let options = SqliteConnectOptions::new().filename(self.store_path()).read_only(true);
        let mut connection = options.connect().await?;
        let rows = sqlx::query(
            "SELECT id, status, processing_attempts, processing_deadline, delay_until, partition, \"offset\"
             FROM inflight_taskactivations ORDER BY id",
        )
        .fetch_all(&mut connection)
        .await?;
        let task = |row: &sqlx::sqlite::SqliteRow| {
            Ok(StoredTask {
                id: row.try_get(0)?,
                status: row.try_get(1)?,
                attempts: row.try_get(2)?,
                deadline: row.try_get(3)?,
                delay_until: row.try_get(4)?,
                partition: row.try_get(5)?,
                offset: row.try_get(6)?,
            })
        };
        rows.iter().map(task).collect()
    }
}
