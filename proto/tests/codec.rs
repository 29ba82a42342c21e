//! What the broker reads from activations, and the retries it composes.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]
#![expect(deprecated, reason = "old producers may still set the JSON parameters")]

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use taskbroker_domain::{
    activation::{Activation, ActivationId, ID_MAX_BYTES, OnFailure, PartitionId, RetryWish, Route, TopicId},
    ports::{
        codec::{ActivationCodec, Retry, Undecodable},
        source::Record,
    },
    time::Timestamp,
};
use taskbroker_proto::{
    MARK_HEADER,
    codec::{Codec, NAME_MAX_BYTES, RUN_LIMIT_MAX},
    pb::{OnAttemptsExceeded, RetryState, TaskActivation},
};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const KAFKA_TIME: Timestamp = Timestamp::from_millis(1_700_000_000_123);
const RECEIVED_AT: Timestamp = Timestamp::from_millis(1_799_999_990_500);
/// The whole millisecond in which its last nanosecond ends: from where a delay counts.
const RECEIVED_BY: Timestamp = Timestamp::from_millis(1_799_999_990_501);

fn activation() -> TaskActivation {
    TaskActivation {
        id: "0af7651916cd43dd8448eb211c80319c".into(),
        namespace: "tests".into(),
        taskname: "tests.say_hello".into(),
        headers: HashMap::from([("compression-type".into(), "zstd".into())]),
        received_at: Some(prost_types::Timestamp { seconds: 1_799_999_990, nanos: 500_999_999 }),
        retry_state: Some(RetryState {
            attempts: 2,
            max_attempts: 5,
            on_attempts_exceeded: OnAttemptsExceeded::Deadletter.into(),
            at_most_once: Some(true),
            delay_on_retry: Some(30),
        }),
        processing_deadline_duration: 10,
        expires: Some(600),
        delay: Some(60),
        application: Some("shop".into()),
        parameters_bytes: Bytes::from_static(&[0x82, 0xff, 0x00]),
        ..Default::default()
    }
}

fn minimal() -> TaskActivation {
    TaskActivation { id: "i".into(), ..Default::default() }
}

fn partition() -> PartitionId {
    PartitionId { topic: "t".into(), topic_id: TopicId([7; 16]), group: "g".into(), partition: 0 }
}

fn record(payload: impl Into<Bytes>) -> Record {
    Record { payload: payload.into(), timestamp: Some(KAFKA_TIME), ..Record::default() }
}

fn decode(payload: impl Into<Bytes>) -> Result<Activation, Undecodable> {
    Codec::default().decode(&record(payload), &partition(), NOW)
}

fn decoded(activation: &TaskActivation) -> Activation {
    decode(activation.encode_to_vec()).unwrap()
}

fn reason(payload: impl Into<Bytes>) -> String {
    decode(payload).unwrap_err().reason
}

/// The minimal activation followed by these bytes.
fn with(tail: &[u8]) -> Vec<u8> {
    [minimal().encode_to_vec().as_slice(), tail].concat()
}

