//! The tables, and the view that operators know.

use sqlx::{SqliteConnection, raw_sql};
use taskbroker_domain::ports::store::StoreError;

use crate::error::during;

/// The version of the tables. A file with a larger one is refused by name.
pub const SCHEMA_VERSION: i64 = 2;

/// The state of a row as a number in `activation.state`.
pub(crate) mod state {
    pub(crate) const PENDING: i64 = 0;
    pub(crate) const PROCESSING: i64 = 1;
    pub(crate) const RETRY: i64 = 2;
    pub(crate) const FAILED: i64 = 3;
    pub(crate) const FORWARD: i64 = 4;
}

/// The status word of a row. What waits to be forwarded is called as in the existing system, which claims it for that. It runs in whatever SQLite the reader has: 3.37 knows all of it, but has the time in milliseconds
/// only as a Julian day.
pub(crate) const STATUS_WORD: &str = "CASE a.state
    WHEN 0 THEN CASE
        WHEN a.state_at_ms > round((julianday('now') - 2440587.5) * 86400000) THEN 'Delay'
        ELSE 'Pending'
    END
    WHEN 1 THEN 'Processing'
    WHEN 2 THEN 'Retry'
    WHEN 3 THEN 'Failure'
    WHEN 4 THEN 'Claimed'
END";

/// Times are milliseconds since the epoch. `state_at_ms` is when a pending row is ready, or a lease ends. `retry_delay_s`
/// is an unsigned number in two's complement. Booleans are 0 or 1. `parked` is why Kafka refuses the row's message for good;
/// `begun` tells that it may have been sent. The verdict of an early report is its number in the wire protocol. `reject` has rows that make no sense, with what is left of them.
const TABLES: &str = "
CREATE TABLE taskbroker_meta (name TEXT PRIMARY KEY NOT NULL, value NOT NULL) WITHOUT ROWID;
CREATE TABLE route (
    id INTEGER PRIMARY KEY, application TEXT NOT NULL, namespace TEXT NOT NULL, task_name TEXT NOT NULL
);
CREATE TABLE activation (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    route INTEGER NOT NULL,
    slot INTEGER,
    \"offset\" INTEGER,
    received_at_ms INTEGER NOT NULL,
    added_at_ms INTEGER NOT NULL,
    run_limit_ms INTEGER NOT NULL,
    expires_at_ms INTEGER,
    delayed_until_ms INTEGER,
    at_most_once INTEGER NOT NULL,
    dead_letter INTEGER NOT NULL,
    marked INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    payload_bytes INTEGER NOT NULL,
    lost_leases INTEGER NOT NULL,
    state INTEGER NOT NULL,
    state_at_ms INTEGER,
    retry_max_attempts INTEGER,
    retry_delay_s INTEGER,
    cause TEXT,
    cause_reason TEXT,
    parked TEXT,
    begun INTEGER
);
CREATE TABLE payload (key INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
CREATE TABLE position (
    slot INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    topic_id BLOB NOT NULL,
    consumer_group TEXT NOT NULL,
    partition INTEGER NOT NULL,
    watermark INTEGER NOT NULL,
    leader_epoch INTEGER,
    settled BLOB NOT NULL,
    acknowledged INTEGER NOT NULL,
    read_limit INTEGER NOT NULL
);
CREATE TABLE early_report (
    id TEXT PRIMARY KEY NOT NULL,
    verdict INTEGER NOT NULL,
    max_attempts INTEGER,
    delay_s INTEGER,
    of_copy INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE tombstone (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, slot INTEGER NOT NULL);
CREATE TABLE reject (
    number INTEGER PRIMARY KEY, key INTEGER NOT NULL, id TEXT NOT NULL, reason TEXT NOT NULL, bytes BLOB
);
";

/// The columns of the existing system's table, in its order; times are seconds since the epoch. Partition and offset are
/// -1 for what did not come from Kafka.
fn view() -> String {
    format!(
        "CREATE VIEW inflight_taskactivations AS
SELECT a.id AS id,
    p.bytes AS activation,
    coalesce(s.partition, -1) AS partition,
    coalesce(a.\"offset\", -1) AS \"offset\",
    a.added_at_ms / 1000 AS added_at,
    a.lost_leases AS processing_attempts,
    a.expires_at_ms / 1000 AS expires_at,
    a.run_limit_ms / 1000 AS processing_deadline_duration,
    CASE WHEN a.state = 1 THEN a.state_at_ms / 1000 END AS processing_deadline,
    {STATUS_WORD} AS status,
    a.at_most_once AS at_most_once,
    r.namespace AS namespace,
    a.delayed_until_ms / 1000 AS delay_until,
    CASE WHEN a.dead_letter THEN 2 ELSE 1 END AS on_attempts_exceeded,
    a.received_at_ms / 1000 AS received_at,
    r.task_name AS taskname,
    r.application AS application,
    a.bucket AS bucket,
    NULL AS claim_expires_at
FROM activation AS a
LEFT JOIN payload AS p ON p.key = a.key
LEFT JOIN route AS r ON r.id = a.route
LEFT JOIN position AS s ON s.slot = a.slot;
"
    )
}

/// Makes everything in an empty database, in one transaction.
pub(crate) async fn create(conn: &mut SqliteConnection) -> Result<(), StoreError> {
    let view = view();
    let sql = format!(
        "BEGIN IMMEDIATE; {TABLES} {view}
INSERT INTO taskbroker_meta VALUES
    ('schema_version', {SCHEMA_VERSION}), ('identity', lower(hex(randomblob(16)))), ('closed', 1);
COMMIT;"
    );
    let made = raw_sql(sqlx::AssertSqlSafe(sql)).execute(conn).await;
    made.map(drop).map_err(during("making the tables"))
}
