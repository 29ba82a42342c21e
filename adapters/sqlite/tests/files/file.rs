//! A file of the existing system, made by hand from what is known of its tables.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use sqlx::{ConnectOptions, Connection, SqliteConnection, raw_sql, sqlite::SqliteConnectOptions};
use taskbroker_domain::{
    activation::{Activation, ActivationId, PartitionId, Route, Terms},
    ports::{
        codec::{ActivationCodec, Retry, Undecodable},
        source::Record,
        store::Row,
    },
    rules::Selector,
    time::Timestamp,
};
use taskbroker_sqlite::{Opened, SqliteOptions, SqliteStore, TakeOver, TakeOverLog};
use tempfile::TempDir;

/// The moment of all tests, in seconds.
pub(crate) const NOW: i64 = 1_780_000_000;

pub(crate) const TABLES: &str = include_str!("../../../../tests/support/existing-store.sql");

/// A row's values, of which most tests change a few.
#[derive(Clone, Debug)]
pub(crate) struct Theirs {
    pub(crate) id: String,
    pub(crate) activation: Vec<u8>,
    pub(crate) partition: i64,
    pub(crate) offset: i64,
    pub(crate) added_at: i64,
    pub(crate) attempts: i64,
    pub(crate) run_limit: i64,
    pub(crate) deadline: Option<i64>,
    pub(crate) status: &'static str,
    pub(crate) at_most_once: bool,
    pub(crate) namespace: &'static str,
    pub(crate) delay_until: Option<i64>,
    pub(crate) expires_at: Option<i64>,
    pub(crate) on_attempts_exceeded: i64,
    pub(crate) task_name: &'static str,
    pub(crate) claim_expires_at: Option<i64>,
}

pub(crate) fn theirs(id: &str, partition: i64, offset: i64, status: &'static str) -> Theirs {
    Theirs {
        id: id.to_owned(),
        activation: format!("attempt 2 of {id}").into_bytes(),
        partition,
        offset,
        added_at: NOW - 100,
        attempts: 1,
        run_limit: 10,
        deadline: None,
        status,
        at_most_once: false,
        namespace: "ingest",
        delay_until: None,
        expires_at: None,
        on_attempts_exceeded: 1,
        task_name: "ingest.save",
        claim_expires_at: None,
    }
}

pub(crate) async fn connect(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true).pragma("journal_mode", "WAL");
    options.connect().await.unwrap()
}

pub(crate) async fn insert(conn: &mut SqliteConnection, rows: &[Theirs]) {
    raw_sql("BEGIN").execute(&mut *conn).await.unwrap();
    for row in rows {
        let sql = "INSERT INTO inflight_taskactivations VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,'sentry',0,?)";
        sqlx::query(sql)
            .bind(row.id.clone())
            .bind(row.activation.clone())
            .bind(row.partition)
            .bind(row.offset)
            .bind(row.added_at)
            .bind(row.attempts)
            .bind(row.expires_at)
            .bind(row.run_limit)
            .bind(row.deadline)
            .bind(row.status)
            .bind(row.at_most_once)
            .bind(row.namespace)
            .bind(row.delay_until)
            .bind(row.on_attempts_exceeded)
            .bind(row.added_at - 1)
            .bind(row.task_name)
            .bind(row.claim_expires_at)
            .execute(&mut *conn)
            .await
            .unwrap();
    }
    raw_sql("COMMIT").execute(&mut *conn).await.unwrap();
}

/// A file with these rows, closed in order.
pub(crate) async fn file(rows: &[Theirs]) -> (TempDir, PathBuf) {
    let (directory, path) = place();
    let mut conn = connect(&path).await;
    raw_sql(TABLES).execute(&mut conn).await.unwrap();
    insert(&mut conn, rows).await;
    conn.close().await.unwrap();
    (directory, path)
}

pub(crate) fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap().join("store.sqlite");
    (directory, path)
}

/// The files as a killed process leaves them, under another name.
pub(crate) fn copy_live(path: &Path, to: &Path) {
    for part in ["", "-wal"] {
        // By another process: closing a second handle in this one would drop SQLite's locks.
        let (from, to) = (format!("{}{part}", path.display()), format!("{}{part}", to.display()));
        assert!(Command::new("cp").args([from, to]).status().unwrap().success());
    }
}

/// Activations are text: `attempt N of ID`, or `once of ID`.
#[derive(Debug)]
pub(crate) struct TextCodec;

impl ActivationCodec for TextCodec {
    fn decode(&self, record: &Record, _partition: &PartitionId, now: Timestamp) -> Result<Activation, Undecodable> {
        let text = std::str::from_utf8(&record.payload).map_err(|_| Undecodable::new("not text"))?;
        let words: Vec<&str> = text.splitn(4, ' ').collect();
        let (attempt, at_most_once, id) = match words[..] {
            ["attempt", attempt, "of", id] => (attempt, false, id),
            ["once", "of", id] => ("0", true, id),
            _ => return Err(Undecodable::new("not an attempt")),
        };
        let run_limit = Duration::from_secs(77);
        let terms = Terms { attempt: attempt.parse().unwrap(), run_limit, at_most_once, ..Terms::default() };
        Ok(Activation {
            id: ActivationId::new(id),
            route: Arc::new(Route::default()),
            terms,
            received_at: now,
            marked: false,
            payload: record.payload.clone(),
        })
    }

    fn selects(&self, _payload: &Bytes, _selector: &Selector) -> bool {
        false
    }

    fn retry(&self, payload: &Bytes, _retry: &Retry) -> Result<Bytes, Undecodable> {
        Ok(payload.clone())
    }
}

pub(crate) fn log() -> TakeOverLog {
    TakeOverLog { topic: "taskworker".into(), group: "taskworker".into(), except: Vec::new() }
}

pub(crate) fn options(path: &Path, log: Option<TakeOverLog>) -> SqliteOptions {
    let take_over = Some(TakeOver::new(Arc::new(TextCodec), log));
    SqliteOptions { take_over, ..SqliteOptions::new(path, Timestamp::from_millis(NOW * 1_000)) }
}

pub(crate) async fn open(path: &Path) -> Opened {
    SqliteStore::open(options(path, Some(log()))).await.unwrap()
}

/// The row of this id.
#[track_caller]
pub(crate) fn of<'a>(rows: &'a [Row], id: &str) -> &'a Row {
    rows.iter().find(|row| *row.id.text() == *id).unwrap_or_else(|| panic!("{id} is missing"))
}

pub(crate) fn seconds(at: i64) -> Timestamp {
    Timestamp::from_millis(at * 1_000)
}
