//! A look at a store that is in use, or was left behind. Nothing is changed, and nobody is kept from working.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use sqlx::{Row, SqliteConnection, query, raw_sql, sqlite::SqliteRow};
use taskbroker_domain::{
    activation::{ActivationId, Key},
    ports::store::{Position, StoreError, Usage},
    time::Timestamp,
};
use uuid::Uuid;

use crate::{
    connect::{close, open_immutable, open_reader, scalar},
    disk::room,
    error::during,
    examine::{ours, version},
    lock::owner,
    open::identity,
    options::SqliteOptions,
    paths::{beside, canonical, size},
    read::positions,
    schema::STATUS_WORD,
    wal::wal_bytes,
};

/// Parked rows that are listed, the oldest first; the others are counted.
pub const PARKED_MAX: usize = 100;

/// What is in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Its file, without links.
    pub path: PathBuf,
    /// Its identity.
    pub identity: Uuid,
    /// The version of its tables.
    pub schema_version: i64,
    /// Its last owner closed it in good order.
    pub closed: bool,
    /// Who owns it just now.
    pub owner: Option<String>,
    /// How much room it takes.
    pub usage: Usage,
    /// Rows by status, application and namespace, in this order.
    pub groups: Vec<Group>,
    /// How many rows Kafka refused for good.
    pub parked_total: u64,
    /// The first of them, at most [`PARKED_MAX`].
    pub parked: Vec<Parked>,
    /// Positions, by partition.
    pub positions: Vec<Position>,
    /// How many completions are remembered for tasks still to be read.
    pub early_reports: u64,
    /// How many removed ids are remembered.
    pub tombstones: u64,
}

/// Rows that have status, application and namespace in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// `Delay`, `Failure`, `Pending`, `Processing` or `Retry`.
    pub status: String,
    /// The application.
    pub application: String,
    /// The namespace.
    pub namespace: String,
    /// How many.
    pub count: u64,
    /// When the oldest of them was taken in.
    pub oldest_added_at: Timestamp,
}

/// A row that Kafka refused for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// Its key.
    pub key: Key,
    /// The activation's id.
    pub id: ActivationId,
    /// `Retry` or `Failure`: where it was to go.
    pub status: String,
    /// What Kafka said.
    pub reason: String,
    /// When it was taken in.
    pub added_at: Timestamp,
}

impl Inspection {
    /// How many rows have each status, and when the oldest of them was taken in.
    pub fn by_status(&self) -> BTreeMap<&str, (u64, Timestamp)> {
        let mut statuses = BTreeMap::new();
        for group in &self.groups {
            let (count, oldest) = statuses.entry(group.status.as_str()).or_insert((0, group.oldest_added_at));
            *count += group.count;
            *oldest = group.oldest_added_at.min(*oldest);
        }
        statuses
    }
}

/// Looks at the store in this file.
pub async fn inspect(path: &Path) -> Result<Inspection, StoreError> {
    let path = canonical(path)?;
    if size(&path) == 0 {
        return Err(StoreError::Failed(format!("there is no store at {}", path.display())));
    }
    let options = SqliteOptions::new(&path, Timestamp::default());
    let owner = owner(&path);
    match look(open_reader(&options, &path).await?, &path).await {
        Err(StoreError::Failed(reason)) if owner.is_none() => look_unlocked(&options, &path, reason).await,
        looked => Ok(Inspection { owner, ..looked? }),
    }
}

/// Reading a write-ahead log takes a file for its locks. Where none can be made, a store without such a log can be read.
async fn look_unlocked(options: &SqliteOptions, path: &Path, reason: String) -> Result<Inspection, StoreError> {
    if wal_bytes(path) > 0 {
        return Err(StoreError::Failed(format!(
            "{reason}; if that cannot be helped, copy the file and its -wal to where they can be written, and inspect \
             the copy"
        )));
    }
    look(open_immutable(options, path).await?, path).await
}

async fn look(mut conn: SqliteConnection, path: &Path) -> Result<Inspection, StoreError> {
    let looked = look_through(&mut conn, path).await;
    close(conn).await;
    looked
}

