//! What we may do with a topic.

use std::{ptr, time::Duration};

use rdkafka::{
    bindings as ffi,
    client::{Client, ClientContext},
    types::RDKafkaErrorCode,
};

use super::{
    Failure,
    admin::{ask, broker_of, c_string, unexpected},
    handles::text,
};

/// A topic, and what the cluster lets us do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicRights {
    pub(crate) partitions: usize,
    pub(crate) read: bool,
    pub(crate) write: bool,
}

/// Asks the cluster for a topic and our rights on it; `None` if there is no such topic, or none that we may know of. Waits at
/// most `timeout` for each of two requests.
pub(crate) fn rights_on_topic<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Option<TopicRights>, Failure> {
    let name = c_string(topic)?;
    let Some(broker) = broker_of(client, topic, timeout)? else { return Ok(None) };
    let operation = ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    let event = ask(client, operation, timeout, |rk, options, queue| {
        let mut names = [name.as_ptr()];
        // SAFETY: the options and the one name live; no text is wanted; an error of an option, which is null as these are
        // known to this request, would be ours to destroy. The collection is copied by the request and destroyed here.
        unsafe {
            ffi::rd_kafka_AdminOptions_set_broker(options, broker, ptr::null_mut(), 0);
            let error = ffi::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
            if !error.is_null() {
                ffi::rd_kafka_error_destroy(error);
            }
            let topics = ffi::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
            ffi::rd_kafka_DescribeTopics(rk, topics, options, queue);
            ffi::rd_kafka_TopicCollection_destroy(topics);
        }
    })?;
    let mut count = 0;
    // SAFETY: the event is of this kind (else the result is null); what it holds lives as long as it does.
    unsafe {
        let result = ffi::rd_kafka_event_DescribeTopics_result(event.ptr());
        if result.is_null() {
            return Err(unexpected(topic));
        }
        let topics = ffi::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if topics.is_null() || count == 0 {
            return Err(unexpected(topic));
        }
        rights(*topics)
    }
}

/// # Safety
/// `description` is alive.
unsafe fn rights(description: *const ffi::rd_kafka_TopicDescription_t) -> Result<Option<TopicRights>, Failure> {
    let (mut partitions, mut count) = (0, 0);
    // SAFETY: by the caller's promise; all belongs to the description. What is allowed is a list of numbers of C's
    // enumeration, which is read as numbers, so that one that is not known here does no harm.
    let allowed = unsafe {
        let error = ffi::rd_kafka_TopicDescription_error(description);
        if !error.is_null() {
            match RDKafkaErrorCode::from(ffi::rd_kafka_error_code(error)) {
                RDKafkaErrorCode::NoError => {}
                RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => return Ok(None),
                code => return Err(Failure::new(code, text(ffi::rd_kafka_error_string(error)))),
            }
        }
        ffi::rd_kafka_TopicDescription_partitions(description, &raw mut partitions);
        let operations = ffi::rd_kafka_TopicDescription_authorized_operations(description, &raw mut count);
        let operations = operations.cast::<u32>();
        if operations.is_null() { &[] } else { std::slice::from_raw_parts(operations, count) }
    };
    let all = ffi::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_ALL as u32;
    let may = |operation: ffi::rd_kafka_AclOperation_t| allowed.contains(&(operation as u32)) || allowed.contains(&all);
    Ok(Some(TopicRights {
        partitions,
        read: may(ffi::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_READ),
        write: may(ffi::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE),
    }))
}
