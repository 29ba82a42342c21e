//! The one connection that writes, and what it must know between commits.

use std::path::PathBuf;

use sqlx::{SqliteConnection, query, query_with, raw_sql};
use taskbroker_domain::ports::store::StoreError;

use crate::{
    commit::Plan,
    connect::{close, configure_writer, open_writer},
    error::{during, store_error},
    lock::OwnerLock,
    nonsense::REJECT,
    options::SqliteOptions,
    routes::{ALL_ROUTES, PRUNE_ROUTES, ROUTES_MAX, Routes},
    wal,
};

/// The writer. It holds the lock of the store, so that nobody else gets in while a commit runs.
#[derive(Debug)]
pub(crate) struct Writer {
    options: SqliteOptions,
    /// None in memory.
    path: Option<PathBuf>,
    conn: Option<SqliteConnection>,
    routes: Routes,
    /// What an unfinished commit may have left unknown.
    routes_stale: bool,
    /// Whether the store is marked as closed in good order, where that is known.
    closed: Option<bool>,
    prune_at: usize,
    /// Why nothing may be written any more.
    stopped: Option<String>,
    lock: Option<OwnerLock>,
}

impl Writer {
    pub(crate) fn new(
        options: SqliteOptions,
        path: Option<PathBuf>,
        conn: SqliteConnection,
        lock: Option<OwnerLock>,
        routes: Routes,
    ) -> Self {
        let prune_at = ROUTES_MAX;
        Self {
            options,
            path,
            conn: Some(conn),
            routes,
            routes_stale: true,
            closed: None,
            prune_at,
            stopped: None,
            lock,
        }
    }

    /// Gets ready for a commit: a connection that works, routes that are known, a log that may grow.
    pub(crate) async fn prepare(&mut self) -> Result<(), StoreError> {
        if let Some(reason) = &self.stopped {
            return Err(StoreError::Failed(reason.clone()));
        }
        self.reconnect().await?;
        if let (Some(conn), Some(path)) = (&mut self.conn, &self.path) {
            wal::bound(conn, &self.options, path).await?;
        }
        self.prune_routes().await?;
        if self.routes_stale { self.load_routes().await } else { Ok(()) }
    }

    /// How the store is marked, where that is known.
    pub(crate) fn closed(&self) -> Option<bool> {
        self.closed
    }

    /// Carries out a commit that was planned after [`Writer::prepare`].
    pub(crate) async fn commit(&mut self, plan: Plan) -> Result<(), StoreError> {
        for call in plan.calls {
            let query = query_with(sqlx::AssertSqlSafe(call.sql), call.arguments);
            let Err(error) = query.execute(self.conn()?).await else { continue };
            return Err(self.give_up(&error).await);
        }
        self.routes.add(plan.new_routes);
        self.closed = Some(plan.closed);
        Ok(())
    }

    /// Moves a row that makes no sense aside, with its payload.
    pub(crate) async fn reject(&mut self, key: i64, reason: &str) -> Result<(), StoreError> {
        self.prepare().await?;
        let moved = query(REJECT).bind(key).bind(reason).execute(self.conn()?).await;
        match moved {
            Ok(_) => Ok(()),
            Err(error) => Err(self.give_up(&error).await),
        }
    }

    /// The connection, for reads where there is no other.
    pub(crate) fn conn(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        self.conn.as_mut().ok_or_else(|| StoreError::Failed("the store is closed".into()))
    }

    /// Ends it in good order: the log is copied into the file and removed, the lock let go.
    pub(crate) async fn close(&mut self) {
        if let Some(conn) = self.conn.take() {
            close(conn).await;
        }
        self.stopped.get_or_insert_with(|| "the store is closed".into());
        self.lock = None;
    }

    /// The lock, for somebody who keeps it longer.
    pub(crate) fn take_lock(&mut self) -> Option<OwnerLock> {
        self.lock.take()
    }

    /// After a failure: no transaction stays open, and nothing is believed of what the commit was to leave.
    async fn give_up(&mut self, error: &sqlx::Error) -> StoreError {
        let error = store_error("committing", error);
        self.routes_stale = true;
        self.closed = None;
        if !error.may_pass() {
            self.stopped = Some(format!("nothing more is written after an earlier failure: {error}"));
        }
        if let Some(mut conn) = self.conn.take() {
            // SQLite has rolled back by itself after most errors; then this one fails, and that is all right.
            let rolled_back = raw_sql("ROLLBACK").execute(&mut conn).await;
            match (&self.path, rolled_back) {
                (Some(_), Err(_)) => close(conn).await,
                _ => self.conn = Some(conn),
            }
        }
        error
    }

    async fn reconnect(&mut self) -> Result<(), StoreError> {
        if let (None, Some(path)) = (&self.conn, &self.path) {
            let mut conn = open_writer(&self.options, path).await?;
            configure_writer(&mut conn, &self.options).await?;
            self.conn = Some(conn);
        }
        Ok(())
    }

    async fn prune_routes(&mut self) -> Result<(), StoreError> {
        if self.routes.len() < self.prune_at {
            return Ok(());
        }
        let pruned = raw_sql(PRUNE_ROUTES).execute(self.conn()?).await;
        pruned.map_err(during("removing routes that no row has"))?;
        self.load_routes().await?;
        self.prune_at = ROUTES_MAX.max(2 * self.routes.len());
        Ok(())
    }

    async fn load_routes(&mut self) -> Result<(), StoreError> {
        let rows = raw_sql(ALL_ROUTES).fetch_all(self.conn()?).await.map_err(during("reading routes"))?;
        self.routes.replace(&rows)?;
        self.routes_stale = false;
        Ok(())
    }
}
