//! Raw topics: each message, whatever its bytes, is the argument of one task.
//!
//! The activation has the message's value as its only argument (msgpack, binary), its headers where their values are text, and
//! Kafka's time. Its id follows from its place in the log, so that the same message read again is the same task, and a topic
//! that was deleted and created again has other ids.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use taskbroker_domain::{
    activation::{Activation, ActivationId, PartitionId, Route, Terms},
    ports::{
        codec::{ActivationCodec, Retry, Undecodable},
        source::Record,
    },
    rules::Selector,
    time::Timestamp,
};
use uuid::Uuid;

use super::{RUN_LIMIT_MAX, envelope::refuse, retry};
use crate::{arguments, pb};

/// What each message of a raw topic is turned into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawTask {
    /// Who runs it.
    pub route: Route,
    /// How long it may run, in whole seconds.
    pub run_limit: Duration,
    /// zstd's level; none: the parameters are not compressed.
    pub compression_level: Option<i32>,
}

/// Wraps the messages of a raw topic.
#[derive(Debug)]
pub struct RawCodec {
    route: Arc<Route>,
    run_limit: Duration,
    compression_level: Option<i32>,
}

/// The header that says how the parameters are compressed, and what it says.
const COMPRESSION: (&str, &str) = ("compression-type", "zstd");

/// The UUIDv5 namespace of ids that follow from a place in a log; arbitrary, fixed for ever.
const PLACES: Uuid = Uuid::from_u128(0x3f0c_9ad1_6be2_4d57_a1f4_88c2_07de_95b1);

impl RawCodec {
    /// A codec for the messages of one topic.
    pub fn new(task: RawTask) -> Self {
        let RawTask { route, run_limit, compression_level } = task;
        let run_limit = Duration::from_secs(run_limit.as_secs()).min(RUN_LIMIT_MAX);
        Self { route: Arc::new(route), run_limit, compression_level }
    }

    fn wrap(&self, id: &ActivationId, record: &Record, received_at: Timestamp) -> Result<Bytes, Undecodable> {
        let mut headers = text_headers(record);
        let mut parameters = parameters(&record.payload)?;
        if let Some(level) = self.compression_level {
            parameters = compressed(&parameters, level)?;
            headers.insert(COMPRESSION.0.to_owned(), COMPRESSION.1.to_owned());
        }
        let activation = pb::TaskActivation {
            id: id.to_string(),
            namespace: (*self.route.namespace).to_owned(),
            taskname: (*self.route.task_name).to_owned(),
            application: Some((*self.route.application).to_owned()),
            headers,
            received_at: Some(retry::proto_timestamp(received_at)),
            processing_deadline_duration: self.run_limit.as_secs(),
            parameters_bytes: parameters,
            ..Default::default()
        };
        Ok(activation.encode_to_vec().into())
    }
}

impl ActivationCodec for RawCodec {
    fn decode(&self, record: &Record, partition: &PartitionId, now: Timestamp) -> Result<Activation, Undecodable> {
        let id = id(partition, record.offset);
        let received_at = record.timestamp.unwrap_or(now);
        Ok(Activation {
            payload: self.wrap(&id, record, received_at)?,
            id,
            route: Arc::clone(&self.route),
            terms: Terms { run_limit: self.run_limit, ..Terms::default() },
            received_at,
            // Whatever a producer of such a topic writes into headers is no word of ours.
            marked: false,
        })
    }

    fn selects(&self, payload: &Bytes, selector: &Selector) -> bool {
        arguments::match_any(payload, selector)
    }

    fn retry(&self, payload: &Bytes, retry: &Retry) -> Result<Bytes, Undecodable> {
        retry::compose(payload, retry)
    }
}

/// The id of what stands at this place: of the topic's id, where there is one, so that another log of the same name has other
/// ids.
fn id(partition: &PartitionId, offset: i64) -> ActivationId {
    let PartitionId { topic, topic_id, partition, .. } = partition;
    let place = format!("{topic}:{topic_id}:{partition}:{offset}");
    ActivationId::new(Uuid::new_v5(&PLACES, place.as_bytes()).hyphenated().to_string())
}

/// Without the one that would make a client decompress what is not compressed.
fn text_headers(record: &Record) -> HashMap<String, String> {
    let text = |(name, value): &(String, Bytes)| Some((name.clone(), String::from_utf8(value.to_vec()).ok()?));
    record.headers.iter().filter(|(name, _)| name != COMPRESSION.0).filter_map(text).collect()
}

/// `{"args": [payload], "kwargs": {}}` in msgpack, the payload as binary.
fn parameters(payload: &Bytes) -> Result<Bytes, Undecodable> {
    let length = u32::try_from(payload.len()).map_err(|_| refuse("the payload", "it is larger than 4 GiB"))?;
    let mut packed = BytesMut::with_capacity(payload.len() + 32);
    packed.put_slice(b"\x82\xa4args\x91");
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length), _) => packed.put_slice(&[0xc4, length]),
        (_, Ok(length)) => {
            packed.put_u8(0xc5);
            packed.put_u16(length);
        }
        _ => {
            packed.put_u8(0xc6);
            packed.put_u32(length);
        }
    }
    packed.put_slice(payload);
    packed.put_slice(b"\xa6kwargs\x80");
    Ok(packed.freeze())
}

/// As one zstd frame that says how large its content is: clients decompress it at once.
fn compressed(parameters: &[u8], level: i32) -> Result<Bytes, Undecodable> {
    let mut frame = vec![0; zstd::zstd_safe::compress_bound(parameters.len())];
    let length = zstd::zstd_safe::compress(frame.as_mut_slice(), parameters, level)
        .map_err(|code| refuse("the payload", zstd::zstd_safe::get_error_name(code)))?;
    frame.truncate(length);
    Ok(frame.into())
}
