//! The way back: a file that the existing system opens and goes on with.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use sqlx::{SqliteConnection, query, raw_sql};
use taskbroker_domain::{
    activation::{Key, OnFailure, PartitionId, RetryWish, Slot},
    lifecycle::Publication,
    ports::{
        codec::Undecodable,
        store::{ActivationStore, Position, Row, RowState, StoreError},
    },
    time::Timestamp,
};

use super::{
    DEAD_LETTER, DISCARD,
    schema::{MIGRATION, MIGRATIONS, SCHEMA},
    status,
    swap::{discard, ensure_room, replace},
};
use crate::{
    SqliteStore,
    backup::{publish, refuse_to_overwrite},
    connect::{close, open_writer},
    error::during,
    open::at_rest,
    options::SqliteOptions,
    paths::{beside, canonical},
};

/// What is to be brought back, and where to.
pub struct Downgrade<'a> {
    /// Our file. No broker may have it open.
    pub from: &'a Path,
    /// The new file, which must not exist; none: in the place of ours, which is kept under another name.
    pub to: Option<&'a Path>,
    /// The present moment.
    pub now: Timestamp,
    /// Writes what a worker wished for a retry into the activation: the existing system keeps it there.
    pub with_wish: &'a (dyn Fn(&Bytes, RetryWish) -> Result<Bytes, Undecodable> + Sync),
}

/// What was brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downgraded {
    /// The file that the existing system can open.
    pub path: PathBuf,
    /// Where ours is: under the name it had, or another.
    pub original: PathBuf,
    /// Rows that are in it.
    pub rows: u64,
    /// Rows that stay in ours alone: Kafka refused them for good, and the existing system would drop them or try for ever.
    pub parked: u64,
    /// Rows that stay in ours alone because they, or others of the same id, cannot be expressed.
    pub left_behind: u64,
    /// The positions, which the file has no place for. The existing system reads from the group's; whatever is done above
    /// that runs again.
    pub positions: Vec<Position>,
}

/// Rows that are read and written at once.
const PAGE_ROWS: usize = 256;

/// Writes the file. Everything is in it, durably, when this returns; ours is not changed.
pub async fn downgrade(what: Downgrade<'_>) -> Result<Downgraded, StoreError> {
    let from = canonical(what.from)?;
    let to = what.to.map(canonical).transpose()?;
    if let Some(to) = &to {
        refuse_to_overwrite(to)?;
    }
    let fresh = beside(to.as_deref().unwrap_or(&from), ".downgrading");
    discard(&fresh)?;
    ensure_room(to.as_deref().unwrap_or(&from))?;
    let store = at_rest(&from, what.now).await?;
    let written = write(&store, &SqliteOptions::new(&from, what.now), &fresh, &what).await;
    // The lock stays until the new file has its name.
    let lock = store.close_but_lock().await;
    let downgraded = match written {
        Ok(written) => finish(written, &from, to, &fresh),
        Err(error) => Err(error),
    };
    drop(lock);
    discard(&fresh)?;
    downgraded
}

fn finish(written: Downgraded, from: &Path, to: Option<PathBuf>, fresh: &Path) -> Result<Downgraded, StoreError> {
    match to {
        Some(path) => {
            publish(fresh, &path)?;
            Ok(Downgraded { path, original: from.to_owned(), ..written })
        }
        None => {
            let original = replace(from, fresh, Some(".before-downgrade"))?;
            Ok(Downgraded { path: from.to_owned(), original: original.unwrap_or_default(), ..written })
        }
    }
}

async fn write(
    store: &SqliteStore,
    options: &SqliteOptions,
    fresh: &Path,
    what: &Downgrade<'_>,
) -> Result<Downgraded, StoreError> {
    let state = store.state().await?;
    let mut conn = open_writer(options, fresh).await?;
    let partitions: BTreeMap<Slot, Arc<PartitionId>> =
        state.positions.iter().map(|position| (position.slot, position.partition.clone())).collect();
    let mut copy = Copy { what, partitions: &partitions, rows: 0, parked: 0, left_behind: 0 };
    let copied = copy.run(store, &mut conn).await;
    let (rows, parked, left_behind) = (copy.rows, copy.parked, copy.left_behind);
    close(conn).await;
    copied?;
    let (path, original, positions) = (PathBuf::new(), PathBuf::new(), state.positions);
    Ok(Downgraded { path, original, rows, parked, left_behind, positions })
}

struct Copy<'a> {
    what: &'a Downgrade<'a>,
    partitions: &'a BTreeMap<Slot, Arc<PartitionId>>,
    rows: u64,
    parked: u64,
    left_behind: u64,
}

const INSERT: &str = "INSERT OR IGNORE INTO inflight_taskactivations (id, activation, partition, \"offset\", added_at,
    processing_attempts, expires_at, processing_deadline_duration, processing_deadline, status, at_most_once, namespace,
    delay_until, on_attempts_exceeded, received_at, taskname, application, bucket)
    VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";

