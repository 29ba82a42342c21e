//! The store and its limits.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use super::{bytes_from, up_to};
use crate::settings::{model::Store, reader::Reader};

/// Reads the store and its limits.
pub(super) fn read(reader: &mut Reader<'_>) -> Store {
    const MIB: u32 = 1 << 20;
    const LOST_LEASES_MOST: NonZeroU32 = NonZeroU32::MIN.saturating_add(1_000_000 - 1);
    const WEEK: Duration = Duration::from_secs(7 * 86_400);
    const SECOND: Duration = Duration::from_secs(1);
    let count = || up_to(100_000_000);
    let least_memory = NonZeroUsize::MIN.saturating_add((1 << 20) - 1);
    Store {
        adapter: reader.read("store.adapter"),
        sqlite_path: reader.read("store.sqlite.path"),
        linger: reader.read_within("store.linger", Duration::ZERO..=Duration::from_secs(10)),
        max_bytes: reader.optional_within("store.max_size", bytes_from(MIB)),
        max_pending: reader.read_within("store.max_pending_count", count()),
        max_delayed: reader.read_within("store.max_delay_count", count()),
        max_processing: reader.read_within("store.max_processing_count", count()),
        max_unserved: reader.read_within("store.max_unserved_count", count()),
        max_outbox: reader.read_within("store.max_outbox_count", count()),
        max_parked: reader.read_within("store.max_parked_count", count()),
        max_lost_leases: reader.read_within("store.max_processing_attempts", NonZeroU32::MIN..=LOST_LEASES_MOST),
        deadline_grace: Duration::from_secs(reader.read_within("store.processing_deadline_grace_sec", 0..=86_400)),
        payload_memory_bytes: reader.read_within("store.payload_memory_bytes", least_memory..=NonZeroUsize::MAX),
        early_reports_max: reader.read_within("store.early_reports_max", 0..=10_000_000),
        tombstones_keep: reader.read_within("store.tombstones_keep", SECOND..=WEEK),
        hold_after_crash: reader.read_within("store.hold_after_crash", Duration::ZERO..=Duration::from_secs(300)),
        absent_partition_limit: reader.read_within("store.absent_partition_limit", SECOND..=WEEK),
    }
}
