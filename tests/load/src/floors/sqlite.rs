//! SQLite alone: rows with the columns of the broker's store, in transactions of one size, each fsynced.

use std::{path::Path, time::Instant};

use anyhow::{Result, ensure};
use rusqlite::{Connection, params};

use crate::activation::id;

/// The tables that a new row touches; the columns are those of the broker's store.
const TABLES: &str = "
CREATE TABLE activation (
    key INTEGER PRIMARY KEY, id TEXT NOT NULL, route INTEGER NOT NULL, slot INTEGER, \"offset\" INTEGER,
    received_at_ms INTEGER NOT NULL, added_at_ms INTEGER NOT NULL, run_limit_ms INTEGER NOT NULL,
    expires_at_ms INTEGER, delayed_until_ms INTEGER, at_most_once INTEGER NOT NULL, dead_letter INTEGER NOT NULL,
    marked INTEGER NOT NULL, attempt INTEGER NOT NULL, bucket INTEGER NOT NULL, payload_bytes INTEGER NOT NULL,
    lost_leases INTEGER NOT NULL, state INTEGER NOT NULL, state_at_ms INTEGER, retry_max_attempts INTEGER,
    retry_delay_s INTEGER, cause TEXT, cause_reason TEXT, parked TEXT, begun INTEGER
);
CREATE TABLE payload (key INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
";

const ROW: &str = "INSERT INTO activation VALUES
    (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
const PAYLOAD: &str = "INSERT INTO payload VALUES (?, ?)";

/// Inserts so many rows into a new file in this directory, so many in each transaction. Returns rows per second.
pub(crate) fn insert(directory: &Path, rows: u32, batch: u32, payload: usize) -> Result<f64> {
    let path = directory.join("floor.sqlite");
    let mut connection = open(&path)?;
    let bytes = vec![b'x'; payload];
    let payload_bytes = i64::try_from(payload)?;
    let began = Instant::now();
    for first in (0..rows).step_by(batch.max(1) as usize) {
        let transaction = connection.transaction()?;
        {
            let mut row = transaction.prepare_cached(ROW)?;
            let mut payload = transaction.prepare_cached(PAYLOAD)?;
            for key in first..rows.min(first + batch) {
                row.execute(params![
                    key,
                    id(0, key.into()),
                    1,
                    key % 4,
                    key / 4,
                    1_700_000_000_000_i64,
                    1_700_000_000_100_i64,
                    60_000,
                    None::<i64>,
                    None::<i64>,
                    false,
                    false,
                    false,
                    0,
                    0,
                    payload_bytes,
                    0,
                    0,
                    1_700_000_000_000_i64,
                    None::<i64>,
                    None::<i64>,
                    None::<&str>,
                    None::<&str>,
                    None::<&str>,
                    None::<i64>
                ])?;
                payload.execute(params![key, bytes])?;
            }
        }
        transaction.commit()?;
    }
    let took = began.elapsed().as_secs_f64();
    let kept: u32 = connection.query_row("SELECT count(*) FROM activation", [], |row| row.get(0))?;
    ensure!(kept == rows, "{kept} of {rows} rows are there");
    drop(connection);
    std::fs::remove_file(path)?;
    Ok(f64::from(rows) / took)
}

/// As durable as the broker's store: a write-ahead log, synced with each commit.
fn open(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    ensure!(mode == "wal", "SQLite stays in journal mode {mode}");
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA cache_size = -32768;")?;
    connection.execute_batch(TABLES)?;
    Ok(connection)
}
