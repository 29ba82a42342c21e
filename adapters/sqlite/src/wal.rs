//! The write-ahead log is reused from its start, never cut, as long as nobody reads one old state for long. Somebody who
//! does makes it grow; this bounds how far.

use std::path::Path;

use sqlx::{Row, SqliteConnection, raw_sql};
use taskbroker_domain::ports::store::StoreError;

use crate::{
    error::during,
    options::SqliteOptions,
    paths::{beside, size},
};

/// The write-ahead log of a database.
pub(crate) fn wal_bytes(path: &Path) -> u64 {
    size(&beside(path, "-wal"))
}

/// Cuts the log when it is larger than it may be, or refuses to let it grow further while a reader needs it.
pub(crate) async fn bound(conn: &mut SqliteConnection, options: &SqliteOptions, path: &Path) -> Result<(), StoreError> {
    if wal_bytes(path) <= options.wal_max_bytes {
        return Ok(());
    }
    let busy_ms = options.busy_limit.as_millis();
    let sql = format!("PRAGMA busy_timeout = 0; PRAGMA wal_checkpoint(TRUNCATE); PRAGMA busy_timeout = {busy_ms}");
    let done = raw_sql(sqlx::AssertSqlSafe(sql)).fetch_all(conn).await;
    done.map_err(during("cutting the write-ahead log"))?;
    match wal_bytes(path) {
        bytes if bytes > options.wal_max_bytes => Err(StoreError::Full(format!(
            "the write-ahead log of {} has {bytes} bytes, more than the limit of {}, and cannot be reused while another \
             process reads an old state of it; end that process",
            path.display(),
            options.wal_max_bytes,
        ))),
        _ => Ok(()),
    }
}

/// Copies the log into the file and syncs both. Whether all of it could be copied: a reader may stand in the way.
pub(crate) async fn checkpoint(conn: &mut SqliteConnection) -> Result<bool, StoreError> {
    let row = raw_sql("PRAGMA wal_checkpoint(RESTART)").fetch_one(conn).await;
    let row = row.map_err(during("copying the write-ahead log into the file"))?;
    let busy: i64 = row.try_get(0).map_err(during("copying the write-ahead log into the file"))?;
    Ok(busy == 0)
}
