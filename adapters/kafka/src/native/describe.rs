//! What the cluster says of one topic: whether there is one of this name, its id, and what we may do with it.

use std::{ptr, slice, time::Duration};

use rdkafka::{
    bindings as ffi,
    client::{Client, ClientContext},
    types::RDKafkaErrorCode,
};
use taskbroker_domain::activation::TopicId;

use super::{
    Failure,
    admin::{ask, c_string, unexpected},
    handles::{Event, text},
};

/// Whether a topic exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TopicSight {
    /// It exists, under this id.
    Present(TopicId),
    /// There is none of this name.
    Missing,
}

/// A topic, and what the cluster lets us do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicRights {
    pub(crate) partitions: usize,
    pub(crate) read: bool,
    pub(crate) write: bool,
}

/// Asks the cluster for a topic's id. Waits at most `timeout` for each of two requests.
pub(crate) fn sight_topic<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<TopicSight, Failure> {
    let Some(answer) = describe(client, topic, Rights::Omitted, timeout)? else { return Ok(TopicSight::Missing) };
    let description = answer.description(topic)?;
    // SAFETY: the description belongs to the answer, which lives; the id belongs to the description.
    let id = unsafe { ffi::rd_kafka_TopicDescription_topic_id(description) };
    // SAFETY: as above.
    Ok(TopicSight::Present(if id.is_null() { TopicId::default() } else { unsafe { topic_id(id) } }))
}

/// Asks the cluster for a topic and our rights on it; `None` if there is no such topic, or none that we may know of. Waits at
/// most `timeout` for each of two requests.
pub(crate) fn rights_on_topic<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Option<TopicRights>, Failure> {
    let Some(answer) = describe(client, topic, Rights::Wanted, timeout)? else { return Ok(None) };
    let description = answer.description(topic)?;
    let (mut partitions, mut count) = (0, 0);
    // SAFETY: the description belongs to the answer, which lives, and all else to the description. What is allowed is a list of
    // numbers of C's enumeration, which is read as numbers, so that one that is not known here does no harm.
    let allowed = unsafe {
        ffi::rd_kafka_TopicDescription_partitions(description, &raw mut partitions);
        let operations = ffi::rd_kafka_TopicDescription_authorized_operations(description, &raw mut count);
        let operations = operations.cast::<u32>();
        if operations.is_null() { &[] } else { slice::from_raw_parts(operations, count) }
    };
    let all = ffi::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_ALL as u32;
    let may = |operation: ffi::rd_kafka_AclOperation_t| allowed.contains(&(operation as u32)) || allowed.contains(&all);
    Ok(Some(TopicRights {
        partitions,
        read: may(ffi::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_READ),
        write: may(ffi::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE),
    }))
}

/// Whether the cluster is asked what we may do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rights {
    Wanted,
    Omitted,
}

/// An answer about one topic, which exists.
struct Answer(Event);

/// `None`: there is no such topic. Any broker can answer, but librdkafka would ask the controller only, unless it is told a broker
/// that answered before.
fn describe<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    rights: Rights,
    timeout: Duration,
) -> Result<Option<Answer>, Failure> {
    let name = c_string(topic)?;
    let Some(broker) = broker_of(client, topic, timeout)? else { return Ok(None) };
    let operation = ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    let event = ask(client, operation, timeout, |rk, options, queue| {
        let mut names = [name.as_ptr()];
        // SAFETY: the options and the one name live; no text is wanted; an error of an option, which is null as these are
        // known to this request, would be ours to destroy. The collection is copied by the request and destroyed here.
        unsafe {
            ffi::rd_kafka_AdminOptions_set_broker(options, broker, ptr::null_mut(), 0);
            let wanted = i32::from(rights == Rights::Wanted);
            let error = ffi::rd_kafka_AdminOptions_set_include_authorized_operations(options, wanted);
            if !error.is_null() {
                ffi::rd_kafka_error_destroy(error);
            }
            let topics = ffi::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
            ffi::rd_kafka_DescribeTopics(rk, topics, options, queue);
            ffi::rd_kafka_TopicCollection_destroy(topics);
        }
    })?;
    let answer = Answer(event);
    // SAFETY: the description lives as long as the answer, and the error as long as the description.
    let (code, reason) = unsafe {
        let error = ffi::rd_kafka_TopicDescription_error(answer.description(topic)?);
        if error.is_null() {
            return Ok(Some(answer));
        }
        (RDKafkaErrorCode::from(ffi::rd_kafka_error_code(error)), text(ffi::rd_kafka_error_string(error)))
    };
    match code {
        RDKafkaErrorCode::NoError => Ok(Some(answer)),
        code if is_missing(code) => Ok(None),
        code => Err(Failure::new(code, reason)),
    }
}

impl Answer {
    /// What it says of the topic; lives as long as the answer.
    fn description(&self, topic: &str) -> Result<*const ffi::rd_kafka_TopicDescription_t, Failure> {
        let mut count = 0;
        // SAFETY: the event is of this kind (else the result is null); what it holds lives as long as it does.
        unsafe {
            let result = ffi::rd_kafka_event_DescribeTopics_result(self.0.ptr());
            if result.is_null() {
                return Err(unexpected(topic));
            }
            let topics = ffi::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            if topics.is_null() || count == 0 { Err(unexpected(topic)) } else { Ok(*topics) }
        }
    }
}

fn is_missing(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)
}

/// A broker that knows the topic; `None` if there is no such topic.
fn broker_of<C: ClientContext>(client: &Client<C>, topic: &str, timeout: Duration) -> Result<Option<i32>, Failure> {
    let metadata = client.fetch_metadata(Some(topic), timeout).map_err(|error| {
        Failure::new(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail), error.to_string())
    })?;
    let error = metadata.topics().first().and_then(|topic| topic.error()).map(RDKafkaErrorCode::from);
    if error.is_some_and(is_missing) {
        return Ok(None);
    }
    let (asked, known) = (metadata.orig_broker_id(), metadata.brokers());
    let broker = known.iter().find(|broker| broker.id() == asked).or(known.first());
    broker.map(|broker| Some(broker.id())).ok_or_else(|| unexpected("brokers"))
}

/// # Safety
/// `id` is alive.
unsafe fn topic_id(id: *const ffi::rd_kafka_Uuid_t) -> TopicId {
    // SAFETY: by the caller's promise.
    let (most, least) =
        unsafe { (ffi::rd_kafka_Uuid_most_significant_bits(id), ffi::rd_kafka_Uuid_least_significant_bits(id)) };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&most.to_be_bytes());
    bytes[8..].copy_from_slice(&least.to_be_bytes());
    TopicId(bytes)
}
