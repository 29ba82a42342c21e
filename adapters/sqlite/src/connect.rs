//! Connections.

use std::{path::Path, time::Duration};

use sqlx::{
    ConnectOptions, Connection, Row, SqliteConnection, SqlitePool, raw_sql,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};
use taskbroker_domain::ports::store::StoreError;

use crate::{
    error::{during, store_error},
    options::SqliteOptions,
};

/// The oldest SQLite that does not corrupt a write-ahead log when two connections restart it at once.
const VERSION_MIN: (u32, u32, u32) = (3, 51, 3);

/// How long a read waits for one of the reading connections before it is answered with `Busy`: each read is short.
const READ_WAIT: Duration = Duration::from_secs(10);

/// Pages that gather in the write-ahead log before it is copied back, about 16 MiB: what is inserted and deleted soon
/// after is then never copied.
const CHECKPOINT_PAGES: u32 = 4_000;

/// The one connection that writes, as it comes: [`configure_writer`] is yet to be called.
pub(crate) async fn open_writer(options: &SqliteOptions, path: &Path) -> Result<SqliteConnection, StoreError> {
    let connect = common(options, path).create_if_missing(true);
    connect.connect().await.map_err(during(format_args!("opening {}", path.display())))
}

/// A database that is gone when its connection is closed.
pub(crate) async fn open_in_memory(options: &SqliteOptions) -> Result<SqliteConnection, StoreError> {
    let connect = common(options, Path::new(":memory:"));
    connect.connect().await.map_err(during("opening a database in memory"))
}

/// A connection that cannot write.
pub(crate) async fn open_reader(options: &SqliteOptions, path: &Path) -> Result<SqliteConnection, StoreError> {
    let connect = common(options, path).read_only(true);
    connect.connect().await.map_err(during(format_args!("opening {} for reading", path.display())))
}

/// A connection to a file that nobody can change, on a file system where no lock can be taken.
pub(crate) async fn open_immutable(options: &SqliteOptions, path: &Path) -> Result<SqliteConnection, StoreError> {
    let connect = common(options, path).read_only(true).immutable(true);
    connect.connect().await.map_err(during(format_args!("opening {} for reading", path.display())))
}

/// The connections that read beside the writer; made when they are needed.
pub(crate) fn readers(options: &SqliteOptions, path: &Path) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(options.readers.max(1))
        .acquire_timeout(READ_WAIT)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(common(options, path).read_only(true))
}

fn common(options: &SqliteOptions, path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(options.busy_limit)
        .statement_cache_capacity(64)
        .row_buffer_size(256)
        .thread_name(|number| format!("sqlite-{number}"))
        .foreign_keys(false)
        .pragma("temp_store", "MEMORY")
        .disable_statement_logging()
}

/// Sets the writer up for durable commits, and sees to it that SQLite agreed.
pub(crate) async fn configure_writer(conn: &mut SqliteConnection, options: &SqliteOptions) -> Result<(), StoreError> {
    let mode: String = scalar(conn, "PRAGMA journal_mode = WAL").await?;
    if mode != "wal" {
        let reason = "this file system cannot share memory between processes, which the write-ahead log needs";
        return Err(StoreError::Failed(format!("SQLite stays in journal mode {mode:?}: {reason}")));
    }
    set(
        conn,
        &format!(
            "PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;
         PRAGMA cache_size = -{}; PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}; PRAGMA journal_size_limit = -1;",
            options.cache_bytes / 1_024,
        ),
    )
    .await?;
    limit_size(conn, options).await?;
    let synchronous: i64 = scalar(conn, "PRAGMA synchronous").await?;
    if synchronous != 2 {
        return Err(StoreError::Failed(format!("SQLite does not sync each commit: synchronous is {synchronous}")));
    }
    Ok(())
}

pub(crate) async fn limit_size(conn: &mut SqliteConnection, options: &SqliteOptions) -> Result<(), StoreError> {
    let Some(bytes) = options.file_max_bytes else { return Ok(()) };
    let page: i64 = scalar(conn, "PRAGMA page_size").await?;
    let pages = bytes / page.unsigned_abs().max(1);
    set(conn, &format!("PRAGMA max_page_count = {}", pages.max(1))).await
}

async fn set(conn: &mut SqliteConnection, pragmas: &str) -> Result<(), StoreError> {
    let done = raw_sql(sqlx::AssertSqlSafe(pragmas)).execute(conn).await;
    done.map(drop).map_err(during("setting the connection up"))
}

/// The only value of a query without arguments.
pub(crate) async fn scalar<T>(conn: &mut SqliteConnection, sql: &'static str) -> Result<T, StoreError>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    let row = raw_sql(sql).fetch_one(conn).await.map_err(|error| store_error(sql, &error))?;
    row.try_get(0).map_err(|error| store_error(sql, &error))
}

/// Refuses an SQLite that can damage the file.
pub(crate) async fn assert_version(conn: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let linked: String = scalar(conn, "SELECT sqlite_version()").await?;
    if is_sound(&linked) {
        return Ok(());
    }
    let (major, minor, patch) = VERSION_MIN;
    Err(StoreError::Incompatible {
        path: path.display().to_string(),
        reason: format!(
            "this program is linked with SQLite {linked}, which can damage a write-ahead log; build it with \
             {major}.{minor}.{patch} or newer"
        ),
    })
}

fn is_sound(version: &str) -> bool {
    let mut parts = version.split('.').map(str::parse::<u32>);
    let mut next = || parts.next().and_then(Result::ok).unwrap_or(0);
    (next(), next(), next()) >= VERSION_MIN
}

/// Closes a connection; an error leaves nothing to be done about it.
pub(crate) async fn close(conn: SqliteConnection) {
    if let Err(error) = conn.close().await {
        tracing::debug!(%error, "a connection to the store was not closed in good order");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_before_3_51_3_are_not_sound() {
        for (version, sound) in [
            ("3.51.3", true),
            ("3.51.10", true),
            ("3.52.0", true),
            ("4.0.0", true),
            ("3.51.2", false),
            ("3.40.1", false),
            ("2.9", false),
            ("", false),
            ("nonsense", false),
        ] {
            assert_eq!(is_sound(version), sound, "{version}");
        }
    }
}
