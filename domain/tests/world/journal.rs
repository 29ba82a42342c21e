//! A journal in memory that keeps the store port's contract.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use taskbroker_domain::{
    activation::{ActivationId, Key, PartitionId, Slot},
    ports::store::{Commit, EarlyReport, NewRow, Position, StoredState, Tombstone},
};
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Journal {
    pub(crate) identity: Uuid,
    pub(crate) rows: BTreeMap<Key, NewRow>,
    pub(crate) positions: BTreeMap<Slot, Position>,
    pub(crate) early: BTreeMap<ActivationId, EarlyReport>,
    pub(crate) tombstones: Vec<Tombstone>,
    pub(crate) closed: bool,
}

impl Journal {
    pub(crate) fn new(number: u128) -> Self {
        Self {
            identity: Uuid::from_u128(number),
            rows: BTreeMap::new(),
            positions: BTreeMap::new(),
            early: BTreeMap::new(),
            tombstones: Vec::new(),
            closed: true,
        }
    }

    /// Applies a commit, twice: the second time changes nothing.
    pub(crate) fn commit(&mut self, commit: &Commit) {
        self.apply(commit);
        let once = self.clone();
        self.apply(commit);
        assert_eq!(*self, once, "applying commit {} again changed something", commit.number);
    }

    fn apply(&mut self, commit: &Commit) {
        for new in &commit.insert {
            self.rows.entry(new.row.key).or_insert_with(|| new.clone());
        }
        for update in &commit.update {
            if let Some(stored) = self.rows.get_mut(&update.key) {
                stored.row.lost_leases = update.lost_leases;
                stored.row.state = update.state.clone();
            }
        }
        for key in &commit.clear_origin {
            if let Some(stored) = self.rows.get_mut(key) {
                stored.row.origin = None;
            }
        }
        for key in &commit.delete {
            self.rows.remove(key);
        }
        for position in &commit.positions {
            self.positions.insert(position.slot, position.clone());
        }
        for slot in &commit.drop_positions {
            self.positions.remove(slot);
        }
        self.early.extend(commit.remember.iter().map(|early| (early.id.clone(), early.clone())));
        self.early.retain(|id, _| !commit.forget.contains(id));
        for tombstone in &commit.bury {
            if !self.tombstones.iter().any(|known| known.id == tombstone.id) {
                self.tombstones.push(tombstone.clone());
            }
        }
        self.tombstones.retain(|tombstone| !commit.unbury.contains(&tombstone.id));
        self.closed = commit.closing;
    }

    pub(crate) fn state(&self) -> StoredState {
        StoredState {
            closed: self.closed,
            positions: self.positions.values().cloned().collect(),
            early_reports: self.early.values().cloned().collect(),
            tombstones: self.tombstones.clone(),
            last_key: self.rows.keys().last().copied(),
        }
    }

    pub(crate) fn payload(&self, key: Key) -> Option<(Key, Bytes)> {
        self.rows.get(&key).map(|row| (key, row.payload.clone()))
    }

    pub(crate) fn has_row_of(&self, partition: &PartitionId, offset: i64) -> bool {
        let Some(position) = self.positions.values().find(|position| *position.partition == *partition) else {
            return false;
        };
        let fits = |row: &NewRow| row.row.origin.is_some_and(|o| o.slot == position.slot && o.offset == offset);
        self.rows.values().any(fits)
    }

    pub(crate) fn has_row(&self, name: &str) -> bool {
        self.rows.values().any(|row| *row.row.id.text() == *name)
    }

    pub(crate) fn position(&self, partition: i32) -> Option<&Position> {
        self.positions.values().find(|position| position.partition.partition == partition)
    }

    pub(crate) fn partition(&self, slot: Slot) -> Option<Arc<PartitionId>> {
        self.positions.get(&slot).map(|position| position.partition.clone())
    }
}
