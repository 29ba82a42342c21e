//! Routes are stored once and known by number.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use sqlx::{Row, sqlite::SqliteRow};
use taskbroker_domain::{activation::Route, ports::store::StoreError};

use crate::error::during;

/// All routes, in one query.
pub(crate) const ALL_ROUTES: &str = "SELECT id, application, namespace, task_name FROM route";

/// Removes the routes that no row has.
pub(crate) const PRUNE_ROUTES: &str = "DELETE FROM route WHERE id NOT IN (SELECT route FROM activation)";

/// Beyond so many, those that no row has are looked for and removed: a task name is a producer's free text.
pub(crate) const ROUTES_MAX: usize = 50_000;

/// The routes that are durable, as the last look at the table showed. Shared by the writer and those who read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes(Arc<RwLock<Table>>);

#[derive(Debug, Default)]
struct Table {
    by_id: HashMap<i64, Arc<Route>>,
    by_route: HashMap<Arc<Route>, i64>,
    /// The largest number ever given out in this process's life.
    last: i64,
}

impl Routes {
    /// Takes on what the writer found in the table, and nothing else. Numbers already given out are not given again.
    pub(crate) fn replace(&self, rows: &[SqliteRow]) -> Result<(), StoreError> {
        let found = routes(rows)?;
        let mut table = self.write();
        table.by_id.clear();
        table.by_route.clear();
        found.into_iter().for_each(|(id, route)| table.add(id, route));
        Ok(())
    }

    /// Takes on what a reader found. It may have been removed meanwhile: the writer is not to count on it.
    pub(crate) fn add_missing(&self, rows: &[SqliteRow]) -> Result<(), StoreError> {
        let found = routes(rows)?;
        self.write().by_id.extend(found);
        Ok(())
    }

    /// New routes are durable.
    pub(crate) fn add(&self, new: impl IntoIterator<Item = (Arc<Route>, i64)>) {
        let mut table = self.write();
        new.into_iter().for_each(|(route, id)| table.add(id, route));
    }

    pub(crate) fn get(&self, id: i64) -> Option<Arc<Route>> {
        self.read().by_id.get(&id).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.read().by_id.len()
    }

    /// Begins to number the routes of one commit.
    pub(crate) fn numbering(&self) -> Numbering<'_> {
        let table = self.read();
        let last = table.last;
        Numbering { table, new: HashMap::new(), last }
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn add(&mut self, id: i64, route: Arc<Route>) {
        self.last = self.last.max(id);
        self.by_route.insert(route.clone(), id);
        self.by_id.insert(id, route);
    }
}

/// The numbers of the routes in one commit: known ones, and new ones that the commit must store.
pub(crate) struct Numbering<'a> {
    table: RwLockReadGuard<'a, Table>,
    new: HashMap<Arc<Route>, i64>,
    last: i64,
}

impl Numbering<'_> {
    pub(crate) fn number(&mut self, route: &Arc<Route>) -> i64 {
        if let Some(id) = self.table.by_route.get(route).or_else(|| self.new.get(route)) {
            return *id;
        }
        self.last += 1;
        self.new.insert(route.clone(), self.last);
        self.last
    }

    pub(crate) fn into_new(self) -> HashMap<Arc<Route>, i64> {
        self.new
    }
}

fn routes(rows: &[SqliteRow]) -> Result<Vec<(i64, Arc<Route>)>, StoreError> {
    rows.iter().map(route).collect::<Result<_, _>>().map_err(during("reading routes"))
}

fn route(row: &SqliteRow) -> Result<(i64, Arc<Route>), sqlx::Error> {
    let route = Route::new(row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    Ok((row.try_get(0)?, Arc::new(route)))
}
