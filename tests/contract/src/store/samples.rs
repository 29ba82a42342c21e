//! Rows, positions and commits to test with.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use taskbroker_domain::{
    activation::{ActivationId, Key, OnFailure, Origin, PartitionId, RetryWish, Route, Slot, Terms, TopicId},
    lifecycle::Publication,
    ports::{
        service::Verdict,
        store::{EarlyReport, FailureCause, NewRow, Position, Row, RowState},
    },
    time::Timestamp,
};
use uuid::Uuid;

/// A wall-clock moment, `seconds` after an arbitrary one in 2026.
pub fn moment(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_780_000_000_123 + seconds * 1_000)
}

/// An id in the form that clients use, different for each number.
pub fn id(number: u64) -> ActivationId {
    ActivationId::new(Uuid::from_u128(u128::from(number) << 64 | 0x5a).simple().to_string())
}

/// A pending row with this key, and a payload of its own.
pub fn new_row(key: u64) -> NewRow {
    let payload = Bytes::from(format!("payload of {key}"));
    NewRow { row: row(key, &payload), payload }
}

/// A pending row with this key and payload.
pub fn new_row_with(key: u64, payload: impl Into<Bytes>) -> NewRow {
    let payload = payload.into();
    NewRow { row: row(key, &payload), payload }
}

/// A pending row of this state.
pub fn new_row_in(key: u64, state: RowState) -> NewRow {
    let mut new = new_row(key);
    new.row.state = state;
    new
}

fn row(key: u64, payload: &Bytes) -> Row {
    let offset = i64::try_from(key).expect("test keys are small");
    Row {
        key: Key(key),
        id: id(key),
        route: Arc::new(Route::new("sentry", "ingest", "ingest.save_event")),
        terms: Terms { run_limit: Duration::from_secs(10), ..Terms::default() },
        received_at: moment(-1),
        added_at: moment(0),
        origin: Some(Origin { slot: Slot(1), offset }),
        marked: false,
        payload_bytes: u32::try_from(payload.len()).expect("test payloads are small"),
        lost_leases: 0,
        state: RowState::Pending { ready_at: moment(0) },
    }
}

/// Every state, with every combination of fields that differs in form.
pub fn every_state() -> Vec<RowState> {
    let mut states = vec![
        RowState::Pending { ready_at: Timestamp::default() },
        RowState::Pending { ready_at: moment(3_600) },
        RowState::Pending { ready_at: Timestamp::MAX },
        RowState::Processing { lease_ends_at: moment(17) },
        RowState::Processing { lease_ends_at: Timestamp::MAX },
    ];
    for publication in every_publication() {
        let of = || publication.clone();
        states.extend(every_wish().into_iter().map(|wish| RowState::Retry { wish, publication: of() }));
        states.push(RowState::Forward { publication: of() });
        states.extend(every_cause().into_iter().map(|cause| RowState::Failed { cause, publication: of() }));
    }
    states
}

fn every_publication() -> Vec<Publication> {
    let reasons = ["", "MessageSizeTooLarge: \"1 048 577\" > 1 000 000 · größer"];
    let parked = reasons.map(|reason| Publication::Parked(reason.into()));
    [Publication::Waiting, Publication::Begun].into_iter().chain(parked).collect()
}

/// An early report on the activation of this number.
pub fn early_report(number: u64) -> EarlyReport {
    EarlyReport { id: id(number), verdict: Verdict::Complete, of_copy: false }
}

/// Every wish that differs in form.
pub fn every_wish() -> Vec<RetryWish> {
    let attempts = [None, Some(0), Some(3), Some(u32::MAX)];
    let delays = [None, Some(0), Some(86_400), Some(i64::MAX.unsigned_abs()), Some(u64::MAX)];
    let pairs = attempts.into_iter().flat_map(|attempt| delays.into_iter().map(move |delay| (attempt, delay)));
    pairs.map(|(max_attempts, delay_s)| RetryWish { max_attempts, delay_s }).collect()
}

fn every_cause() -> Vec<FailureCause> {
    vec![
        FailureCause::Reported,
        FailureCause::LeasesExhausted,
        FailureCause::WorkerLost,
        FailureCause::InDoubt,
        FailureCause::Unreadable,
        FailureCause::Undeliverable("12 bytes, and 11 are allowed".into()),
        FailureCause::Undecodable("".into()),
        FailureCause::Undecodable("field 3: wire type 7 \u{0} 'quoted' \"twice\"".into()),
    ]
}

/// Terms that differ from the default in one or in all respects.
pub fn every_term() -> Vec<Terms> {
    let base = Terms { run_limit: Duration::from_millis(1_500), ..Terms::default() };
    vec![
        Terms::default(),
        base,
        Terms { run_limit: Duration::from_secs(86_400 * 366), ..base },
        Terms { expires_at: Some(moment(60)), ..base },
        Terms { expires_at: Some(Timestamp::MAX), delayed_until: Some(Timestamp::default()), ..base },
        Terms { delayed_until: Some(moment(600)), ..base },
        Terms { at_most_once: true, ..base },
        Terms { on_failure: OnFailure::DeadLetter, ..base },
        Terms { attempt: 7, ..base },
        Terms {
            run_limit: Duration::from_millis(1),
            expires_at: Some(moment(1)),
            delayed_until: Some(moment(2)),
            at_most_once: true,
            on_failure: OnFailure::DeadLetter,
            attempt: u32::MAX,
        },
    ]
}

/// Texts that trip up whoever quotes, trims, folds, converts or cuts them.
pub fn odd_texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "  trailing  ",
        "0",
        "007",
        "1e5",
        "-1",
        "null",
        "true",
        "[1,2]",
        "{\"a\":1}",
        "'",
        "''",
        "\"",
        "\\",
        "\\u0041",
        "\n\r\t",
        "a\u{0}b",
        "\u{0}",
        "\u{0}\u{0}",
        "%s",
        "x'41'",
        "; DROP TABLE activation; --",
        "ß",
        "Straße",
        "STRASSE",
        "é",
        "e\u{301}",
        "日本語",
        "🦀",
        "\u{202e}rtl",
        "\u{feff}bom",
        "\u{10ffff}",
        "\u{7f}",
        "\u{80}",
        "\u{2028}",
        "a",
        "A",
    ]
    .map(String::from)
    .to_vec();
    texts.push("x".repeat(255));
    texts.push("é".repeat(127));
    texts
}

/// A partition's identity.
pub fn partition(number: i32) -> Arc<PartitionId> {
    let topic_id = TopicId(Uuid::from_u128(0x00ff_0000_0000_0000_0000_0000_0000_8000).into_bytes());
    Arc::new(PartitionId { topic: "taskworker".into(), topic_id, group: "taskworker-group".into(), partition: number })
}

/// A position of partition `slot` at this watermark, with nothing special about it.
pub fn position(slot: u32, watermark: i64) -> Position {
    Position {
        slot: Slot(slot),
        partition: partition(i32::try_from(slot).expect("test slots are small")),
        watermark,
        leader_epoch: Some(4),
        settled: vec![0b1010_0101, 0, 0xff],
        acknowledged: watermark - 10,
        read_limit: watermark + 1_000,
    }
}
