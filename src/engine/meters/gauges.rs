//! Gauges, set once a second and before each scrape.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use metrics::{Gauge, counter, gauge};
use taskbroker_domain::{
    activation::PartitionId,
    ledger::{PartitionStats, Stats},
    time::Timestamp,
};

use super::namespaces::Namespaces;

/// What is shown of the ledger.
#[derive(Default)]
pub(super) struct Gauges {
    namespaces: Namespaces,
    partitions: HashMap<Arc<PartitionId>, Partition>,
}

struct Partition {
    lag: Gauge,
    assigned: Gauge,
}

impl Gauges {
    /// Shows this picture, taken at this time.
    pub(super) fn show(&mut self, stats: &Stats, now: Timestamp) {
        let age = |at: Option<Timestamp>| at.map_or(0.0, |at| now.since(at).as_secs_f64());
        show_sums(stats);
        gauge!("taskbroker_oldest_pending_seconds").set(age(stats.oldest_ready));
        self.namespaces.show(&stats.totals, &stats.namespaces, age);
        self.forget_gone(stats);
        stats.partitions.iter().for_each(|partition| self.show_partition(partition));
    }

    /// Before the others are shown: another log of the same name (a recreated topic, a position taken over) has the same
    /// labels.
    fn forget_gone(&mut self, stats: &Stats) {
        let here: HashSet<&Arc<PartitionId>> = stats.partitions.iter().map(|partition| &partition.partition).collect();
        self.partitions.retain(|id, partition| {
            let stays = here.contains(id);
            if !stays {
                partition.lag.set(0.0);
                partition.assigned.set(0.0);
            }
            stays
        });
    }

    fn show_partition(&mut self, stats: &PartitionStats) {
        let partition = self.partitions.entry(Arc::clone(&stats.partition)).or_insert_with_key(|id| Partition::new(id));
        partition.lag.set(stats.lag as f64);
        partition.assigned.set(if stats.assigned { 1.0 } else { 0.0 });
    }
}

impl Partition {
    fn new(id: &PartitionId) -> Self {
        let labels = [("topic", id.topic.to_string()), ("partition", id.partition.to_string())];
        Self { lag: gauge!("taskbroker_kafka_lag", &labels), assigned: gauge!("taskbroker_kafka_assigned", &labels) }
    }
}

fn show_sums(stats: &Stats) {
    let depth = |state: &'static str, depth: usize| gauge!("taskbroker_depth", "state" => state).set(depth as f64);
    depth("pending", stats.depths.pending);
    depth("delayed", stats.depths.delayed);
    depth("processing", stats.depths.processing);
    depth("retry", stats.depths.retry);
    depth("forward", stats.depths.forward);
    depth("failed", stats.depths.failed);
    depth("parked", stats.depths.parked);
    depth("done", stats.depths.done);
    gauge!("taskbroker_conservation_imbalance").set(stats.imbalance as f64);
    gauge!("taskbroker_payload_memory_bytes").set(stats.resident_bytes as f64);
    gauge!("taskbroker_payload_bytes").set(stats.payload_bytes as f64);
    gauge!("taskbroker_early_reports").set(stats.early_reports as f64);
    gauge!("taskbroker_tombstones").set(stats.tombstones as f64);
    counter!("taskbroker_leases_lost_total").absolute(stats.lost_leases);
}
