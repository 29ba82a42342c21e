//! The numbers that the ledger decides by; the settings fill them in. Each default says where it comes from.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::positions::OffsetReset;

/// What the operator chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long an entry read from Kafka may live without a row. Zero: a row with the next commit. Default 200 ms, long
    /// enough for a quick task to come and go, short enough that little is repeated after a crash.
    pub window: Duration,
    /// How many entries may be without a row. Beyond a quarter of it windows end early, at all of it intake pauses: a backlog
    /// is written as fast as the store takes it, in commits of this size at most, and needs no more memory than they do.
    /// 16,384: a quarter is 20,000 tasks a second through windows of 200 ms.
    pub unwritten_max: usize,
    /// How long a change that nobody waits for may stay out of the journal. 50 ms (design, rule 3).
    pub lazy_commit: Duration,
    /// Added to each run limit before a lease counts as lost. 3 s, as in the existing system.
    pub lease_grace: Duration,
    /// How often a lease may be lost before the activation fails. 5, as in the existing system.
    pub max_lost_leases: u32,
    /// How many bytes of payload may stay in memory. What exceeds it is written at once and read back when due; intake
    /// pauses while more than a quarter above it is still to be written.
    pub payload_memory_bytes: u64,
    /// How long a tombstone lives while its partition is read to the end. Not shorter than the producer's delivery time-out.
    pub tombstones_keep: Duration,
    /// How many tombstones there may be; the oldest go first.
    pub tombstones_max: usize,
    /// How many early reports may be remembered. Beyond that the answer is "unavailable".
    pub early_reports_max: usize,
    /// How long after an unclean stop what had been read before it is held back, so that reports on it come first.
    pub hold_after_crash: Duration,
    /// How long a partition that does not come back is waited for.
    pub absent_partition_limit: Duration,
    /// How many offsets ahead the read limit is reserved.
    pub read_limit_step: i64,
    /// How often positions are committed to the group.
    pub group_commit_interval: Duration,
    /// Where to begin where no position is known, in topics that [`Policy::offset_resets`] does not name.
    pub offset_reset: OffsetReset,
    /// The same, by topic.
    pub offset_resets: BTreeMap<Arc<str>, OffsetReset>,
    /// How long nobody asks for what waits until it counts as unserved. 10 s: a worker that found nothing asks again within
    /// 5 s (the Python client's back-off).
    pub unserved_after: Duration,
    /// What an activation without an application belongs to; none: to the application without a name.
    pub default_application: Option<Box<str>>,
    /// A lease found at start lasts at least so long from then on, so that workers can report what they finished meanwhile.
    /// The daemon's default is 60 s, as in the existing system (`upkeep_deadline_reset_skip_after_startup_sec`); here zero.
    pub quiet_after_start: Duration,
    /// How many topics are consumed. Beyond the limits each may have its part of them.
    pub topics: usize,
    /// How much may be in flight.
    pub limits: Limits,
}

/// How much may be in flight; intake pauses at the first that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries that wait for a worker.
    pub pending: usize,
    /// Entries that wait for their time.
    pub delayed: usize,
    /// Entries that workers have.
    pub processing: usize,
    /// Entries that wait to be published. Of its own, so that a dead-letter cluster that is away stops nothing else for long.
    pub outgoing: usize,
    /// Entries that wait for a worker and for which nobody asks. Up to so many leave the budget of the others.
    pub unserved: usize,
    /// Entries that Kafka refused for good and that wait for somebody to decide. Few in a system that is well: at so many
    /// it is time to look, before they fill the disk.
    pub parked: usize,
}

impl Policy {
    /// Where to begin in a partition of this topic where no position is known.
    pub fn offset_reset(&self, topic: &str) -> OffsetReset {
        self.offset_resets.get(topic).copied().unwrap_or(self.offset_reset)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            window: Duration::from_millis(200),
            unwritten_max: 16_384,
            lazy_commit: Duration::from_millis(50),
            lease_grace: Duration::from_secs(3),
            max_lost_leases: 5,
            payload_memory_bytes: 128 * 1024 * 1024,
            tombstones_keep: Duration::from_secs(300),
            tombstones_max: 1_000_000,
            early_reports_max: 100_000,
            hold_after_crash: Duration::from_secs(3),
            absent_partition_limit: Duration::from_secs(600),
            read_limit_step: 65_536,
            group_commit_interval: Duration::from_millis(100),
            offset_reset: OffsetReset::default(),
            offset_resets: BTreeMap::new(),
            unserved_after: Duration::from_secs(10),
            default_application: None,
            quiet_after_start: Duration::ZERO,
            topics: 1,
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    /// The limits of the existing system; those on what leaves and on what nobody asks for are ours.
    fn default() -> Self {
        Self { pending: 2048, delayed: 8192, processing: 2048, outgoing: 100_000, unserved: 100_000, parked: 10_000 }
    }
}