/// In one transaction: so it is all of one moment.
async fn look_through(conn: &mut SqliteConnection, path: &Path) -> Result<Inspection, StoreError> {
    raw_sql("BEGIN").execute(&mut *conn).await.map_err(during("reading the store"))?;
    let closed = ours(conn, path).await?;
    Ok(Inspection {
        path: path.to_owned(),
        identity: identity(conn).await?,
        schema_version: version(conn).await?,
        closed,
        owner: None,
        usage: usage(conn, path).await?,
        groups: groups(conn).await?,
        parked_total: count(conn, "SELECT count(*) FROM activation WHERE parked IS NOT NULL").await?,
        parked: parked(conn).await?,
        positions: all_positions(conn).await?,
        early_reports: count(conn, "SELECT count(*) FROM early_report").await?,
        tombstones: count(conn, "SELECT count(*) FROM tombstone").await?,
    })
}

async fn count(conn: &mut SqliteConnection, sql: &'static str) -> Result<u64, StoreError> {
    scalar::<i64>(conn, sql).await.map(i64::unsigned_abs)
}

async fn usage(conn: &mut SqliteConnection, path: &Path) -> Result<Usage, StoreError> {
    let used_bytes = count(conn, crate::read::USED_BYTES).await?;
    Ok(Usage { used_bytes, disk_bytes: disk_bytes(path), room_bytes: room(path) })
}

/// What the file and its companions take.
pub(crate) fn disk_bytes(path: &Path) -> u64 {
    size(path) + wal_bytes(path) + size(&beside(path, "-shm"))
}

async fn groups(conn: &mut SqliteConnection) -> Result<Vec<Group>, StoreError> {
    let sql = format!(
        "SELECT status, application, namespace, sum(number), min(oldest)
         FROM (SELECT {STATUS_WORD} AS status, route, count(*) AS number, min(added_at_ms) AS oldest
               FROM activation AS a GROUP BY status, route) AS g
         JOIN route AS r ON r.id = g.route GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    );
    let rows = raw_sql(sqlx::AssertSqlSafe(sql)).fetch_all(conn).await.map_err(during("counting rows"))?;
    rows.iter().map(group).collect::<Result<_, _>>().map_err(during("counting rows"))
}

fn group(row: &SqliteRow) -> Result<Group, sqlx::Error> {
    Ok(Group {
        status: row.try_get(0)?,
        application: row.try_get(1)?,
        namespace: row.try_get(2)?,
        count: row.try_get::<i64, _>(3)?.unsigned_abs(),
        oldest_added_at: Timestamp::from_millis(row.try_get(4)?),
    })
}

async fn parked(conn: &mut SqliteConnection) -> Result<Vec<Parked>, StoreError> {
    let sql = format!(
        "SELECT key, id, {STATUS_WORD}, parked, added_at_ms FROM activation AS a
         WHERE parked IS NOT NULL ORDER BY key LIMIT {PARKED_MAX}"
    );
    let rows = query(sqlx::AssertSqlSafe(sql)).fetch_all(conn).await.map_err(during("listing parked rows"))?;
    rows.iter().map(parked_row).collect::<Result<_, _>>().map_err(during("listing parked rows"))
}

fn parked_row(row: &SqliteRow) -> Result<Parked, sqlx::Error> {
    Ok(Parked {
        key: Key(row.try_get::<i64, _>(0)?.cast_unsigned()),
        id: ActivationId::new(row.try_get::<String, _>(1)?),
        status: row.try_get(2)?,
        reason: row.try_get(3)?,
        added_at: Timestamp::from_millis(row.try_get(4)?),
    })
}

async fn all_positions(conn: &mut SqliteConnection) -> Result<Vec<Position>, StoreError> {
    let json: String = scalar(conn, crate::read::POSITIONS).await?;
    let mut positions = positions(&json)?;
    positions.sort_by(|a, b| a.partition.cmp(&b.partition));
    Ok(positions)
}
