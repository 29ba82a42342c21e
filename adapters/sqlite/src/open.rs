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
    existing::{self, TakenOver},
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
    /// It was the existing system's, and was taken over.
    pub taken_over: Option<TakenOver>,
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
        let mut taken_over = None;
        let (aside, (look, conn)) = match take_up(&options, &path, &mut taken_over).await {
            Err(StoreError::Corrupt(reason)) if !options.keep_damaged => {
                let aside = SetAside { path: set_aside(&path, options.now)?, reason };
                (Some(aside), take_up(&options, &path, &mut taken_over).await?)
            }
            Err(StoreError::Corrupt(reason)) => return Err(damaged(&path, &reason)),
            other => (None, other?),
        };
        let pool = readers(&options, &path);
        let (created, checked) = (look.found == Found::Empty, look.checked);
        let store = assemble(options, Some(path), conn, Some(lock), Some(pool)).await?;
        Ok(Opened { store, created, checked, set_aside: aside, taken_over })
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

/// Opens a store that has to be there, for a command: nothing is made, taken over or set aside.
pub(crate) async fn at_rest(path: &Path, now: Timestamp) -> Result<SqliteStore, StoreError> {
    let path = canonical(path)?;
    if size(&path) == 0 {
        return Err(StoreError::Failed(format!("there is no store at {}", path.display())));
    }
    let options = SqliteOptions { keep_damaged: true, ..SqliteOptions::new(path, now) };
    Ok(SqliteStore::open(options).await?.store)
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

/// Makes a store where there is none, for this process alone: nobody else knows its name.
pub(crate) async fn create_at(options: &SqliteOptions, path: &Path) -> Result<SqliteStore, StoreError> {
    let mut conn = open_writer(options, path).await?;
    settle_in(options, path, &mut conn, Found::Empty).await?;
    assemble(options.clone(), Some(path.to_owned()), conn, None, Some(readers(options, path))).await
}

fn damaged(path: &Path, reason: &str) -> StoreError {
    let path = path.display();
    StoreError::Corrupt(format!(
        "{path}: {reason}; `taskbroker recover {path} --to NEW` gets out of it what can be read"
    ))
}

/// Takes over what the existing system left, and opens the store.
async fn take_up(
    options: &SqliteOptions,
    path: &Path,
    taken_over: &mut Option<TakenOver>,
) -> Result<(Look, SqliteConnection), StoreError> {
    let look = look(options, path).await?;
    if look.found != Found::Existing {
        return open_for_writing(options, path, look).await;
    }
    let Some(with) = &options.take_over else {
        return Err(StoreError::Incompatible {
            path: path.display().to_string(),
            reason: "it is the existing system's; the broker takes it over when it is started on it".into(),
        });
    };
    *taken_over = Some(existing::take_over(options, path, with).await?);
    let look = self::look(options, path).await?;
    open_for_writing(options, path, look).await
}

async fn open_for_writing(
    options: &SqliteOptions,
    path: &Path,
    look: Look,
) -> Result<(Look, SqliteConnection), StoreError> {
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
        IntegrityCheck::AfterCrash => !matches!(found, Found::Store { closed: true }),
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
        Found::Existing => {
            let path = path.display();
            return Err(StoreError::Failed(format!("{path} was put in the place of the store while it was opened")));
        }
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
