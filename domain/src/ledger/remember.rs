//! What is remembered beyond entries: completions that came before their task, and removed retries of ours.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Ledger;
use crate::{
    activation::{ActivationId, Slot},
    ports::store::{Commit, Tombstone},
};

/// Early reports, tombstones, and the changes to them since the last commit.
#[derive(Debug, Default)]
pub(super) struct Memory {
    early: HashSet<ActivationId>,
    early_changes: BTreeMap<ActivationId, bool>,
    buried: HashMap<ActivationId, Slot>,
    buried_changes: BTreeMap<ActivationId, Option<Slot>>,
    /// Ids that left in this life, while early reports are taken.
    finished: HashSet<ActivationId>,
    /// Ids of retries that rows here may still publish.
    publishing: HashMap<ActivationId, u32>,
}

/// How many finished ids are kept while a partition catches up. Beyond it a completion repeated for a finished id may settle
/// a task that uses the id again below the end; ids are UUIDs.
const FINISHED_MAX: usize = 1_000_000;

impl Memory {
    pub(super) fn load(&mut self, early: Vec<ActivationId>) {
        self.early.extend(early);
    }

    pub(super) fn expects(&self, id: &ActivationId) -> bool {
        !self.early.is_empty() && self.early.contains(id)
    }

    /// Remembers a completion. False: there is no room.
    pub(super) fn remember(&mut self, id: &ActivationId, max: usize) -> bool {
        if self.early.contains(id) {
            return true;
        }
        if self.early.len() >= max {
            return false;
        }
        self.early.insert(id.clone());
        self.early_changes.insert(id.clone(), true);
        true
    }

    /// The task of an early report came: the report is forgotten with the task.
    pub(super) fn fulfil(&mut self, id: &ActivationId) {
        if self.early.remove(id) {
            self.early_changes.insert(id.clone(), false);
        }
    }

    pub(super) fn forget_early(&mut self) -> bool {
        let any = !self.early.is_empty();
        for id in self.early.drain() {
            self.early_changes.insert(id, false);
        }
        self.finished.clear();
        any
    }

    pub(super) fn early_count(&self) -> usize {
        self.early.len()
    }

    pub(super) fn is_buried(&self, id: &ActivationId) -> bool {
        self.buried.contains_key(id)
    }

    pub(super) fn buried_count(&self) -> usize {
        self.buried.len()
    }

    pub(super) fn publishes(&mut self, id: ActivationId) {
        *self.publishing.entry(id).or_default() += 1;
    }

    pub(super) fn no_longer_publishes(&mut self, id: &ActivationId) {
        if let Some(count) = self.publishing.get_mut(id) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.publishing.remove(id);
            }
        }
    }

    pub(super) fn is_publishing(&self, id: &ActivationId) -> bool {
        self.publishing.contains_key(id)
    }

    fn bury(&mut self, id: ActivationId, slot: Slot) -> bool {
        if self.buried.insert(id.clone(), slot).is_some() {
            return false;
        }
        self.buried_changes.insert(id, Some(slot));
        true
    }

    pub(super) fn unbury(&mut self, id: ActivationId) {
        if self.buried.remove(&id).is_some() {
            self.buried_changes.insert(id, None);
        }
    }

    pub(super) fn write(&mut self, commit: &mut Commit) {
        for (id, remembered) in std::mem::take(&mut self.early_changes) {
            let list = if remembered { &mut commit.remember } else { &mut commit.forget };
            list.push(id);
        }
        for (id, buried) in std::mem::take(&mut self.buried_changes) {
            match buried {
                Some(slot) => commit.bury.push(Tombstone { id, slot }),
                None => commit.unbury.push(id),
            }
        }
    }
}

impl Ledger {
    pub(super) fn load_tombstone(&mut self, tombstone: Tombstone) {
        let Tombstone { id, slot } = tombstone;
        if self.memory.buried.insert(id.clone(), slot).is_none() {
            self.partitions.buried(slot, id);
        }
    }

    /// Remembers that a retry or copy of ours was here, for as long as a second copy may come.
    pub(super) fn bury(&mut self, id: ActivationId, slot: Slot) {
        if self.memory.bury(id.clone(), slot) {
            self.partitions.buried(slot, id);
            while self.memory.buried_count() > self.policy.tombstones_max {
                let Some(oldest) = self.partitions.oldest_buried(slot) else { break };
                self.memory.unbury(oldest);
            }
        }
    }

    /// An id left in this life: a repeated completion of it is not an early report.
    pub(super) fn finished(&mut self, id: &ActivationId) {
        if self.is_catching_up() && self.memory.finished.len() < FINISHED_MAX {
            self.memory.finished.insert(id.clone());
        }
    }

    pub(super) fn was_finished(&self, id: &ActivationId) -> bool {
        self.memory.finished.contains(id)
    }

    /// Somebody set a position back: nothing that is remembered may settle what is to be read again.
    pub(super) fn forget_all_of(&mut self, slot: Slot) {
        self.memory.forget_early();
        for id in self.partitions.take_buried(slot) {
            self.memory.unbury(id);
        }
    }
}
