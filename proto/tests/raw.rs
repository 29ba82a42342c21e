//! What becomes of the messages of a raw topic.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use serde::Deserialize;
use taskbroker_domain::{
    activation::{Activation, OnFailure, PartitionId, RetryWish, Route, TopicId},
    ports::{
        codec::{ActivationCodec, Retry},
        source::Record,
    },
    time::Timestamp,
};
use taskbroker_proto::{
    MARK_HEADER,
    codec::{Codec, RawCodec, RawTask},
    pb::TaskActivation,
};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const KAFKA_TIME: Timestamp = Timestamp::from_millis(1_700_000_000_123);

fn codec(compression_level: Option<i32>) -> RawCodec {
    RawCodec::new(RawTask {
        route: Route::new("shop", "raw.events", "events.take"),
        run_limit: Duration::from_secs(45),
        compression_level,
    })
}

fn partition(number: i32) -> PartitionId {
    PartitionId { topic: "events".into(), topic_id: TopicId([7; 16]), group: "g".into(), partition: number }
}

fn record(payload: impl Into<Bytes>) -> Record {
    Record { offset: 12, payload: payload.into(), timestamp: Some(KAFKA_TIME), ..Record::default() }
}

fn wrapped(codec: &RawCodec, record: &Record) -> (Activation, TaskActivation) {
    let activation = codec.decode(record, &partition(0), NOW).unwrap();
    let message = TaskActivation::decode(activation.payload.clone()).unwrap();
    (activation, message)
}

/// As the real client reads parameters.
#[derive(Deserialize)]
struct Parameters {
    args: Vec<rmp_serde_bytes::Binary>,
    kwargs: BTreeMap<String, String>,
}

mod rmp_serde_bytes {
    use serde::{Deserialize, Deserializer, de};

    /// msgpack's binary type and no other.
    pub(super) struct Binary(pub(super) Vec<u8>);

    impl<'de> Deserialize<'de> for Binary {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl de::Visitor<'_> for Visitor {
                type Value = Binary;

                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("binary")
                }

                fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Binary, E> {
                    Ok(Binary(bytes.to_vec()))
                }
            }
            deserializer.deserialize_bytes(Visitor)
        }
    }
}

fn argument(message: &TaskActivation) -> Vec<u8> {
    let packed = match message.headers.get("compression-type").map(String::as_str) {
        Some("zstd") => {
            let size =
                zstd::zstd_safe::get_frame_content_size(&message.parameters_bytes).unwrap().expect("it is embedded");
            let mut content = vec![0; usize::try_from(size).unwrap()];
            let length = zstd::zstd_safe::decompress(content.as_mut_slice(), &message.parameters_bytes).unwrap();
            assert_eq!(length, content.len());
            content
        }
        _ => message.parameters_bytes.to_vec(),
    };
    let Parameters { args, kwargs } = rmp_serde::from_slice(&packed).unwrap();
    assert!(kwargs.is_empty());
    let [argument] = <[_; 1]>::try_from(args).ok().expect("one argument");
    argument.0
}

#[test]
fn a_message_becomes_the_only_argument_of_the_configured_task() {
    let (activation, message) = wrapped(&codec(None), &record("payload"));
    assert_eq!(argument(&message), b"payload");
    assert_eq!(message.parameters_bytes, Bytes::from_static(b"\x82\xa4args\x91\xc4\x07payload\xa6kwargs\x80"));
    assert_eq!((message.application(), &*message.namespace, &*message.taskname), ("shop", "raw.events", "events.take"));
    assert_eq!(*activation.route, Route::new("shop", "raw.events", "events.take"));
    assert_eq!(message.processing_deadline_duration, 45);
    assert_eq!((message.retry_state, message.expires, message.delay), (None, None, None));
    assert_eq!((activation.terms.on_failure, activation.terms.at_most_once), (OnFailure::Discard, false));
    assert_eq!(activation.received_at, KAFKA_TIME);
    assert_eq!(message.received_at.unwrap(), prost_types::Timestamp { seconds: 1_700_000_000, nanos: 123_000_000 });
}

