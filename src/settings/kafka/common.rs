//! What holds for every topic that does not say otherwise.

use std::{
    num::{NonZeroU16, NonZeroU32, NonZeroUsize},
    ops::RangeInclusive,
    time::Duration,
};

use crate::settings::{
    model::{AssignmentStrategy, OffsetReset, TopicCreation},
    reader::Reader,
};

/// librdkafka's bounds of `session.timeout.ms`.
pub(super) const SESSION_TIMEOUT_MS: RangeInclusive<u64> = 1..=3_600_000;

/// What holds for every topic that does not say otherwise.
pub(super) struct Common {
    pub(super) dead_letter_topic: String,
    pub(super) retry_topic: Option<String>,
    pub(super) forward_topic: String,
    pub(super) session_timeout: Duration,
    pub(super) offset_reset: OffsetReset,
    pub(super) assignment_strategy: AssignmentStrategy,
    pub(super) group_instance_id: Option<String>,
    pub(super) prefetch_bytes: NonZeroUsize,
    pub(super) commit_interval: Duration,
    pub(super) send_timeout: Duration,
    pub(super) delivery_timeout: Duration,
    pub(super) max_message_bytes: NonZeroU32,
    pub(super) create: Option<TopicCreation>,
}

impl Common {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        const PREFETCH_LEAST: NonZeroUsize = NonZeroUsize::MIN.saturating_add((1 << 20) - 1);
        // librdkafka counts in KiB, up to 2,097,151 of them.
        const PREFETCH_MOST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2_097_151 * 1024 - 1);
        const MESSAGE_LEAST: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);
        const MESSAGE_MOST: NonZeroU32 = NonZeroU32::MIN.saturating_add(999_999_999);
        const COMMIT_MOST: Duration = Duration::from_millis(100);
        const DELIVERY_MOST: Duration = Duration::from_secs(15 * 60);
        Self {
            dead_letter_topic: reader.read("kafka_deadletter_topic"),
            retry_topic: reader.optional("kafka_retry_topic"),
            forward_topic: reader.read("kafka_long_topic"),
            session_timeout: Duration::from_millis(reader.read_within("kafka_session_timeout_ms", SESSION_TIMEOUT_MS)),
            offset_reset: reader.read("kafka_auto_offset_reset"),
            assignment_strategy: reader.read("kafka_assignment_strategy"),
            group_instance_id: reader.optional("kafka_group_instance_id"),
            prefetch_bytes: reader.read_within("kafka_prefetch_bytes", PREFETCH_LEAST..=PREFETCH_MOST),
            commit_interval: reader.read_within("kafka_commit_interval", Duration::from_millis(1)..=COMMIT_MOST),
            send_timeout: Duration::from_millis(reader.read_within("kafka_send_timeout_ms", 0..=3_600_000)),
            delivery_timeout: reader.read_within("kafka_delivery_timeout", Duration::from_secs(1)..=DELIVERY_MOST),
            max_message_bytes: reader.read_within("max_message_size", MESSAGE_LEAST..=MESSAGE_MOST),
            create: creation(reader),
        }
    }
}

fn creation(reader: &mut Reader<'_>) -> Option<TopicCreation> {
    const PARTITIONS_MOST: NonZeroU32 = NonZeroU32::MIN.saturating_add(i32::MAX.unsigned_abs() - 1);
    const REPLICAS_MOST: NonZeroU16 = NonZeroU16::MIN.saturating_add(i16::MAX.unsigned_abs() - 1);
    let wanted: bool = reader.read("create_missing_topics");
    let partitions = reader.read_within("default_topic_partitions", NonZeroU32::MIN..=PARTITIONS_MOST);
    let replication = reader.optional_within("default_topic_replication_factor", NonZeroU16::MIN..=REPLICAS_MOST);
    wanted.then_some(TopicCreation { partitions, replication })
}