#[test]
fn every_field_the_broker_needs_is_read() {
    let payload = Bytes::from(activation().encode_to_vec());
    let read = decode(payload.clone()).unwrap();
    assert_eq!(&*read.id.text(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(*read.route, Route::new("shop", "tests", "tests.say_hello"));
    assert_eq!(read.received_at, RECEIVED_AT);
    assert_eq!(read.terms.run_limit, Duration::from_secs(10));
    assert_eq!(read.terms.expires_at, Some(RECEIVED_AT.saturating_add(Duration::from_secs(600))));
    assert_eq!(read.terms.delayed_until, Some(RECEIVED_BY.saturating_add(Duration::from_secs(60))));
    assert!(read.terms.at_most_once);
    assert_eq!(read.terms.on_failure, OnFailure::DeadLetter);
    assert_eq!(read.terms.attempt, 2);
    assert!(!read.marked);
    assert_eq!(read.payload, payload);
    assert_eq!(read.payload.as_ptr(), payload.as_ptr(), "the payload is not copied");
}

#[test]
fn an_activation_that_says_nothing_but_its_id_is_read() {
    let read = decoded(&minimal());
    assert_eq!(*read.route, Route::new("", "", ""));
    assert_eq!(read.received_at, KAFKA_TIME);
    assert_eq!(read.terms, taskbroker_domain::activation::Terms::default());
}

#[test]
fn received_at_is_the_activations_word_then_kafkas_then_now() {
    let at = |seconds, nanos| {
        let received_at = Some(prost_types::Timestamp { seconds, nanos });
        decoded(&TaskActivation { received_at, ..minimal() }).received_at
    };
    assert_eq!(at(1, 2_000_000), Timestamp::from_millis(1002));
    assert_eq!(at(-1, 0), Timestamp::from_millis(0));
    assert_eq!(at(i64::MAX, 0), KAFKA_TIME);
    assert_eq!(at(i64::MIN, 0), KAFKA_TIME);
    assert_eq!(at(1, -1), KAFKA_TIME);
    assert_eq!(at(1, 1_000_000_000), KAFKA_TIME);
    let neither = Record { timestamp: None, ..record(minimal().encode_to_vec()) };
    assert_eq!(Codec::default().decode(&neither, &partition(), NOW).unwrap().received_at, NOW);
}

#[test]
fn a_record_with_our_header_is_marked() {
    let headers = vec![("other".to_owned(), Bytes::new()), (MARK_HEADER.to_owned(), Bytes::from_static(b"retry"))];
    let marked = Record { headers, ..record(minimal().encode_to_vec()) };
    assert!(Codec::default().decode(&marked, &partition(), NOW).unwrap().marked);
}

#[test]
fn absurd_durations_are_cut() {
    let absurd = TaskActivation {
        received_at: activation().received_at,
        processing_deadline_duration: u64::MAX,
        expires: Some(u64::MAX),
        delay: Some(u64::MAX),
        ..minimal()
    };
    let terms = decoded(&absurd).terms;
    assert_eq!(terms.run_limit, RUN_LIMIT_MAX);
    assert_eq!(terms.expires_at, Some(Timestamp::MAX));
    assert_eq!(terms.delayed_until, Some(RECEIVED_BY.saturating_add(Duration::from_secs(3600))));
}

#[test]
fn a_delay_from_the_far_future_ends_within_the_longest_delay() {
    let received_at = Some(prost_types::Timestamp { seconds: 253_402_300_799, nanos: 0 });
    let far = TaskActivation { received_at, delay: Some(1), ..minimal() };
    assert_eq!(decoded(&far).terms.delayed_until, Some(NOW.saturating_add(Duration::from_secs(3600))));
}

#[test]
fn the_longest_delay_is_a_setting_and_a_delay_of_zero_is_none() {
    let delayed = |delay| TaskActivation { received_at: activation().received_at, delay, ..minimal() }.encode_to_vec();
    let codec = Codec::new(Duration::from_secs(5));
    let until = |delay| codec.decode(&record(delayed(delay)), &partition(), NOW).unwrap().terms.delayed_until;
    assert_eq!(until(Some(100)), Some(RECEIVED_BY.saturating_add(Duration::from_secs(5))));
    assert_eq!(until(Some(0)), None);
    assert_eq!(until(None), None);
}

#[test]
fn a_delay_ends_with_the_millisecond_and_never_before() {
    let until = |nanos| {
        let received_at = Some(prost_types::Timestamp { seconds: 100, nanos });
        decoded(&TaskActivation { received_at, delay: Some(2), expires: Some(3), ..minimal() }).terms
    };
    assert_eq!(until(5_000_000).delayed_until, Some(Timestamp::from_millis(102_005)));
    assert_eq!(until(5_000_001).delayed_until, Some(Timestamp::from_millis(102_006)));
    assert_eq!(until(5_999_999).delayed_until, Some(Timestamp::from_millis(102_006)));
    assert_eq!(until(5_999_999).expires_at, Some(Timestamp::from_millis(103_005)), "and an expiry not after it");
}

#[test]
fn an_expiry_of_zero_seconds_is_at_once() {
    let expired = TaskActivation { received_at: activation().received_at, expires: Some(0), ..minimal() };
    assert_eq!(decoded(&expired).terms.expires_at, Some(RECEIVED_AT));
}

#[test]
fn what_is_no_activation_is_refused_by_field_and_reason() {
    assert_eq!(reason(Bytes::new()), "the payload is empty");
    assert_eq!(
        reason(TaskActivation { id: String::new(), ..activation() }.encode_to_vec()),
        "id cannot be read: it is missing"
    );
    assert_eq!(reason(&b"\xff\xff\xff\xff\xff\xff"[..]), "the activation cannot be read: it is cut off");
    assert_eq!(reason(&b"hello, world"[..]), "parameters_bytes cannot be read: it has another type");
    assert_eq!(reason(with(b"\x12\x02\xff\xfe")), "namespace cannot be read: it is not UTF-8");
    assert_eq!(reason(with(b"\x1a\x02\xff\xfe")), "taskname cannot be read: it is not UTF-8");
    assert_eq!(reason(with(b"\x22\x02\xff\xfe")), "parameters cannot be read: it is not UTF-8");
    assert_eq!(reason(with(b"\x62\x02\xff\xfe")), "application cannot be read: it is not UTF-8");
    assert_eq!(reason(with(b"\x2a\x03\x0a\x01\xff")), "headers key cannot be read: it is not UTF-8");
    assert_eq!(reason(with(b"\x2a\x03\x12\x01\xff")), "headers value cannot be read: it is not UTF-8");
    assert_eq!(reason(with(b"\x2a\x02\x0a\x05")), "headers cannot be read: it is cut off");
    assert_eq!(reason(with(b"\x32\x01\x08")), "received_at cannot be read: it is cut off");
    assert_eq!(reason(with(b"\x3a\x01\x08")), "retry_state cannot be read: it is cut off");
    assert_eq!(reason(with(b"\x38\x01")), "retry_state cannot be read: it has another type");
    assert_eq!(reason(with(b"\x42\x01\x01")), "processing_deadline_duration cannot be read: it has another type");
    assert_eq!(
        reason(with(b"\x3a\x02\x18\x07")),
        "retry_state.on_attempts_exceeded cannot be read: unknown enumeration value 7"
    );
}

#[test]
fn an_id_or_a_name_that_no_store_could_keep_is_refused() {
    let id = |id: String| TaskActivation { id, ..minimal() }.encode_to_vec();
    assert!(decode(id("x".repeat(ID_MAX_BYTES))).is_ok());
    assert_eq!(
        reason(id("x".repeat(ID_MAX_BYTES + 1))),
        "id cannot be read: it is 256 bytes long, and 255 are allowed"
    );
    assert_eq!(reason(id("a\0b".into())), "id cannot be read: it contains a NUL");
    let name = |taskname: String| TaskActivation { taskname, ..minimal() }.encode_to_vec();
    assert!(decode(name("x".repeat(NAME_MAX_BYTES))).is_ok());
    assert!(reason(name("x".repeat(NAME_MAX_BYTES + 1))).starts_with("taskname cannot be read: it is 1025 bytes long"));
}

#[test]
fn unknown_fields_are_no_obstacle() {
    assert!(decode(with(b"\x50\x01\x7a\x01z\xf9\x07\x01\x02\x03\x04\x05\x06\x07\x08")).is_ok());
}

fn retry_of(activation: &TaskActivation, wish: RetryWish) -> TaskActivation {
    TaskActivation::decode(retry_bytes(&activation.encode_to_vec(), wish)).unwrap()
}

fn retry_bytes(payload: &[u8], wish: RetryWish) -> Bytes {
    let retry = Retry { id: ActivationId::new("derived"), received_at: Timestamp::from_millis(5_250), wish };
    Codec::default().retry(&Bytes::copy_from_slice(payload), &retry).unwrap()
}

fn expected_retry(mut activation: TaskActivation, wish: RetryWish) -> TaskActivation {
    activation.id = "derived".into();
    activation.received_at = Some(prost_types::Timestamp { seconds: 5, nanos: 250_000_000 });
    activation.delay = wish.delay_s;
    if let Some(state) = &mut activation.retry_state {
        state.attempts = state.attempts.saturating_add(1);
        state.max_attempts = wish.max_attempts.unwrap_or(state.max_attempts);
        state.delay_on_retry = wish.delay_s.or(state.delay_on_retry);
        activation.delay = state.delay_on_retry;
    }
    activation
}

#[test]
fn a_retry_is_the_same_task_with_one_attempt_more() {
    let retry = retry_of(&activation(), RetryWish::default());
    assert_eq!(retry, expected_retry(activation(), RetryWish::default()));
    assert_eq!(retry.delay, Some(30));
    assert_eq!(retry.retry_state.unwrap().attempts, 3);
}

#[test]
fn a_retry_follows_the_workers_wish() {
    let wish = RetryWish { max_attempts: Some(9), delay_s: Some(0) };
    let retry = retry_of(&activation(), wish);
    assert_eq!(retry, expected_retry(activation(), wish));
    assert_eq!(retry.delay, Some(0));
    assert_eq!(retry.retry_state.unwrap().max_attempts, 9);
}

#[test]
fn the_delay_of_the_original_does_not_pass_on_to_its_retry() {
    let mut original = activation();
    original.retry_state.as_mut().unwrap().delay_on_retry = None;
    assert_eq!(retry_of(&original, RetryWish::default()).delay, None);
}

#[test]
fn a_task_without_a_retry_state_gets_none_by_being_retried() {
    let original = TaskActivation { retry_state: None, ..activation() };
    assert_eq!(retry_of(&original, RetryWish::default()).retry_state, None);
    assert_eq!(retry_of(&original, RetryWish { delay_s: Some(7), max_attempts: None }).delay, Some(7));
}

#[test]
fn a_retry_keeps_what_this_program_does_not_know() {
    let unknown = b"\xa2\x06\x03abc";
    let unknown_in_state = b"\x3a\x04\x9a\x06\x01z";
    let payload = [activation().encode_to_vec().as_slice(), unknown, unknown_in_state].concat();
    let retry = retry_bytes(&payload, RetryWish::default());
    assert!(retry.ends_with(unknown));
    assert!(retry.windows(4).any(|bytes| bytes == b"\x9a\x06\x01z"));
    assert_eq!(TaskActivation::decode(retry).unwrap(), expected_retry(activation(), RetryWish::default()));
}

#[test]
fn what_cannot_be_read_cannot_be_retried() {
    let retry = Retry { id: ActivationId::new("derived"), received_at: NOW, wish: RetryWish::default() };
    let refused = Codec::default().retry(&Bytes::from_static(b"\x0a\x05x"), &retry).unwrap_err();
    assert_eq!(refused.reason, "the activation cannot be read: it is cut off");
}

prop_compose! {
    fn retry_states()(
        attempts: u32, max_attempts: u32, on_attempts_exceeded in 0..3i32, at_most_once: Option<bool>, delay_on_retry: Option<u64>,
    ) -> RetryState {
        RetryState { attempts, max_attempts, on_attempts_exceeded, at_most_once, delay_on_retry }
    }
}

prop_compose! {
    fn activations()(
        id in "[^\0]{1,40}", namespace in "[^\0]{0,20}", taskname in "[^\0]{0,20}", parameters in ".{0,20}",
        headers in prop::collection::hash_map(".{0,8}", ".{0,8}", 0..3),
        received_at in prop::option::of((any::<i64>(), any::<i32>())),
        retry_state in prop::option::of(retry_states()),
        (processing_deadline_duration, expires, delay) in any::<(u64, Option<u64>, Option<u64>)>(),
        application in prop::option::of("[^\0]{0,20}"),
        parameters_bytes in prop::collection::vec(any::<u8>(), 0..50),
    ) -> TaskActivation {
        let received_at = received_at.map(|(seconds, nanos)| prost_types::Timestamp { seconds, nanos });
        TaskActivation {
            id, namespace, taskname, parameters, headers, received_at, retry_state, processing_deadline_duration, expires,
            delay, application, parameters_bytes: parameters_bytes.into(),
        }
    }
}

prop_compose! {
    /// A valid activation with a few bytes overwritten, removed or repeated.
    fn damaged()(
        activation in activations(),
        wounds in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 0..6),
    ) -> Vec<u8> {
        let mut bytes = activation.encode_to_vec();
        for (at, byte, kind) in wounds {
            let at = at.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
            match kind {
                _ if bytes.is_empty() => bytes.push(byte),
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, byte),
                _ => bytes.truncate(at),
            }
        }
        bytes
    }
}

