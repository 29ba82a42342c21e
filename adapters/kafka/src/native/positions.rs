//! Positions with what the safe bindings do not show of them.

use std::{ffi::CString, slice};

use rdkafka::{TopicPartitionList, bindings as ffi, types::RDKafkaErrorCode};

/// Sets the leader epoch of an entry of the list; does nothing when the list has no such entry.
pub(crate) fn set_leader_epoch(list: &mut TopicPartitionList, topic: &str, partition: i32, epoch: i32) {
    let Ok(topic) = CString::new(topic) else {
        return;
    };
    // SAFETY: list and name live; the entry found belongs to the list.
    unsafe {
        let entry = ffi::rd_kafka_topic_partition_list_find(list.ptr(), topic.as_ptr(), partition);
        if !entry.is_null() {
            ffi::rd_kafka_topic_partition_set_leader_epoch(entry, epoch);
        }
    }
}

/// An entry of a list of committed positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommittedEntry {
    pub(crate) partition: i32,
    /// Negative where nothing is committed.
    pub(crate) offset: i64,
    /// Whatever was written beside it; bytes that are no UTF-8 are replaced.
    pub(crate) metadata: String,
    pub(crate) error: Option<RDKafkaErrorCode>,
}

/// The entries of a list. Unlike the safe accessor it takes any metadata: others may write there what they like.
pub(crate) fn committed_entries(list: &TopicPartitionList) -> Vec<CommittedEntry> {
    let count = list.count();
    // SAFETY: the list lives and has `count` entries.
    let entries = unsafe {
        let list = &*list.ptr();
        if list.elems.is_null() { &[] } else { slice::from_raw_parts(list.elems, count) }
    };
    entries.iter().map(committed_entry).collect()
}

fn committed_entry(entry: &ffi::rd_kafka_topic_partition_t) -> CommittedEntry {
    let metadata = if entry.metadata.is_null() || entry.metadata_size == 0 {
        String::new()
    } else {
        // SAFETY: the entry owns that many bytes.
        let bytes = unsafe { slice::from_raw_parts(entry.metadata.cast::<u8>(), entry.metadata_size) };
        String::from_utf8_lossy(bytes).into_owned()
    };
    let error = match RDKafkaErrorCode::from(entry.err) {
        RDKafkaErrorCode::NoError => None,
        code => Some(code),
    };
    CommittedEntry { partition: entry.partition, offset: entry.offset, metadata, error }
}
