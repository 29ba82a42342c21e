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
    error::{corrupt, during},
    inspect::disk_bytes,
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

    async fn one(&self, query: Query<'_>, what: &str) -> Result<SqliteRow, StoreError> {
        match &self.readers {
            Some(readers) => query.fetch_one(readers).await,
            None => query.fetch_one(self.writer.lock().await.conn()?).await,
        }
        .map_err(during(what))
    }

    async fn all(&self, query: Query<'_>, what: &str) -> Result<Vec<SqliteRow>, StoreError> {
        match &self.readers {
            Some(readers) => query.fetch_all(readers).await,
            None => query.fetch_all(self.writer.lock().await.conn()?).await,
        }
        .map_err(during(what))
    }

    /// One page. A route that is not known yet is looked up, and the page read again: its row may be gone by then.
    async fn page(&self, after: i64, limit: usize) -> Result<Vec<Row>, StoreError> {
        match self.read_page(after, limit).await {
            Err(PageError::UnknownRoute(_)) => {}
            Err(PageError::Store(error)) => return Err(error),
            Ok(rows) => return Ok(rows),
        }
        let routes = self.all(query(ALL_ROUTES), "reading routes").await?;
        self.routes.add_missing(&routes)?;
        match self.read_page(after, limit).await {
            Err(PageError::UnknownRoute(route)) => Err(corrupt(format_args!("route {route} is missing"))),
            Err(PageError::Store(error)) => Err(error),
            Ok(rows) => Ok(rows),
        }
    }

    async fn read_page(&self, after: i64, limit: usize) -> Result<Vec<Row>, PageError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let row = self.one(query(ROWS).bind(after).bind(limit), "reading rows").await.map_err(PageError::Store)?;
        let json: &str = row.try_get(0).map_err(during("reading rows")).map_err(PageError::Store)?;
        page(json, |id| self.routes.get(id))
    }
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
            let complete = page.len() < wanted;
            rows.extend(page);
            match rows.last().and_then(|row| stored_key(row.key)) {
                Some(last) if !complete => after = last,
                _ => break,
            }
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
        let plan = plan(commit, &self.routes)?;
        // A task of its own: a caller that gives up waiting must not leave a transaction half-way.
        let committing = tokio::spawn(async move { writer.commit(plan).await });
        committing.await.unwrap_or_else(|error| Err(StoreError::Failed(format!("committing: {error}"))))
    }

    async fn usage(&self) -> Result<Usage, StoreError> {
        let row = self.one(query(USED_BYTES), "reading the store's size").await?;
        let used: i64 = row.try_get(0).map_err(during("reading the store's size"))?;
        let disk_bytes = self.path.as_deref().map_or(0, disk_bytes);
        Ok(Usage { used_bytes: used.unsigned_abs(), disk_bytes })
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
