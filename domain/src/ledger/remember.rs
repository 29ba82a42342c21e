//! What is remembered beyond entries: completions that came before their task, and removed retries of ours.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use super::Ledger;
use crate::{
    activation::{ActivationId, Slot},
    ports::store::{Commit, Tombstone},
    time::Now,
};

/// Early reports, tombstones, and the changes to them since the last commit.
#[derive(Debug, Default)]
pub(super) struct Memory {
    early: HashSet<ActivationId>,
    early_changes: BTreeMap<ActivationId, bool>,
    buried: HashMap<ActivationId, Grave>,
    buried_changes: BTreeMap<ActivationId, Option<Slot>>,
    /// Ids that left in this life, while early reports are taken.
    finished: HashSet<ActivationId>,
    /// Ids of retries that rows here may still publish.
    publishing: HashMap<ActivationId, u32>,
}

/// Where copies of a buried id would come, and the partition's time at the end at which its minutes began.
#[derive(Clone, Copy, Debug)]
struct Grave {
    slot: Slot,
    since: Duration,
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

    fn is_buried_since(&self, id: &ActivationId, since: Duration) -> bool {
        self.buried.get(id).is_some_and(|grave| grave.since == since)
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

    /// Buries an id, or sets the beginning of its minutes anew.
    fn bury(&mut self, id: ActivationId, grave: Grave) {
        if self.buried.insert(id.clone(), grave).is_none_or(|before| before.slot != grave.slot) {
            self.buried_changes.insert(id, Some(grave.slot));
        }
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
    pub(super) fn load_tombstone(&mut self, tombstone: Tombstone, now: Now) {
        let Tombstone { id, slot } = tombstone;
        let since = self.partitions.time_at_end(slot, now.steady);
        self.memory.buried.insert(id.clone(), Grave { slot, since: since.unwrap_or_default() });
        match since {
            Some(since) => self.partitions.dig(slot, id, since),
            None => self.memory.unbury(id),
        }
    }

    /// Remembers that a retry or copy of ours was here, for as long as a second copy may come.
    pub(super) fn bury(&mut self, id: ActivationId, slot: Slot, now: Now) {
        let Some(since) = self.partitions.time_at_end(slot, now.steady) else { return };
        self.memory.bury(id.clone(), Grave { slot, since });
        self.partitions.dig(slot, id, since);
        while self.memory.buried_count() > self.policy.tombstones_max {
            let Some((oldest, since)) = self.partitions.oldest_grave(slot) else { break };
            if self.memory.is_buried_since(&oldest, since) {
                self.memory.unbury(oldest);
            }
        }
    }

    /// No row publishes the id any more. Its last copy may have been sent just before: the minutes begin anew.
    pub(super) fn bury_again(&mut self, id: &ActivationId, now: Now) {
        if let Some(slot) = self.memory.buried.get(id).map(|grave| grave.slot) {
            self.bury(id.clone(), slot, now);
        }
    }

    /// Tombstones whose minutes are over go. Those of ids that a row here may still publish stay.
    pub(super) fn unbury_overdue(&mut self, now: Now) {
        for (id, since) in self.partitions.take_overdue_graves(self.policy.tombstones_keep, now.steady) {
            if self.memory.is_buried_since(&id, since) && !self.memory.is_publishing(&id) {
                self.memory.unbury(id);
                self.commit_soon(now);
            }
        }
    }

    pub(super) fn forget_tombstones_of(&mut self, slot: Slot) {
        let of: Vec<ActivationId> =
            self.memory.buried.iter().filter(|(_, grave)| grave.slot == slot).map(|(id, _)| id.clone()).collect();
        for id in of {
            self.memory.unbury(id);
        }
        self.partitions.close_graves(slot);
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
        self.forget_tombstones_of(slot);
    }
}
