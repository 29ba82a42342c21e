//! Getting out of a damaged file what can be read. SQLite gives up on a table at the first page that does not fit; here the
//! pages are read one by one, each for itself.

mod gather;
mod pages;
mod rebuild;
mod record;

use std::{
    fs,
    path::{Path, PathBuf},
};

use sqlx::raw_sql;
use taskbroker_domain::{
    ports::{
        codec::ActivationCodec,
        store::{ActivationStore, Commit, NewRow, Position, StoreError},
    },
    time::Timestamp,
};

use self::{
    gather::Gathered,
    pages::Pages,
    rebuild::{Rebuild, Rebuilt},
};
use crate::{
    SqliteStore,
    backup::{publish, refuse_to_overwrite},
    connect::{close, open_writer},
    error::{during, file_error},
    existing::discard,
    lock::OwnerLock,
    open::create_at,
    options::SqliteOptions,
    paths::{beside, canonical, size},
    wal::wal_bytes,
};

/// What is to be recovered, and where to.
pub struct Recover<'a> {
    /// The damaged file. No broker may have it open. It is only read.
    pub from: &'a Path,
    /// The new store, which must not exist.
    pub to: &'a Path,
    /// The present moment.
    pub now: Timestamp,
    /// Reads an activation whose row is damaged.
    pub codec: &'a dyn ActivationCodec,
}

/// What was recovered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The new store.
    pub path: PathBuf,
    /// Rows that were whole.
    pub whole: u64,
    /// Rows that were made anew from their activation: they wait for a worker again, or, to be run at most once, fail.
    pub repaired: u64,
    /// Bytes that are no activation any more: on their way to the dead-letter topic.
    pub dead_letters: u64,
    /// Ids of which no activation is left.
    pub lost: Vec<String>,
    /// The positions that were found.
    pub positions: Vec<Position>,
    /// The write-ahead log could not be read: what was last committed is missing.
    pub log_unreadable: bool,
    /// Pages in use could not be told from those that were let go: finished tasks may have come back.
    pub free_pages_unknown: bool,
}

/// Rows of one commit at most.
const COMMIT_ROWS: usize = 1_000;
/// Payload bytes of one commit, about.
const COMMIT_BYTES: usize = 8 << 20;

/// Recovers what can be read. The new store is durable and whole when this returns.
pub async fn recover(what: Recover<'_>) -> Result<Recovered, StoreError> {
    let (from, to) = (canonical(what.from)?, canonical(what.to)?);
    if size(&from) == 0 {
        return Err(StoreError::Failed(format!("there is nothing in {}", from.display())));
    }
    refuse_to_overwrite(&to)?;
    let _lock = OwnerLock::acquire(&from, what.now).await?;
    let (fresh, source) = (beside(&to, ".recovering"), beside(&to, ".recovering-from"));
    discard(&fresh)?;
    let recovered = recover_to(&what, &from, &fresh, &source).await;
    discard(&source)?;
    let published = recovered.and_then(|recovered| publish(&fresh, &to).map(|()| Recovered { path: to, ..recovered }));
    discard(&fresh)?;
    published
}

async fn recover_to(what: &Recover<'_>, from: &Path, fresh: &Path, source: &Path) -> Result<Recovered, StoreError> {
    let options = SqliteOptions::new(from, what.now);
    let log_read = match wal_bytes(from) {
        0 => None,
        _ => Some(with_log(&options, from, source).await?),
    };
    let pages = Pages::open(if log_read.is_some() { source } else { from })?;
    let gathered = Gathered::from(&pages)?;
    if gathered.is_empty() {
        return Err(StoreError::Corrupt(format!("nothing of a store can be found in {}", from.display())));
    }
    let store = create_at(&options, fresh).await?;
    let filled = fill(what, &store, &pages, &gathered).await;
    store.close().await;
    Ok(Recovered { log_unreadable: log_read == Some(false), free_pages_unknown: !pages.knows_free(), ..filled? })
}

/// A copy of the file with what is in its log. Whether SQLite could read that.
async fn with_log(options: &SqliteOptions, from: &Path, copy: &Path) -> Result<bool, StoreError> {
    discard(copy)?;
    for part in ["", "-wal"] {
        let (from, to) = (beside(from, part), beside(copy, part));
        fs::copy(&from, &to).map_err(|error| file_error("cannot copy", &from, &error))?;
    }
    let Ok(mut conn) = open_writer(options, copy).await else { return Ok(false) };
    let copied = raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut conn).await;
    let copied = copied
        .map_err(during("copying the log"))
        .and_then(|row| sqlx::Row::try_get::<i64, _>(&row, 0).map_err(during("copying the log")));
    close(conn).await;
    Ok(matches!(copied, Ok(0)))
}

async fn fill(
    what: &Recover<'_>,
    store: &SqliteStore,
    pages: &Pages,
    gathered: &Gathered,
) -> Result<Recovered, StoreError> {
    let mut recovered = Recovered { positions: gathered.positions(), ..Recovered::default() };
    let mut batch = Batch { store, number: 0, rows: Vec::new(), bytes: 0 };
    for rebuilt in (Rebuild { what, pages, gathered }).rows() {
        match rebuilt {
            Rebuilt::Whole(row) => {
                recovered.whole += 1;
                batch.add(row).await?;
            }
            Rebuilt::Repaired(row) => {
                recovered.repaired += 1;
                batch.add(row).await?;
            }
            Rebuilt::DeadLetter(row) => {
                recovered.dead_letters += 1;
                batch.add(row).await?;
            }
            Rebuilt::Lost(id) => recovered.lost.push(id),
            Rebuilt::Done => {}
        }
    }
    // Not closed in order: reports on what is read again may come before it.
    batch.commit(recovered.positions.clone(), false).await?;
    Ok(recovered)
}

/// Rows on their way into the new store.
struct Batch<'a> {
    store: &'a SqliteStore,
    number: u64,
    rows: Vec<NewRow>,
    bytes: usize,
}

impl Batch<'_> {
    async fn add(&mut self, row: NewRow) -> Result<(), StoreError> {
        self.bytes += row.payload.len();
        self.rows.push(row);
        if self.rows.len() < COMMIT_ROWS && self.bytes < COMMIT_BYTES {
            return Ok(());
        }
        self.commit(Vec::new(), false).await
    }

    async fn commit(&mut self, positions: Vec<Position>, closing: bool) -> Result<(), StoreError> {
        self.number += 1;
        self.bytes = 0;
        let insert = std::mem::take(&mut self.rows);
        self.store.commit(&Commit { number: self.number, insert, positions, closing, ..Commit::default() }).await
    }
}
