//! Takes a file over: a new store is written beside it, whole, and then takes its name in one step. Killed at any moment, there
//! is either the existing system's file or ours under the name, and it can be started again.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use sqlx::{Row as _, SqliteConnection, query, raw_sql};
use taskbroker_domain::{
    activation::{Key, PartitionId, Slot, TopicId},
    ports::store::{ActivationStore, Commit, NewRow, Position, StoreError},
};

use super::{
    TakeOver, TakeOverLog,
    row::{Fate, ROWS, Reader, Theirs, is_from},
    swap::{discard, ensure_room, replace},
};
use crate::{SqliteStore, connect::close, error::during, open::create_at, options::SqliteOptions, paths::beside};

/// What was taken over from the existing system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// Where its file is kept; none if that was not wanted.
    pub original: Option<PathBuf>,
    /// Rows that go on here.
    pub rows: u64,
    /// Rows that were done and waited for their removal.
    pub done: u64,
    /// Rows that had failed and wanted no dead letter.
    pub discarded: u64,
    /// Rows whose payload is no activation: they go to the dead-letter topic.
    pub undecodable: u64,
    /// Up to where each partition had been read; empty where it could not be said which log they belong to.
    pub partitions: Vec<TakenOverPartition>,
}

/// Up to where a partition had been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenOverPartition {
    /// Its number.
    pub partition: i32,
    /// Everything below it is here, or done.
    pub next: i64,
}

/// Rows of one commit at most.
const COMMIT_ROWS: usize = 2_048;
/// Payload bytes of one commit, about.
const COMMIT_BYTES: i64 = 8 << 20;

/// Takes over the file at this canonical path. Nobody else may have it open: the existing system least of all.
pub(crate) async fn take_over(options: &SqliteOptions, path: &Path, with: &TakeOver) -> Result<TakenOver, StoreError> {
    let fresh = beside(path, ".taking-over");
    discard(&fresh)?;
    ensure_room(path)?;
    let mut theirs = open_alone(options, path).await?;
    let filled = fill(options, &mut theirs, &fresh, with).await;
    close(theirs).await;
    let taken = match filled {
        Ok(taken) => taken,
        Err(error) => {
            discard(&fresh)?;
            return Err(error);
        }
    };
    let original = replace(path, &fresh, with.keep_original.then_some(".before-takeover"))?;
    Ok(TakenOver { original, ..taken })
}

/// Opens it and brings what is in its log into the file, so that it is one file. Fails if another process has it open.
async fn open_alone(options: &SqliteOptions, path: &Path) -> Result<SqliteConnection, StoreError> {
    let mut conn = crate::connect::open_writer(options, path).await?;
    match alone(&mut conn).await {
        Ok(()) => Ok(conn),
        Err(error) => {
            close(conn).await;
            Err(match error {
                StoreError::Busy(_) => StoreError::Owned {
                    path: path.display().to_string(),
                    owner: "another process; if that is the existing system, stop it first (SIGTERM lets it commit what it \
                            has read)"
                        .to_owned(),
                },
                other => other,
            })
        }
    }
}

async fn alone(conn: &mut SqliteConnection) -> Result<(), StoreError> {
    let sql = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = FULL; BEGIN EXCLUSIVE; COMMIT; \
               PRAGMA wal_checkpoint(TRUNCATE);";
    raw_sql(sql).fetch_all(conn).await.map(drop).map_err(during("taking the file over"))
}

async fn fill(
    options: &SqliteOptions,
    theirs: &mut SqliteConnection,
    fresh: &Path,
    with: &TakeOver,
) -> Result<TakenOver, StoreError> {
    let store = create_at(options, fresh).await?;
    let filled = copy(options, theirs, &store, with).await;
    store.close().await;
    filled
}

async fn copy(
    options: &SqliteOptions,
    theirs: &mut SqliteConnection,
    store: &SqliteStore,
    with: &TakeOver,
) -> Result<TakenOver, StoreError> {
    let next = match &with.log {
        Some(log) => read_up_to(theirs, log).await?,
        None => BTreeMap::new(),
    };
    let slots: BTreeMap<i32, Slot> = next.keys().copied().zip((0..).map(Slot)).collect();
    let partitions = next.iter().map(|(partition, next)| TakenOverPartition { partition: *partition, next: *next });
    let mut taken = TakenOver { partitions: partitions.collect(), ..TakenOver::default() };
    let mut reader = Reader {
        codec: with.codec.as_ref(),
        log: with.log.as_ref(),
        report_grace: with.report_grace,
        slots: &slots,
        routes: BTreeMap::new(),
        now: options.now,
    };
    let mut number = 0;
    for chunk in chunks(&row_numbers(theirs).await?) {
        number += 1;
        let insert = read(theirs, &chunk, &mut reader, &mut taken).await?;
        store.commit(&Commit { number, insert, ..Commit::default() }).await?;
    }
    let positions = with.log.iter().flat_map(|log| positions(log, &slots, &next)).collect();
    store.commit(&Commit { number: number + 1, positions, closing: true, ..Commit::default() }).await?;
    Ok(taken)
}

