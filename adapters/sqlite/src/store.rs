//! The port.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{Row as _, SqlitePool, query, sqlite::SqliteRow};
use taskbroker_domain::{
    activation::Key,
    ports::store::{ActivationStore, Commit, Row, StoreError, StoredState, Usage},
};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::{
    commit::{plan, stored_key},
    disk::room,
    error::{during, nonsense},
    inspect::disk_bytes,
    lock::OwnerLock,
    nonsense::{DROP_REJECTS, KEYS, TYPES, odd_column},
    read::{PAGE_ROWS, PAYLOADS, PageError, ROWS, STATE, StateColumns, USED_BYTES, page, stored_state},
    routes::{ALL_ROUTES, Routes},
    writer::Writer,
};

/// The activation store in a SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    identity: Uuid,
    path: Option<PathBuf>,
    /// None in memory, where the writer's connection is the only one that sees anything.
    readers: Option<SqlitePool>,
    writer: Arc<Mutex<Writer>>,
    routes: Routes,
}

/// Payloads that are asked for by one query.
const PAYLOADS_MAX: usize = 1_000;

type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

impl SqliteStore {
    pub(crate) fn new(
        identity: Uuid,
        path: Option<PathBuf>,
        readers: Option<SqlitePool>,
        writer: Writer,
        routes: Routes,
    ) -> Self {
        Self { identity, path, readers, writer: Arc::new(Mutex::new(writer)), routes }
    }

    /// Closes it in good order and keeps its lock, so that nobody gets in while files are moved.
    pub(crate) async fn close_but_lock(&self) -> Option<OwnerLock> {
        let lock = self.writer.lock().await.take_lock();
        self.close().await;
        lock
    }

    /// Removes rows that made no sense, by their numbers.
    pub(crate) async fn drop_rejects(&self, numbers: &[i64]) -> Result<(), StoreError> {
        let list = serde_json::to_string(numbers).unwrap_or_default();
        let mut writer = self.writer.lock().await;
        writer.prepare().await?;
        let dropped = query(DROP_REJECTS).bind(list).execute(writer.conn()?).await;
        dropped.map(drop).map_err(during("removing rows that make no sense"))
    }

    async fn one(&self, query: Query<'_>, what: &str) -> Result<SqliteRow, StoreError> {
        match &self.readers {
            Some(readers) => query.fetch_one(readers).await,
            None => query.fetch_one(self.writer.lock().await.conn()?).await,
        }
        .map_err(during(what))
    }

    pub(crate) async fn all(&self, query: Query<'_>, what: &str) -> Result<Vec<SqliteRow>, StoreError> {
        match &self.readers {
            Some(readers) => query.fetch_all(readers).await,
            None => query.fetch_all(self.writer.lock().await.conn()?).await,
        }
        .map_err(during(what))
    }

    /// One page. A route that is not known yet is looked up, and the page read again: its row may be gone by then. What
    /// then makes no sense is moved aside.
    async fn page(&self, after: i64, limit: usize) -> Result<Page, StoreError> {
        if let Ok(page) = self.read_page(after, limit).await? {
            return Ok(page);
        }
        let routes = self.all(query(ALL_ROUTES), "reading routes").await?;
        self.routes.add_missing(&routes)?;
        match self.read_page(after, limit).await? {
            Ok(page) => Ok(page),
            Err(_) => self.sift(after, limit).await,
        }
    }

    /// The inner error says that something in it makes no sense.
    async fn read_page(&self, after: i64, limit: usize) -> Result<Result<Page, PageError>, StoreError> {
        let count = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = match self.json(query(ROWS).bind(after).bind(count)).await {
            Ok(json) => page(&json, |id| self.routes.get(id)),
            Err(error) => Err(PageError::Nonsense(nonsense(error)?)),
        };
        Ok(rows.map(|rows| Page {
            last: rows.last().filter(|_| rows.len() >= limit).and_then(|row| stored_key(row.key)),
            rows,
        }))
    }

    /// Reads a page row by row, and moves aside those that make no sense.
    async fn sift(&self, after: i64, limit: usize) -> Result<Page, StoreError> {
        let count = i64::try_from(limit).unwrap_or(i64::MAX);
        let keys = self.all(query(KEYS).bind(after).bind(count), "reading keys").await?;
        let keys: Result<Vec<i64>, _> = keys.iter().map(|row| row.try_get(0)).collect();
        let keys = keys.map_err(during("reading keys"))?;
        let mut sifted = Page { rows: Vec::new(), last: keys.last().copied().filter(|_| keys.len() >= limit) };
        for key in keys {
            match self.read_page(key - 1, 1).await? {
                Ok(page) => sifted.rows.extend(page.rows),
                Err(error) => self.reject(key, error).await?,
            }
        }
        Ok(sifted)
    }