#[test]
fn a_message_without_a_value_is_one_of_no_bytes() {
    let (_, message) = wrapped(&codec(Some(3)), &record(""));
    assert_eq!(argument(&message), b"");
}

#[test]
fn headers_that_are_text_are_copied_and_none_is_taken_for_a_mark() {
    let headers = [
        ("tenant", &b"7"[..]),
        ("binary", &b"\xff\xfe"[..]),
        (MARK_HEADER, &b"retry"[..]),
        ("compression-type", &b"gzip"[..]),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), Bytes::from_static(value))).to_vec();
    let (activation, message) = wrapped(&codec(Some(3)), &Record { headers, ..record("x") });
    assert_eq!((message.headers["tenant"].as_str(), message.headers.contains_key("binary")), ("7", false));
    assert_eq!(message.headers["compression-type"], "zstd", "it says how the parameters are compressed");
    assert!(!activation.marked);
    let headers = vec![("compression-type".to_owned(), Bytes::from_static(b"zstd"))];
    let (_, plain) = wrapped(&codec(None), &Record { headers, ..record("x") });
    assert!(plain.headers.is_empty(), "clients would decompress what is not compressed");
}

#[test]
fn the_id_follows_from_the_place_in_the_log_alone() {
    let codec = codec(None);
    let id = |record: &Record, partition: &PartitionId| codec.decode(record, partition, NOW).unwrap().id;
    let first = id(&record("one"), &partition(0));
    assert_eq!(first, id(&Record { timestamp: None, ..record("other") }, &partition(0)));
    assert_eq!(first.text().len(), 36, "hyphenated: {first}");
    let recreated = PartitionId { topic_id: TopicId([8; 16]), ..partition(0) };
    let others = [
        id(&record("one"), &partition(1)),
        id(&Record { offset: 13, ..record("one") }, &partition(0)),
        id(&record("one"), &recreated),
    ];
    assert!(!others.contains(&first) && others[0] != others[1] && others[1] != others[2], "{others:?}");
}

#[test]
fn its_retry_is_an_activation_as_any_other() {
    let (activation, _) = wrapped(&codec(Some(3)), &record("payload"));
    let retry = Retry { id: activation.id.retry(1), received_at: NOW, wish: RetryWish::default() };
    let payload = codec(Some(3)).retry(&activation.payload, &retry).unwrap();
    let read = Codec::default().decode(&Record { payload: payload.clone(), ..Record::default() }, &partition(0), NOW);
    assert_eq!(read.unwrap().id, retry.id);
    assert_eq!(argument(&TaskActivation::decode(payload).unwrap()), b"payload");
}

proptest! {
    #[test]
    fn whatever_the_message_the_task_gets_it(
        payload in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..400),
            proptest::collection::vec(Just(7_u8), 65_530..65_540),
            Just(vec![1; 300]),
        ],
        level in prop_oneof![Just(None), (-5..=9).prop_map(Some)],
        offset in 0..i64::MAX,
        headers in proptest::collection::vec((".{0,5}", proptest::collection::vec(any::<u8>(), 0..5)), 0..4),
    ) {
        let headers = headers.into_iter().map(|(name, value)| (name, value.into())).collect();
        let record = Record { offset, headers, ..record(payload.clone()) };
        let (activation, message) = wrapped(&codec(level), &record);
        prop_assert_eq!(argument(&message), payload);
        prop_assert_eq!(&*message.id, &*activation.id.text());
        // What is stored is read back by the codec of activations.
        let stored = Record { payload: activation.payload.clone(), ..Record::default() };
        let read = Codec::default().decode(&stored, &partition(0), NOW).unwrap();
        prop_assert_eq!((read.id, read.route, read.terms), (activation.id, activation.route, activation.terms));
    }
}
