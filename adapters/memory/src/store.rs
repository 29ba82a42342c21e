//! A store whose content outlives the ledger that uses it.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    ops::Bound,
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use taskbroker_domain::{
    activation::{ActivationId, Key, Slot},
    ports::store::{ActivationStore, Commit, EarlyReport, Position, Row, StoreError, StoredState, Tombstone, Usage},
};
use uuid::Uuid;

use crate::{
    faults::{Faults, Step},
    lock::Lock,
};

/// An activation store in memory. Clones are handles on the same content: a test that drops its ledger and starts a new
/// one on a clone has "crashed" and restarted. Nothing refuses a second owner.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    identity: Uuid,
    content: Arc<Lock<Content>>,
    faults: Faults,
}

#[derive(Debug)]
struct Content {
    rows: BTreeMap<Key, (Row, Bytes)>,
    positions: BTreeMap<Slot, Position>,
    early_reports: BTreeMap<ActivationId, EarlyReport>,
    /// By their place in the order of burial.
    tombstones: BTreeMap<u64, Tombstone>,
    /// Their places.
    graves: HashMap<ActivationId, u64>,
    closed: bool,
    commits: u64,
}

/// What a row is counted as beside its payload, in bytes: about what it takes in a file.
const ROW_BYTES: u64 = 200;

impl MemoryStore {
    /// An empty store. The identity is for the caller to choose: a constant in tests, a random one otherwise.
    pub fn new(identity: Uuid) -> Self {
        let content = Content {
            rows: BTreeMap::new(),
            positions: BTreeMap::new(),
            early_reports: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            graves: HashMap::new(),
            closed: true,
            commits: 0,
        };
        Self { identity, content: Arc::new(Lock::new(content)), faults: Faults::default() }
    }

    /// Plans failures of this store.
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// How many commits became durable, repeated ones included.
    pub fn commits(&self) -> u64 {
        self.content.lock().commits
    }

    async fn read<T>(&self, read: impl FnOnce(&Content) -> T + Send) -> Result<T, StoreError> {
        match self.faults.take_read() {
            Some(answer) => Err(answer.give().await),
            None => Ok(read(&self.content.lock())),
        }
    }
}

#[async_trait]
impl ActivationStore for MemoryStore {
    fn identity(&self) -> Uuid {
        self.identity
    }

    async fn state(&self) -> Result<StoredState, StoreError> {
        self.read(Content::state).await
    }

    async fn rows(&self, after: Option<Key>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.read(|content| {
            content.rows.range((from, Bound::Unbounded)).take(limit).map(|(_, (row, _))| row.clone()).collect()
        })
        .await
    }

    async fn payloads(&self, keys: &[Key]) -> Result<Vec<(Key, Bytes)>, StoreError> {
        self.read(|content| {
            keys.iter().filter_map(|key| content.rows.get(key).map(|(_, payload)| (*key, payload.clone()))).collect()
        })
        .await
    }

    async fn commit(&self, commit: &Commit) -> Result<(), StoreError> {
        let apply = || self.content.lock().apply(commit);
        match self.faults.take_commit() {
            None => apply(),
            Some(Step::Fail(fault)) => {
                if fault.applied {
                    apply();
                }
                return Err(fault.answer.give().await);
            }
            Some(Step::Hold(gate)) if gate.applies_first() => {
                apply();
                gate.pass().await;
            }
            Some(Step::Hold(gate)) => {
                gate.pass().await;
                apply();
            }
        }
        Ok(())
    }

    async fn usage(&self) -> Result<Usage, StoreError> {
        self.read(Content::usage).await
    }

    async fn close(&self) {}
}

impl Content {
    fn apply(&mut self, commit: &Commit) {
        self.apply_rows(commit);
        self.apply_memories(commit);
        self.closed = commit.closing;
        self.commits += 1;
    }

    fn apply_rows(&mut self, commit: &Commit) {
        for new in &commit.insert {
            self.rows.insert(new.row.key, (new.row.clone(), new.payload.clone()));
        }
        for update in &commit.update {
            if let Some((row, _)) = self.rows.get_mut(&update.key) {
                row.lost_leases = update.lost_leases;
                row.state = update.state.clone();
            }
        }
        for key in &commit.delete {
            self.rows.remove(key);
        }
        for key in &commit.clear_origin {
            if let Some((row, _)) = self.rows.get_mut(key) {
                row.origin = None;
            }
        }
    }

    fn apply_memories(&mut self, commit: &Commit) {
        for position in &commit.positions {
            self.positions.insert(position.slot, position.clone());
        }
        for slot in &commit.drop_positions {
            self.positions.remove(slot);
        }
        self.early_reports.extend(commit.remember.iter().map(|early| (early.id.clone(), early.clone())));
        for id in &commit.forget {
            self.early_reports.remove(id);
        }
        for tombstone in &commit.bury {
            let place = self.tombstones.last_key_value().map_or(0, |(last, _)| last + 1);
            if let Entry::Vacant(grave) = self.graves.entry(tombstone.id.clone()) {
                grave.insert(place);
                self.tombstones.insert(place, tombstone.clone());
            }
        }
        for id in &commit.unbury {
            if let Some(place) = self.graves.remove(id) {
                self.tombstones.remove(&place);
            }
        }
    }

    fn state(&self) -> StoredState {
        StoredState {
            closed: self.closed,
            positions: self.positions.values().cloned().collect(),
            early_reports: self.early_reports.values().cloned().collect(),
            tombstones: self.tombstones.values().cloned().collect(),
            last_key: self.rows.keys().next_back().copied(),
        }
    }

    fn usage(&self) -> Usage {
        let rows = self.rows.values().map(|(row, _)| ROW_BYTES + u64::from(row.payload_bytes)).sum();
        Usage { used_bytes: rows, disk_bytes: 0, room_bytes: None }
    }
}
