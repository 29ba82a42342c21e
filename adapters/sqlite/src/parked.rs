//! What waits for a decision in a store that nobody uses: rows that Kafka refused for good, and those that made no sense
//! and were moved aside.

use std::path::Path;

use bytes::Bytes;
use sqlx::Row as _;
use taskbroker_domain::{
    activation::{ActivationId, Key, OnFailure, Route, Terms},
    lifecycle::Publication,
    ports::store::{
        ActivationStore, Commit, FailureCause, NewRow, Position, Row, RowState, RowUpdate, StoreError, StoredState,
    },
    positions::Tracker,
    time::Timestamp,
};

use crate::{SqliteStore, error::during, open::at_rest};

/// A store that is open for these decisions. It is locked meanwhile.
#[derive(Debug)]
pub struct Shelf {
    store: SqliteStore,
    state: StoredState,
    now: Timestamp,
}

/// Something that waits for a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shelved {
    /// The activation's id.
    pub id: ActivationId,
    /// Why it waits.
    pub reason: String,
    /// What it is.
    pub kind: ShelvedKind,
}

/// What waits for a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShelvedKind {
    /// Refused by Kafka, on its way to the retry topic.
    Retry(Row),
    /// Refused by Kafka, on its way to another topic.
    Forward(Row),
    /// Refused by Kafka, on its way to the dead-letter topic.
    DeadLetter(Row),
    /// A row that made no sense, with what is left of its payload.
    Nonsense {
        /// Its number among those.
        number: i64,
        /// The activation's bytes.
        payload: Option<Bytes>,
    },
}

/// Rows that are looked at at once.
const PAGE_ROWS: usize = 10_000;

impl Shelf {
    /// Opens the store; refused while somebody else has it, and where it is damaged.
    pub async fn open(path: &Path, now: Timestamp) -> Result<Self, StoreError> {
        let store = at_rest(path, now).await?;
        let state = store.state().await?;
        Ok(Self { store, state, now })
    }

    /// Everything that waits, the oldest first.
    pub async fn list(&self) -> Result<Vec<Shelved>, StoreError> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self.store.rows(after, PAGE_ROWS).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key);
            found.extend(page.into_iter().filter_map(shelved));
        }
        found.extend(self.rejects().await?);
        Ok(found)
    }

    /// Lets these be published again at the next start. What made no sense goes to the dead-letter topic, if there are
    /// bytes of it; the others of that kind stay. Returns how many.
    pub async fn retry(&self, items: &[Shelved]) -> Result<usize, StoreError> {
        let mut commit = self.commit();
        let (mut next, mut numbers) = (self.state.last_key.map_or(1, |key| key.0 + 1), Vec::new());
        for item in items {
            match &item.kind {
                ShelvedKind::Retry(row) | ShelvedKind::Forward(row) | ShelvedKind::DeadLetter(row) => {
                    commit.update.push(waiting(row));
                }
                ShelvedKind::Nonsense { number, payload: Some(payload) } => {
                    commit.insert.push(self.dead_letter(item, payload, Key(next)));
                    numbers.push(*number);
                    next += 1;
                }
                ShelvedKind::Nonsense { payload: None, .. } => {}
            }
        }
        let count = commit.rows();
        self.store.commit(&commit).await?;
        self.store.drop_rejects(&numbers).await?;
        Ok(count)
    }

    /// Removes these for good. Returns how many.
    pub async fn drop(&self, items: &[Shelved]) -> Result<usize, StoreError> {
        let mut commit = self.commit();
        let (mut positions, mut numbers) = (self.state.positions.clone(), Vec::new());
        for item in items {
            match &item.kind {
                ShelvedKind::Retry(row) | ShelvedKind::Forward(row) | ShelvedKind::DeadLetter(row) => {
                    commit.delete.push(row.key);
                    settle(&mut positions, row);
                }
                ShelvedKind::Nonsense { number, .. } => numbers.push(*number),
            }
        }
        commit.positions = positions.into_iter().filter(|position| !self.state.positions.contains(position)).collect();
        let count = commit.rows() + numbers.len();
        self.store.commit(&commit).await?;
        self.store.drop_rejects(&numbers).await?;
        Ok(count)
    }

    /// Closes the store in good order.
    pub async fn close(self) {
        self.store.close().await;
    }

    /// A commit that leaves it closed, or not, as it was.
    fn commit(&self) -> Commit {
        Commit { number: 1, closing: self.state.closed, ..Commit::default() }
    }

    fn dead_letter(&self, item: &Shelved, payload: &Bytes, key: Key) -> NewRow {
        let row = Row {
            key,
            id: item.id.clone(),
            route: Route::default().into(),
            terms: Terms { on_failure: OnFailure::DeadLetter, ..Terms::default() },
            received_at: self.now,
            added_at: self.now,
            origin: None,
            marked: false,
            payload_bytes: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            lost_leases: 0,
            state: RowState::Failed {
                cause: FailureCause::Undecodable(format!("its row made no sense: {}", item.reason).into()),
                publication: Publication::Waiting,
            },
        };
        NewRow { row, payload: payload.clone() }
    }

    async fn rejects(&self) -> Result<Vec<Shelved>, StoreError> {
        let rows = self.store.all(sqlx::query(REJECTS), "listing rows that make no sense").await?;
        let reject = |row: &sqlx::sqlite::SqliteRow| {
            let payload: Option<Vec<u8>> = row.try_get(3)?;
            Ok(Shelved {
                id: ActivationId::new(row.try_get::<String, _>(1)?),
                reason: row.try_get(2)?,
                kind: ShelvedKind::Nonsense { number: row.try_get(0)?, payload: payload.map(Bytes::from) },
            })
        };
        let rejects = rows.iter().map(reject).collect::<Result<_, sqlx::Error>>();
        rejects.map_err(during("listing rows that make no sense"))
    }
}

const REJECTS: &str = "SELECT number, id, reason, bytes FROM reject ORDER BY number";

fn shelved(row: Row) -> Option<Shelved> {
    let (publication, kind): (_, fn(Row) -> ShelvedKind) = match &row.state {
        RowState::Pending { .. } | RowState::Processing { .. } => return None,
        RowState::Retry { publication, .. } => (publication, ShelvedKind::Retry),
        RowState::Forward { publication } => (publication, ShelvedKind::Forward),
        RowState::Failed { publication, .. } => (publication, ShelvedKind::DeadLetter),
    };
    let Publication::Parked(reason) = publication else { return None };
    Some(Shelved { id: row.id.clone(), reason: reason.to_string(), kind: kind(row) })
}

/// Kafka refused it, so that nothing of it was sent.
fn waiting(row: &Row) -> RowUpdate {
    let publication = Publication::Waiting;
    let state = match &row.state {
        RowState::Retry { wish, .. } => RowState::Retry { wish: *wish, publication },
        RowState::Forward { .. } => RowState::Forward { publication },
        RowState::Failed { cause, .. } => RowState::Failed { cause: cause.clone(), publication },
        state @ (RowState::Pending { .. } | RowState::Processing { .. }) => state.clone(),
    };
    RowUpdate { key: row.key, lost_leases: row.lost_leases, state }
}

/// Without its row, its offset has to be settled: else it is read again.
fn settle(positions: &mut [Position], row: &Row) {
    let Some(origin) = row.origin else { return };
    for position in positions.iter_mut().filter(|position| position.slot == origin.slot) {
        let mut tracker = Tracker::restore(position.watermark, position.leader_epoch, &position.settled);
        tracker.settle(origin.offset);
        position.settled = tracker.settled();
    }
}
