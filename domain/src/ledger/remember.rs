//! What is remembered beyond entries: reports that came before their task, and removed retries of ours.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    time::Duration,
};

use super::Ledger;
use crate::{
    activation::{ActivationId, Slot},
    ports::{
        service::Verdict,
        store::{Commit, EarlyReport, Tombstone},
    },
    time::Now,
};

/// Early reports, tombstones, and the changes to them since the last commit.
#[derive(Debug, Default)]
pub(super) struct Memory {
    early: HashMap<ActivationId, Early>,
    early_changes: BTreeMap<ActivationId, Option<Early>>,
    /// Those on copies of forwarded tasks, oldest first. Nobody can say when a copy comes, so their number is what ends them.
    of_copies: VecDeque<ActivationId>,
    buried: HashMap<ActivationId, Grave>,
    buried_changes: BTreeMap<ActivationId, Option<Slot>>,
    /// Ids that left in this life, while early reports are taken.
    finished: HashSet<ActivationId>,
    /// Ids that were forwarded in this life, with their order.
    forwarded: HashSet<ActivationId>,
    forwarded_order: VecDeque<ActivationId>,
    /// Ids of retries that rows here may still publish.
    publishing: HashMap<ActivationId, u32>,
}

/// A report that is remembered: what it says, and whether it is about the copy of a forwarded task.
#[derive(Clone, Copy, Debug)]
struct Early {
    verdict: Verdict,
    of_copy: bool,
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

/// How many forwarded ids are kept, so that a completion that is reported afterwards is remembered for the copy. Beyond it
/// such a completion is lost, and the copy runs.
const FORWARDED_MAX: usize = 100_000;

impl Memory {
    pub(super) fn load(&mut self, early: Vec<EarlyReport>) {
        for EarlyReport { id, verdict, of_copy } in early {
            if of_copy {
                self.of_copies.push_back(id.clone());
            }
            self.early.insert(id, Early { verdict, of_copy });
        }
    }

    /// What a report said that came before this task.
    pub(super) fn expected(&self, id: &ActivationId) -> Option<Verdict> {
        self.early.get(id).map(|early| early.verdict)
    }

    /// Remembers a report. A completion replaces what was said before: the work is done. Any other is a repetition, or late.
    /// False: there is no room.
    pub(super) fn remember(&mut self, report: EarlyReport, max: usize) -> bool {
        let EarlyReport { id, verdict, of_copy } = report;
        let known = self.early.get(&id).copied();
        if known.is_some_and(|known| verdict != Verdict::Complete || known.verdict == Verdict::Complete) {
            return true;
        }
        if of_copy {
            self.make_room_for_copies(max);
            self.of_copies.push_back(id.clone());
        } else if known.is_none() && self.early.len() >= max {
            return false;
        }
        let early = Early { verdict, of_copy };
        self.early.insert(id.clone(), early);
        self.early_changes.insert(id, Some(early));
        true
    }

    /// Reports on copies take half of the room at most; the oldest go.
    fn make_room_for_copies(&mut self, max: usize) {
        while self.of_copies.len() > max / 2 {
            let Some(oldest) = self.of_copies.pop_front() else { return };
            self.fulfil(&oldest);
        }
    }

    /// The id lives on in another topic: a completion may still be reported here.
    fn forward(&mut self, id: &ActivationId) {
        if self.forwarded.insert(id.clone()) {
            self.forwarded_order.push_back(id.clone());
        }
        if self.forwarded_order.len() > FORWARDED_MAX
            && let Some(oldest) = self.forwarded_order.pop_front()
        {
            self.forwarded.remove(&oldest);
        }
    }

    pub(super) fn was_forwarded(&self, id: &ActivationId) -> bool {
        self.forwarded.contains(id)
    }

    /// The task of an early report came: the report is forgotten with the task.
    pub(super) fn fulfil(&mut self, id: &ActivationId) {
        if self.early.remove(id).is_some() {
            self.early_changes.insert(id.clone(), None);
        }
    }

    /// Forgets all but those on copies, which may come at any time. Returns whether there were any.
    pub(super) fn forget_early(&mut self) -> bool {
        let over: Vec<ActivationId> =
            self.early.iter().filter(|(_, early)| !early.of_copy).map(|(id, _)| id.clone()).collect();
        for id in &over {
            self.fulfil(id);
        }
        self.finished.clear();
        !over.is_empty()
    }

    fn forget_of_copies(&mut self) {
        for id in std::mem::take(&mut self.of_copies) {
            self.fulfil(&id);
        }
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
        for (id, early) in std::mem::take(&mut self.early_changes) {
            match early {
                Some(Early { verdict, of_copy }) => commit.remember.push(EarlyReport { id, verdict, of_copy }),
                None => commit.forget.push(id),
            }
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

    /// An id left for another topic: reports on it may still be about its copy.
    pub(super) fn went_on(&mut self, id: &ActivationId) {
        self.memory.forward(id);
    }

    pub(super) fn was_finished(&self, id: &ActivationId) -> bool {
        self.memory.finished.contains(id)
    }

    /// Somebody set a position back: nothing that is remembered may settle what is to be read again.
    pub(super) fn forget_all_of(&mut self, slot: Slot) {
        self.memory.forget_early();
        self.memory.forget_of_copies();
        self.forget_tombstones_of(slot);
    }
}