    async fn reject(&self, key: i64, error: PageError) -> Result<(), StoreError> {
        let reason = match error {
            PageError::UnknownRoute(route) => format!("route is {route}, which is missing"),
            PageError::Nonsense(reason) => {
                let odd = self.one(query(TYPES).bind(key), "reading a row's types").await?;
                odd_column(&odd).unwrap_or(reason)
            }
        };
        tracing::error!(
            key,
            reason,
            "a row of the store makes no sense; it is moved aside to the table \"reject\", and the others go on. See \
             `taskbroker parked FILE list`"
        );
        let mut writer = self.writer.clone().lock_owned().await;
        let moving = tokio::spawn(async move { writer.reject(key, &reason).await });
        moving.await.unwrap_or_else(|error| Err(StoreError::Failed(format!("moving a row aside: {error}"))))
    }

    async fn json(&self, query: Query<'_>) -> Result<String, sqlx::Error> {
        let row = match &self.readers {
            Some(readers) => query.fetch_one(readers).await,
            None => match self.writer.lock().await.conn() {
                Ok(conn) => query.fetch_one(conn).await,
                Err(_) => Err(sqlx::Error::PoolClosed),
            },
        }?;
        row.try_get(0)
    }
}

/// Rows of one moment, and after which key there may be more.
struct Page {
    rows: Vec<Row>,
    last: Option<i64>,
}

#[async_trait]
impl ActivationStore for SqliteStore {
    fn identity(&self) -> Uuid {
        self.identity
    }

    async fn state(&self) -> Result<StoredState, StoreError> {
        let row = self.one(query(STATE), "reading the state").await?;
        let columns = || {
            Ok(StateColumns {
                closed: row.try_get(0)?,
                last_key: row.try_get(1)?,
                positions: row.try_get(2)?,
                early_reports: row.try_get(3)?,
                tombstones: row.try_get(4)?,
            })
        };
        stored_state(&columns().map_err(during("reading the state"))?)
    }

    async fn rows(&self, after: Option<Key>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let mut rows: Vec<Row> = Vec::new();
        let Some(mut after) = after.map_or(Some(-1), stored_key) else { return Ok(rows) };
        while rows.len() < limit {
            let wanted = (limit - rows.len()).min(PAGE_ROWS);
            let page = self.page(after, wanted).await?;
            rows.extend(page.rows);
            let Some(last) = page.last else { break };
            after = last;
        }
        Ok(rows)
    }

    async fn payloads(&self, keys: &[Key]) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let mut payloads = Vec::with_capacity(keys.len());
        for keys in keys.chunks(PAYLOADS_MAX) {
            let rows = self.all(query(PAYLOADS).bind(json_list(keys)), "reading payloads").await?;
            let found = rows.into_iter().map(|row| payload(&row)).collect::<Result<Vec<_>, _>>();
            payloads.extend(found.map_err(during("reading payloads"))?);
        }
        Ok(payloads)
    }

    async fn commit(&self, commit: &Commit) -> Result<(), StoreError> {
        let mut writer = self.writer.clone().lock_owned().await;
        writer.prepare().await?;
        let plan = plan(commit, &self.routes, writer.closed())?;
        // A task of its own: a caller that gives up waiting must not leave a transaction half-way.
        let committing = tokio::spawn(async move { writer.commit(plan).await });
        committing.await.unwrap_or_else(|error| Err(StoreError::Failed(format!("committing: {error}"))))
    }

    async fn usage(&self) -> Result<Usage, StoreError> {
        let row = self.one(query(USED_BYTES), "reading the store's size").await?;
        let used: i64 = row.try_get(0).map_err(during("reading the store's size"))?;
        let disk_bytes = self.path.as_deref().map_or(0, disk_bytes);
        let room_bytes = self.path.as_deref().and_then(room);
        Ok(Usage { used_bytes: used.unsigned_abs(), disk_bytes, room_bytes })
    }

    async fn close(&self) {
        if let Some(readers) = &self.readers {
            readers.close().await;
        }
        self.writer.lock().await.close().await;
    }
}

fn json_list(keys: &[Key]) -> String {
    let keys: Vec<_> = keys.iter().copied().filter_map(stored_key).map(|key| key.to_string()).collect();
    format!("[{}]", keys.join(","))
}

fn payload(row: &SqliteRow) -> Result<(Key, Bytes), sqlx::Error> {
    let key: i64 = row.try_get(0)?;
    let bytes: Vec<u8> = row.try_get(1)?;
    Ok((Key(key.cast_unsigned()), bytes.into()))
}