/// What passes is also readable by prost, and both say the same.
fn agrees_with_prost(bytes: Vec<u8>) {
    let Ok(read) = decode(bytes.clone()) else { return };
    let known = TaskActivation::decode(bytes.as_slice()).expect("what was accepted can be read by a worker");
    assert_eq!(&*read.id.text(), known.id);
    assert_eq!(*read.route, Route::new(known.application(), &known.namespace, &known.taskname));
    assert_eq!(read.terms.run_limit, Duration::from_secs(known.processing_deadline_duration).min(RUN_LIMIT_MAX));
    assert_eq!(read.terms.expires_at.is_some(), known.expires.is_some());
    assert_eq!(read.terms.delayed_until.is_some(), known.delay.unwrap_or(0) > 0);
    let state = known.retry_state.unwrap_or_default();
    assert_eq!(read.terms.attempt, state.attempts);
    assert_eq!(read.terms.at_most_once, state.at_most_once());
    let dead_letter = state.on_attempts_exceeded() == OnAttemptsExceeded::Deadletter;
    assert_eq!(read.terms.on_failure == OnFailure::DeadLetter, dead_letter);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_valid_activation_is_read_as_prost_reads_it(activation in activations()) {
        prop_assert!(decode(activation.encode_to_vec()).is_ok());
        agrees_with_prost(activation.encode_to_vec());
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        agrees_with_prost(bytes);
    }

    #[test]
    fn damaged_activations_are_refused_or_read_as_prost_reads_them(bytes in damaged()) {
        agrees_with_prost(bytes);
    }

    #[test]
    fn an_activation_that_is_read_can_be_retried_and_its_retry_read(
        bytes in damaged(), max_attempts: Option<u32>, delay_s: Option<u64>,
    ) {
        let wish = RetryWish { max_attempts, delay_s };
        if decode(bytes.clone()).is_ok() {
            let retry = retry_bytes(&bytes, wish);
            let original = TaskActivation::decode(bytes.as_slice()).unwrap();
            prop_assert_eq!(TaskActivation::decode(retry.clone()).unwrap(), expected_retry(original, wish));
            prop_assert!(decode(retry).is_ok());
        }
    }
}