/// Up to where each partition of the log was read. Rows are stored in the order of the log, so that everything below the
/// largest offset was stored, or needed no row.
async fn read_up_to(theirs: &mut SqliteConnection, log: &TakeOverLog) -> Result<BTreeMap<i32, i64>, StoreError> {
    let sql = "SELECT partition, application, coalesce(namespace, ''), taskname, max(\"offset\")
        FROM inflight_taskactivations WHERE partition BETWEEN 0 AND 2147483647 AND \"offset\" >= 0 GROUP BY 1, 2, 3, 4";
    let rows = raw_sql(sql).fetch_all(theirs).await.map_err(during("reading offsets"))?;
    let mut next = BTreeMap::new();
    for row in rows {
        let read = || -> Result<_, sqlx::Error> {
            let (application, namespace, task_name): (String, String, String) =
                (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            Ok((
                row.try_get::<i32, _>(0)?,
                is_from(log, &application, &namespace, &task_name),
                row.try_get::<i64, _>(4)?,
            ))
        };
        let (partition, from_it, offset) = read().map_err(during("reading offsets"))?;
        if from_it {
            let known = next.entry(partition).or_insert(0);
            *known = offset.saturating_add(1).max(*known);
        }
    }
    Ok(next)
}

fn positions<'a>(
    log: &'a TakeOverLog,
    slots: &'a BTreeMap<i32, Slot>,
    next: &'a BTreeMap<i32, i64>,
) -> impl Iterator<Item = Position> + 'a {
    slots.iter().zip(next.values()).map(|((partition, slot), next)| Position {
        slot: *slot,
        partition: Arc::new(PartitionId {
            topic: log.topic.clone(),
            topic_id: TopicId::UNKNOWN,
            group: log.group.clone(),
            partition: *partition,
        }),
        watermark: *next,
        leader_epoch: None,
        settled: Vec::new(),
        acknowledged: i64::MIN,
        read_limit: *next,
    })
}

/// The numbers and sizes of all rows, in the order in which the existing system hands them out, as far as it keeps one.
async fn row_numbers(theirs: &mut SqliteConnection) -> Result<Vec<(i64, i64)>, StoreError> {
    let sql = "SELECT rowid, length(activation) FROM inflight_taskactivations ORDER BY added_at, rowid";
    let rows = raw_sql(sql).fetch_all(theirs).await.map_err(during("listing rows"))?;
    let numbers = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    numbers.collect::<Result<_, sqlx::Error>>().map_err(during("listing rows"))
}

fn chunks(numbers: &[(i64, i64)]) -> Vec<Vec<i64>> {
    let mut chunks: Vec<Vec<i64>> = Vec::new();
    let mut bytes = i64::MAX;
    for (number, size) in numbers {
        bytes = bytes.saturating_add(*size);
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < COMMIT_ROWS && bytes <= COMMIT_BYTES => chunk.push(*number),
            _ => {
                chunks.push(vec![*number]);
                bytes = *size;
            }
        }
    }
    chunks
}

async fn read(
    theirs: &mut SqliteConnection,
    numbers: &[i64],
    reader: &mut Reader<'_>,
    taken: &mut TakenOver,
) -> Result<Vec<NewRow>, StoreError> {
    let list = serde_json::to_string(numbers).unwrap_or_default();
    let rows = query(ROWS).bind(list).fetch_all(theirs).await.map_err(during("reading rows"))?;
    let mut kept = Vec::with_capacity(rows.len());
    for row in rows {
        let key = Key(taken.rows + taken.undecodable + 1);
        match reader.fate(Theirs::read(&row).map_err(during("reading rows"))?, key) {
            Fate::Kept(new) => {
                taken.rows += 1;
                kept.push(new);
            }
            Fate::Undecodable(new) => {
                taken.undecodable += 1;
                kept.push(new);
            }
            Fate::Done => taken.done += 1,
            Fate::Discarded => taken.discarded += 1,
        }
    }
    Ok(kept)
}
