//! What a file is, before anything is written to it.

use std::path::Path;

use sqlx::{Row, SqliteConnection, raw_sql};
use taskbroker_domain::ports::store::StoreError;

use crate::{
    connect::scalar,
    error::{corrupt, during},
    existing,
    schema::SCHEMA_VERSION,
};

/// What is in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing yet.
    Empty,
    /// A store that this program can use.
    Store {
        /// Its last owner closed it in good order.
        closed: bool,
    },
    /// The existing system's rows.
    Existing,
}

/// Says what is in the database, or why it cannot be used.
pub(crate) async fn examine(conn: &mut SqliteConnection, path: &Path) -> Result<Found, StoreError> {
    let objects = objects(conn).await?;
    let has = |kind: &str, name: &str| objects.iter().any(|(its_kind, its_name)| its_kind == kind && its_name == name);
    let refuse = |reason: String| Err(StoreError::Incompatible { path: path.display().to_string(), reason });
    if objects.is_empty() {
        return Ok(Found::Empty);
    }
    if has("table", existing::TABLE) && has("table", "_sqlx_migrations") {
        return match existing::migrations(conn).await? {
            existing::MIGRATIONS_KNOWN => Ok(Found::Existing),
            other => refuse(format!(
                "it was written by another version of the existing system: {other} of its migrations are applied, and \
                 this program knows {}; start a version of that system on it that has as many, or move the file away",
                existing::MIGRATIONS_KNOWN,
            )),
        };
    }
    if has("table", "_sqlx_migrations") || has("table", existing::TABLE) {
        return refuse(
            "it looks like one of the existing system, but not all of it is there; move the file away, or get out of \
             it what can be got with `taskbroker recover`"
                .into(),
        );
    }
    if !has("table", "taskbroker_meta") {
        return refuse("it is a SQLite database of something else; correct the path, or move the file away".into());
    }
    match version(conn).await? {
        newer if newer > SCHEMA_VERSION => refuse(format!(
            "its tables have version {newer}, and this program knows them up to version {SCHEMA_VERSION}: it was \
             written by a newer taskbroker; use that one or a later one"
        )),
        SCHEMA_VERSION => Ok(Found::Store { closed: closed(conn).await? }),
        unknown => refuse(format!("its tables have version {unknown}, which no taskbroker has written")),
    }
}

/// Whether the store in it was closed in good order; an error where it is none of ours.
pub(crate) async fn ours(conn: &mut SqliteConnection, path: &Path) -> Result<bool, StoreError> {
    match examine(conn, path).await? {
        Found::Store { closed } => Ok(closed),
        Found::Empty => Err(StoreError::Failed(format!("there is no store in {}", path.display()))),
        Found::Existing => Err(StoreError::Incompatible {
            path: path.display().to_string(),
            reason: "it is the existing system's; the broker takes it over when it is started on it".into(),
        }),
    }
}

async fn objects(conn: &mut SqliteConnection) -> Result<Vec<(String, String)>, StoreError> {
    let sql = "SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let rows = raw_sql(sql).fetch_all(conn).await.map_err(during("reading the schema"))?;
    let object = |row: sqlx::sqlite::SqliteRow| Ok((row.try_get(0)?, row.try_get(1)?));
    rows.into_iter().map(object).collect::<Result<_, sqlx::Error>>().map_err(during("reading the schema"))
}

pub(crate) async fn version(conn: &mut SqliteConnection) -> Result<i64, StoreError> {
    scalar(conn, "SELECT coalesce((SELECT value FROM taskbroker_meta WHERE name = 'schema_version'), 0)").await
}

async fn closed(conn: &mut SqliteConnection) -> Result<bool, StoreError> {
    scalar(conn, "SELECT coalesce((SELECT value FROM taskbroker_meta WHERE name = 'closed'), 0)").await
}

/// Reads the whole file and looks for damage.
pub(crate) async fn check(conn: &mut SqliteConnection) -> Result<(), StoreError> {
    let verdict: String = scalar(conn, "PRAGMA quick_check(1)").await?;
    if verdict == "ok" { Ok(()) } else { Err(corrupt(format_args!("quick_check: {verdict}"))) }
}
