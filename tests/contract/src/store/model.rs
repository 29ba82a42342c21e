//! What a store must hold, kept in the plainest possible way.

use std::collections::BTreeMap;

use bytes::Bytes;
use taskbroker_domain::{
    activation::{ActivationId, Key, Slot},
    ports::store::{ActivationStore, Commit, EarlyReport, Position, Row, StoredState, Tombstone},
};

/// Everything that can be read from a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The rows, by key.
    pub rows: Vec<Row>,
    /// The payloads, by key.
    pub payloads: BTreeMap<Key, Bytes>,
    /// The rest, in a fixed order where the contract leaves it open.
    pub state: StoredState,
}

/// Reads everything, in pages.
pub async fn contents(store: &dyn ActivationStore) -> Contents {
    let rows = all_rows(store, 700).await;
    let keys: Vec<_> = rows.iter().map(|row| row.key).collect();
    let payloads = store.payloads(&keys).await.expect("payloads can be read");
    let mut state = store.state().await.expect("the state can be read");
    state.positions.sort_by_key(|position| position.slot);
    state.early_reports.sort();
    Contents { rows, payloads: payloads.into_iter().collect(), state }
}

/// All rows, in pages of `page` rows.
pub(crate) async fn all_rows(store: &dyn ActivationStore, page: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    loop {
        let after = rows.last().map(|row: &Row| row.key);
        let found = store.rows(after, page).await.expect("rows can be read");
        if found.is_empty() {
            return rows;
        }
        rows.extend(found);
    }
}

/// A store as the contract describes it, in ordinary collections.
#[derive(Clone, Debug)]
pub struct Model {
    rows: BTreeMap<Key, (Row, Bytes)>,
    positions: BTreeMap<Slot, Position>,
    early_reports: BTreeMap<ActivationId, EarlyReport>,
    tombstones: Vec<Tombstone>,
    closed: bool,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            positions: BTreeMap::new(),
            early_reports: BTreeMap::new(),
            tombstones: Vec::new(),
            closed: true,
        }
    }
}

impl Model {
    /// What a store holds after these commits.
    pub fn after<'a>(commits: impl IntoIterator<Item = &'a Commit>) -> Self {
        let mut model = Self::default();
        commits.into_iter().for_each(|commit| model.apply(commit));
        model
    }

    /// Applies one commit.
    pub fn apply(&mut self, commit: &Commit) {
        self.apply_rows(commit);
        for position in &commit.positions {
            self.positions.insert(position.slot, position.clone());
        }
        self.positions.retain(|slot, _| !commit.drop_positions.contains(slot));
        self.early_reports.extend(commit.remember.iter().map(|early| (early.id.clone(), early.clone())));
        self.early_reports.retain(|id, _| !commit.forget.contains(id));
        for tombstone in &commit.bury {
            if !self.tombstones.iter().any(|known| known.id == tombstone.id) {
                self.tombstones.push(tombstone.clone());
            }
        }
        self.tombstones.retain(|tombstone| !commit.unbury.contains(&tombstone.id));
        self.closed = commit.closing;
    }

    fn apply_rows(&mut self, commit: &Commit) {
        for new in &commit.insert {
            self.rows.insert(new.row.key, (new.row.clone(), new.payload.clone()));
        }
        for update in &commit.update {
            if let Some((row, _)) = self.rows.get_mut(&update.key) {
                row.state = update.state.clone();
                row.lost_leases = update.lost_leases;
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

    /// All of it, as it is to be read.
    pub fn contents(&self) -> Contents {
        Contents {
            rows: self.rows.values().map(|(row, _)| row.clone()).collect(),
            payloads: self.rows.iter().map(|(key, (_, payload))| (*key, payload.clone())).collect(),
            state: StoredState {
                closed: self.closed,
                positions: self.positions.values().cloned().collect(),
                early_reports: self.early_reports.values().cloned().collect(),
                tombstones: self.tombstones.clone(),
                last_key: self.rows.keys().next_back().copied(),
            },
        }
    }
}
