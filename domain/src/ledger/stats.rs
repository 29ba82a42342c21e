//! What can be seen of the ledger.

use std::sync::Arc;

use super::{Counts, Ledger, is_pending, ready::Group};
use crate::{activation::PartitionId, admission::Depths, time::Timestamp};

/// A picture of the ledger, cheap to take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// How many entries stand where.
    pub depths: Depths,
    /// Everything in flight.
    pub in_flight: usize,
    /// The sum over all namespaces.
    pub totals: Counts,
    /// Each namespace.
    pub namespaces: Vec<NamespaceStats>,
    /// Each partition.
    pub partitions: Vec<PartitionStats>,
    /// How much less or more is here than conservation allows: 0, or something is wrong.
    pub imbalance: i64,
    /// Payload bytes in memory.
    pub resident_bytes: u64,
    /// Payload bytes in flight.
    pub payload_bytes: u64,
    /// Leases lost in this life.
    pub lost_leases: u64,
    /// Early reports remembered.
    pub early_reports: usize,
    /// Tombstones.
    pub tombstones: usize,
    /// When the oldest task that waits for a worker came in.
    pub oldest_ready: Option<Timestamp>,
}

/// A namespace of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceStats {
    /// The application.
    pub application: Box<str>,
    /// The namespace.
    pub namespace: Box<str>,
    /// Its counts.
    pub counts: Counts,
    /// When the oldest of its tasks that wait for a worker came in.
    pub oldest_ready: Option<Timestamp>,
    /// When the oldest of its tasks that are here, in whatever state, came in.
    pub oldest: Option<Timestamp>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStats {
    /// Which.
    pub partition: Arc<PartitionId>,
    /// It is assigned to this broker.
    pub assigned: bool,
    /// Every offset below it is a row or settled.
    pub watermark: i64,
    /// The group's position, where known.
    pub committed: Option<i64>,
    /// Records between the watermark and the end of the log as last heard.
    pub lag: u64,
}

impl Ledger {
    /// Takes a picture. Its cost depends on the number of namespaces and partitions, not of entries.
    pub fn stats(&self) -> Stats {
        let namespaces: Vec<NamespaceStats> = self.namespaces().collect();
        let mut totals = self.groups.others;
        for namespace in &namespaces {
            totals.add(&namespace.counts);
        }
        let held = i64::try_from(self.entries.len()).unwrap_or(i64::MAX);
        let counted = i64::try_from(totals.in_flight).unwrap_or(i64::MAX);
        let off = namespaces.iter().map(|namespace| namespace.counts.imbalance().abs()).sum::<i64>();
        Stats {
            depths: self.depths.all(),
            in_flight: self.entries.len(),
            imbalance: off + self.groups.others.imbalance().abs() + (held - counted).abs(),
            totals,
            oldest_ready: namespaces.iter().filter_map(|namespace| namespace.oldest_ready).min(),
            namespaces,
            partitions: self.partition_stats(),
            resident_bytes: self.resident_bytes,
            payload_bytes: self.stored_bytes,
            lost_leases: self.journal.lost_leases,
            early_reports: self.memory.early_count(),
            tombstones: self.memory.buried_count(),
        }
    }

    /// How often an application that had nothing to hand out got something: whoever found nothing looks again when it changes.
    pub fn awakenings(&self) -> u64 {
        self.groups.awakenings
    }

    /// How many entries stand where.
    pub fn depths(&self) -> Depths {
        self.depths.all()
    }

    fn namespaces(&self) -> impl Iterator<Item = NamespaceStats> {
        self.groups.iter().map(|group| NamespaceStats {
            application: group.application.clone(),
            namespace: group.namespace.clone(),
            counts: group.counts,
            oldest_ready: self.oldest_ready(group),
            oldest: group.unfinished.oldest().and_then(|handle| self.entry(handle)).map(|entry| entry.added_at),
        })
    }

    /// Entries that left may stand before it, but not more than wait.
    fn oldest_ready(&self, group: &Group) -> Option<Timestamp> {
        let mut waiting = group.waiting().filter_map(|handle| self.entry(handle));
        waiting.find(|entry| is_pending(entry)).map(|entry| entry.added_at)
    }

    fn partition_stats(&self) -> Vec<PartitionStats> {
        let stats = self.partitions.iter().map(|partition| PartitionStats {
            partition: partition.id().clone(),
            assigned: partition.is_assigned(),
            watermark: partition.tracker.watermark(),
            committed: partition.committed(),
            lag: partition.lag(),
        });
        stats.collect()
    }
}
