//! Opening a store: whose it is, what it is, whether it is sound.

use std::path::{Path, PathBuf};

use sqlx::{SqliteConnection, SqlitePool, raw_sql};
use taskbroker_domain::{ports::store::StoreError, time::Timestamp};
use uuid::Uuid;

use crate::{
    connect::{
        assert_version, close, configure_writer, limit_size, open_in_memory, open_reader, open_writer, readers, scalar,
    },
    damage::set_aside,
    error::{corrupt, during},
    examine::{Found, check, examine},
    lock::OwnerLock,
    options::{IntegrityCheck, SqliteOptions},
    paths::{beside, canonical, size, sync_directory, sync_file},
    read::from_hex,
    routes::{PRUNE_ROUTES, Routes},
    schema::create,
    store::SqliteStore,
    wal::checkpoint,
    writer::Writer,
};

/// A store that was opened, and what there is to say about it.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: SqliteStore,
    /// There was none: it was made.
    pub created: bool,
    /// The whole file was read and found sound.
    pub checked: bool,
    /// What was there was damaged, and was moved out of the way. What it held is not in the store: an error to be told.
    pub set_aside: Option<SetAside>,
}

/// A damaged file that was moved out of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// What a look at the file showed, before anything was written.
struct Look {
    found: Found,
    checked: bool,
}

impl SqliteStore {
    /// Opens the store and takes it over, making it where there is none. A damaged file is set aside for a new one.
    pub async fn open(options: SqliteOptions) -> Result<Opened, StoreError> {
        let path = canonical(&options.path)?;
        let lock = OwnerLock::acquire(&path, options.now).await?;
        let mut aside = None;
        let (look, conn) = match take_over(&options, &path).await {
            Err(StoreError::Corrupt(reason)) => {
                aside = Some(SetAside { path: set_aside(&path, options.now)?, reason });
                take_over(&options, &path).await?
            }
            other => other?,
        };
        let pool = readers(&options, &path);
        let (created, checked) = (look.found == Found::Empty, look.checked);
        let store = assemble(options, Some(path), conn, Some(lock), Some(pool)).await?;
        Ok(Opened { store, created, checked, set_aside: aside })
    }

    /// A store in memory, gone when it is closed: for tests.
    pub async fn open_in_memory() -> Result<Self, StoreError> {
        let options = SqliteOptions::new(":memory:", Timestamp::default());
        let mut conn = open_in_memory(&options).await?;
        assert_version(&mut conn, Path::new(":memory:")).await?;
        limit_size(&mut conn, &options).await?;
        create(&mut conn).await?;
        assemble(options, None, conn, None, None).await
    }
}

async fn assemble(
    options: SqliteOptions,
    path: Option<PathBuf>,
    mut conn: SqliteConnection,
    lock: Option<OwnerLock>,
    readers: Option<SqlitePool>,
) -> Result<SqliteStore, StoreError> {
    let identity = identity(&mut conn).await?;
    let routes = Routes::default();
    let mut writer = Writer::new(options, path.clone(), conn, lock, routes.clone());
    writer.prepare().await?;
    Ok(SqliteStore::new(identity, path, readers, writer, routes))
}

/// Looks at the file, and opens it for writing when it can be used.
async fn take_over(options: &SqliteOptions, path: &Path) -> Result<(Look, SqliteConnection), StoreError> {
    let look = look(options, path).await?;
    let mut conn = open_writer(options, path).await?;
    match settle_in(options, path, &mut conn, look.found).await {
        Ok(()) => Ok((look, conn)),
        Err(error) => {
            close(conn).await;
            Err(error)
        }
    }
}

/// Looks through a connection that cannot write: a foreign or a damaged file is left exactly as it is.
async fn look(options: &SqliteOptions, path: &Path) -> Result<Look, StoreError> {
    if size(path) == 0 {
        return Ok(Look { found: Found::Empty, checked: false });
    }
    let mut conn = open_reader(options, path).await?;
    let look = look_through(options, path, &mut conn).await;
    close(conn).await;
    look
}

async fn look_through(options: &SqliteOptions, path: &Path, conn: &mut SqliteConnection) -> Result<Look, StoreError> {
    assert_version(conn, path).await?;
    let found = examine(conn, path).await?;
    let checked = match options.check {
        IntegrityCheck::Always => true,
        IntegrityCheck::AfterCrash => found == Found::Store { closed: false },
        IntegrityCheck::Never => false,
    };
    if checked {
        check(conn).await?;
    }
    Ok(Look { found, checked })
}

/// Makes durable what is there: a log that a killed process left may hold commits that no sync has reached yet, and what
/// is answered from them must not be lost with the power.
async fn settle_in(
    options: &SqliteOptions,
    path: &Path,
    conn: &mut SqliteConnection,
    found: Found,
) -> Result<(), StoreError> {
    assert_version(conn, path).await?;
    configure_writer(conn, options).await?;
    match found {
        Found::Empty => create(conn).await?,
        Found::Store { .. } => {
            let pruned = raw_sql(PRUNE_ROUTES).execute(&mut *conn).await;
            pruned.map_err(during("removing routes that no row has"))?;
        }
    }
    sync_file(&beside(path, "-wal"))?;
    if !checkpoint(conn).await? {
        tracing::info!(path = %path.display(), "a reader kept the write-ahead log from being copied at start");
    }
    sync_directory(path)
}

/// The store's identity.
pub(crate) async fn identity(conn: &mut SqliteConnection) -> Result<Uuid, StoreError> {
    let text: String =
        scalar(conn, "SELECT coalesce((SELECT value FROM taskbroker_meta WHERE name = 'identity'), '')").await?;
    let bytes = from_hex(&text).and_then(|bytes| bytes.try_into().ok());
    let bytes = bytes.ok_or_else(|| corrupt("the store's identity is unreadable"))?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
}