impl Copy<'_> {
    async fn run(&mut self, store: &SqliteStore, conn: &mut SqliteConnection) -> Result<(), StoreError> {
        raw_sql(SCHEMA).execute(&mut *conn).await.map_err(during("making the tables"))?;
        for (version, description, checksum) in MIGRATIONS {
            let row = query(MIGRATION).bind(version).bind(description).bind(checksum);
            row.execute(&mut *conn).await.map_err(during("writing the migrations"))?;
        }
        let mut after = None;
        loop {
            let page = store.rows(after, PAGE_ROWS).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key);
            raw_sql("BEGIN").execute(&mut *conn).await.map_err(during("writing rows"))?;
            self.page(&page, store, conn).await?;
            raw_sql("COMMIT").execute(&mut *conn).await.map_err(during("writing rows"))?;
        }
    }

    async fn page(&mut self, page: &[Row], store: &SqliteStore, conn: &mut SqliteConnection) -> Result<(), StoreError> {
        for row in page {
            if is_parked(&row.state) {
                self.parked += 1;
                continue;
            }
            let payload = store.payloads(&[row.key]).await?.pop().map(|(_, payload): (Key, Bytes)| payload);
            let payload = payload.and_then(|payload| self.payload(row, payload));
            let written = match payload {
                Some(payload) => self.row(row, payload, conn).await?,
                None => 0,
            };
            self.rows += written;
            self.left_behind += 1 - written;
        }
        Ok(())
    }

    fn payload(&self, row: &Row, payload: Bytes) -> Option<Bytes> {
        match &row.state {
            RowState::Retry { wish, .. } if *wish != RetryWish::default() => {
                (self.what.with_wish)(&payload, *wish).ok()
            }
            _ => Some(payload),
        }
    }

    async fn row(&self, row: &Row, payload: Bytes, conn: &mut SqliteConnection) -> Result<u64, StoreError> {
        let (status, delay_until, deadline) = match sent_once(row) {
            true => (status::FAILURE, None, None),
            false => standing(&row.state, self.what.now),
        };
        let (partition, offset) = self.origin(row);
        let inserted = query(INSERT)
            .bind(row.id.to_string())
            .bind(Vec::from(payload))
            .bind(partition)
            .bind(offset)
            .bind(seconds(row.added_at))
            .bind(row.lost_leases)
            .bind(row.terms.expires_at.map(seconds_up))
            .bind(i32::try_from(row.terms.run_limit.as_millis().div_ceil(1_000)).unwrap_or(i32::MAX))
            .bind(deadline)
            .bind(status)
            .bind(row.terms.at_most_once)
            .bind(row.route.namespace.to_string())
            .bind(delay_until)
            .bind(on_attempts_exceeded(row))
            .bind(seconds(row.received_at))
            .bind(row.route.task_name.to_string())
            .bind(row.route.application.to_string())
            .bind(row.id.bucket())
            .execute(conn)
            .await;
        Ok(inserted.map_err(during("writing rows"))?.rows_affected())
    }

    /// What came from no log that is known has partition and offset -1, as in our view of that table.
    fn origin(&self, row: &Row) -> (i32, i64) {
        let origin = row.origin.and_then(|origin| Some((self.partitions.get(&origin.slot)?.partition, origin.offset)));
        origin.unwrap_or((-1, -1))
    }
}

/// An at-most-once task that may have been sent, as a retry or to another topic, is not sent again: it fails.
fn sent_once(row: &Row) -> bool {
    let begun = match &row.state {
        RowState::Retry { publication, .. } | RowState::Forward { publication } => *publication == Publication::Begun,
        RowState::Pending { .. } | RowState::Processing { .. } | RowState::Failed { .. } => false,
    };
    row.terms.at_most_once && begun
}

fn on_attempts_exceeded(row: &Row) -> i64 {
    match (row.terms.on_failure, &row.state) {
        (OnFailure::DeadLetter, _) | (_, RowState::Failed { .. }) => DEAD_LETTER,
        (OnFailure::Discard, _) => DISCARD,
    }
}

/// Status, `delay_until` and `processing_deadline`.
fn standing(state: &RowState, now: Timestamp) -> (&'static str, Option<i64>, Option<i64>) {
    match state {
        RowState::Pending { ready_at } if *ready_at > now => (status::DELAY, Some(seconds_up(*ready_at)), None),
        RowState::Pending { .. } => (status::PENDING, None, None),
        RowState::Processing { lease_ends_at } => (status::PROCESSING, None, Some(seconds_up(*lease_ends_at))),
        RowState::Retry { .. } => (status::RETRY, None, None),
        // The existing system looks by itself whether it is to be forwarded.
        RowState::Forward { .. } => (status::PENDING, None, None),
        RowState::Failed { .. } => (status::FAILURE, None, None),
    }
}

fn is_parked(state: &RowState) -> bool {
    match state {
        RowState::Pending { .. } | RowState::Processing { .. } => false,
        RowState::Retry { publication, .. }
        | RowState::Forward { publication }
        | RowState::Failed { publication, .. } => {
            matches!(publication, Publication::Parked(_))
        }
    }
}

fn seconds(at: Timestamp) -> i64 {
    at.as_millis() / 1_000
}

/// Rounded up: nothing becomes due earlier than it was.
fn seconds_up(at: Timestamp) -> i64 {
    (at.as_millis() + 999) / 1_000
}
