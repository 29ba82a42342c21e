//! Questions to the cluster that have an answer in librdkafka's admin interface only.

use std::{collections::BTreeMap, ffi::CString, ops::Range, ptr, time::Duration};

use rdkafka::{
    Offset, TopicPartitionList, bindings as ffi,
    client::{Client, ClientContext},
    types::RDKafkaErrorCode,
};

use super::{
    Failure,
    handles::{Event, Queue, millis, text},
};

/// The first offset and the offset after the last record of each partition's log, open transactions included. Waits at
/// most `timeout` for each of two requests. All partitions, or an error.
pub(crate) fn log_ranges<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    partitions: &[i32],
    timeout: Duration,
) -> Result<BTreeMap<i32, Range<i64>>, Failure> {
    const EARLIEST: i64 = ffi::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST as i64;
    const LATEST: i64 = ffi::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST as i64;
    let starts = list_offsets(client, topic, partitions, EARLIEST, timeout)?;
    let ends = list_offsets(client, topic, partitions, LATEST, timeout)?;
    let range = |partition: &i32| match (starts.get(partition), ends.get(partition)) {
        (Some(start), Some(end)) => Ok((*partition, *start..*end)),
        _ => Err(unexpected(topic)),
    };
    partitions.iter().map(range).collect()
}

fn list_offsets<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    partitions: &[i32],
    which: i64,
    timeout: Duration,
) -> Result<BTreeMap<i32, i64>, Failure> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition_offset(topic, *partition, Offset::from_raw(which))
            .map_err(|error| Failure::new(RDKafkaErrorCode::InvalidArgument, error.to_string()))?;
    }
    let operation = ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
    let event = ask(client, operation, timeout, |rk, options, queue| {
        // SAFETY: all live during the call; the list is copied by the request.
        unsafe { ffi::rd_kafka_ListOffsets(rk, list.ptr(), options, queue) };
    })?;
    let mut count = 0;
    // SAFETY: the event is of this kind (else the result is null); what it holds lives as long as it does.
    unsafe {
        let result = ffi::rd_kafka_event_ListOffsets_result(event.ptr());
        if result.is_null() {
            return Err(unexpected(topic));
        }
        let infos = ffi::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
        (0..count).map(|index| listed_offset(*infos.add(index))).collect()
    }
}

/// # Safety
/// `info` is alive.
unsafe fn listed_offset(info: *const ffi::rd_kafka_ListOffsetsResultInfo_t) -> Result<(i32, i64), Failure> {
    // SAFETY: by the caller's promise; the partition belongs to it.
    let entry = unsafe { &*ffi::rd_kafka_ListOffsetsResultInfo_topic_partition(info) };
    match RDKafkaErrorCode::from(entry.err) {
        RDKafkaErrorCode::NoError => Ok((entry.partition, entry.offset)),
        code => Err(Failure::new(code, format!("partition {}", entry.partition))),
    }
}

/// Sends one admin request and waits for its answer.
pub(super) fn ask<C: ClientContext>(
    client: &Client<C>,
    operation: ffi::rd_kafka_admin_op_t,
    timeout: Duration,
    send: impl FnOnce(*mut ffi::rd_kafka_t, *mut ffi::rd_kafka_AdminOptions_t, *mut ffi::rd_kafka_queue_t),
) -> Result<Event, Failure> {
    let rk = client.native_ptr();
    // SAFETY: the client lives longer than the queue, which is local.
    let queue = Queue::owning(unsafe { ffi::rd_kafka_queue_new(rk) }).ok_or_else(|| unexpected("queue"))?;
    // SAFETY: the options are made here, used by the request, and destroyed here; the request copies them.
    unsafe {
        let options = ffi::rd_kafka_AdminOptions_new(rk, operation);
        if options.is_null() {
            return Err(unexpected("options"));
        }
        ffi::rd_kafka_AdminOptions_set_request_timeout(options, millis(timeout), ptr::null_mut(), 0);
        send(rk, options, queue.ptr());
        ffi::rd_kafka_AdminOptions_destroy(options);
    }
    // The request times out by itself; the margin is for its answer to arrive.
    let event = queue.poll(timeout + Duration::from_millis(500)).ok_or_else(|| Failure::timed_out("admin request"))?;
    // SAFETY: the event lives; the text is copied.
    let (code, text) = unsafe {
        let code = RDKafkaErrorCode::from(ffi::rd_kafka_event_error(event.ptr()));
        (code, text(ffi::rd_kafka_event_error_string(event.ptr())))
    };
    if code == RDKafkaErrorCode::NoError { Ok(event) } else { Err(Failure::new(code, text)) }
}

pub(super) fn unexpected(what: &str) -> Failure {
    Failure::new(RDKafkaErrorCode::Fail, format!("{what}: an answer without what was asked for"))
}

pub(super) fn c_string(text: &str) -> Result<CString, Failure> {
    CString::new(text).map_err(|error| Failure::new(RDKafkaErrorCode::InvalidArgument, error.to_string()))
}
