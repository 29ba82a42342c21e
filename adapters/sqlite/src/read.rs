//! Rows and memories as they come out of the database. A page of rows is one JSON text: a driver's work per row and
//! column would take longer than all the rest.

use std::{borrow::Cow, sync::Arc, time::Duration};

use serde::Deserialize;
use taskbroker_domain::{
    activation::{ActivationId, Key, OnFailure, Origin, PartitionId, RetryWish, Route, Slot, Terms, TopicId},
    lifecycle::Publication,
    ports::{
        service::Verdict,
        store::{EarlyReport, FailureCause, Position, Row, RowState, StoreError, StoredState, Tombstone},
    },
    time::Timestamp,
};

use crate::{
    commit::{cause, verdict},
    error::corrupt,
    schema::state,
};

/// Rows that are read by one query: some 400 kB of text.
pub(crate) const PAGE_ROWS: usize = 2_048;

/// One page: those with keys above the first argument, as many as the second. The columns are [`crate::nonsense::COLUMNS`].
pub(crate) const ROWS: &str = "
SELECT json_group_array(json_array(
    key, id, route, slot, \"offset\", received_at_ms, added_at_ms, run_limit_ms, expires_at_ms, delayed_until_ms,
    at_most_once, dead_letter, marked, attempt, payload_bytes, lost_leases,
    state, state_at_ms, retry_max_attempts, retry_delay_s, cause, cause_reason, parked, begun
)) FROM (SELECT * FROM activation WHERE key > ?1 ORDER BY key LIMIT ?2)";

/// Everything but the rows, in one statement: so it is all of one moment.
pub(crate) const STATE: &str = "
SELECT
    (SELECT value FROM taskbroker_meta WHERE name = 'closed'),
    (SELECT max(key) FROM activation),
    (SELECT json_group_array(json_array(slot, topic, hex(topic_id), consumer_group, partition, watermark, leader_epoch,
        hex(settled), acknowledged, read_limit)) FROM position),
    (SELECT json_group_array(json_array(id, verdict, max_attempts, delay_s, of_copy)) FROM early_report),
    (SELECT json_group_array(json_array(id, slot)) FROM (SELECT id, slot FROM tombstone ORDER BY seq))";

/// The positions alone.
pub(crate) const POSITIONS: &str = "
SELECT json_group_array(json_array(slot, topic, hex(topic_id), consumer_group, partition, watermark, leader_epoch,
    hex(settled), acknowledged, read_limit)) FROM position";

/// How many bytes of the file are in use.
pub(crate) const USED_BYTES: &str = "
SELECT (p.page_count - f.freelist_count) * s.page_size
FROM pragma_page_count AS p, pragma_freelist_count AS f, pragma_page_size AS s";

/// The payloads of a JSON list of keys.
pub(crate) const PAYLOADS: &str = "
SELECT payload.key, payload.bytes FROM json_each(?1) AS wanted CROSS JOIN payload ON payload.key = wanted.value";

/// The columns of [`ROWS`], in order.
#[derive(Deserialize)]
struct StoredRow<'a> {
    key: i64,
    #[serde(borrow)]
    id: Cow<'a, str>,
    route: i64,
    slot: Option<u32>,
    offset: Option<i64>,
    received_at_ms: i64,
    added_at_ms: i64,
    run_limit_ms: u64,
    expires_at_ms: Option<i64>,
    delayed_until_ms: Option<i64>,
    at_most_once: u8,
    dead_letter: u8,
    marked: u8,
    attempt: u32,
    payload_bytes: u32,
    lost_leases: u32,
    state: i64,
    state_at_ms: Option<i64>,
    retry_max_attempts: Option<u32>,
    retry_delay_s: Option<i64>,
    #[serde(borrow)]
    cause: Option<Cow<'a, str>>,
    #[serde(borrow)]
    cause_reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    parked: Option<Cow<'a, str>>,
    begun: Option<u8>,
}

/// Why a page could not be made out.
pub(crate) enum PageError {
    /// It names a route that is not known (yet).
    UnknownRoute(i64),
    /// A row of it makes no sense: why.
    Nonsense(String),
}

/// The rows of one page.
pub(crate) fn page(json: &str, route: impl Fn(i64) -> Option<Arc<Route>>) -> Result<Vec<Row>, PageError> {
    let stored: Vec<StoredRow<'_>> =
        serde_json::from_str(json).map_err(|error| PageError::Nonsense(format!("it cannot be read back: {error}")))?;
    let mut last = None;
    stored
        .into_iter()
        .map(|stored| {
            let known = last.as_ref().filter(|(id, _)| *id == stored.route).map(|(_, route)| Arc::clone(route));
            let route = known.or_else(|| route(stored.route)).ok_or(PageError::UnknownRoute(stored.route))?;
            last = Some((stored.route, route.clone()));
            row(stored, route).map_err(PageError::Nonsense)
        })
        .collect()
}

fn row(stored: StoredRow<'_>, route: Arc<Route>) -> Result<Row, String> {
    let state = row_state(&stored)?;
    Ok(Row {
        key: Key(stored.key.cast_unsigned()),
        terms: terms(&stored),
        route,
        received_at: Timestamp::from_millis(stored.received_at_ms),
        added_at: Timestamp::from_millis(stored.added_at_ms),
        origin: stored.slot.zip(stored.offset).map(|(slot, offset)| Origin { slot: Slot(slot), offset }),
        marked: stored.marked != 0,
        payload_bytes: stored.payload_bytes,
        lost_leases: stored.lost_leases,
        state,
        id: ActivationId::new(stored.id),
    })
}

fn terms(stored: &StoredRow<'_>) -> Terms {
    Terms {
        run_limit: Duration::from_millis(stored.run_limit_ms),
        expires_at: stored.expires_at_ms.map(Timestamp::from_millis),
        delayed_until: stored.delayed_until_ms.map(Timestamp::from_millis),
        at_most_once: stored.at_most_once != 0,
        on_failure: if stored.dead_letter != 0 { OnFailure::DeadLetter } else { OnFailure::Discard },
        attempt: stored.attempt,
    }
}

fn row_state(stored: &StoredRow<'_>) -> Result<RowState, String> {
    let at = || stored.state_at_ms.map(Timestamp::from_millis).ok_or("state_at_ms is missing");
    let publication = || match (stored.parked.as_deref(), stored.begun) {
        (Some(reason), _) => Publication::Parked(reason.into()),
        (None, Some(_)) => Publication::Begun,
        (None, None) => Publication::Waiting,
    };
    Ok(match stored.state {
        state::PENDING => RowState::Pending { ready_at: at()? },
        state::PROCESSING => RowState::Processing { lease_ends_at: at()? },
        state::RETRY => {
            RowState::Retry { wish: wish(stored.retry_max_attempts, stored.retry_delay_s), publication: publication() }
        }
        state::FORWARD => RowState::Forward { publication: publication() },
        state::FAILED => RowState::Failed { cause: failure_cause(stored)?, publication: publication() },
        unknown => return Err(format!("state is {unknown}, which is none")),
    })
}

fn wish(max_attempts: Option<u32>, delay_s: Option<i64>) -> RetryWish {
    RetryWish { max_attempts, delay_s: delay_s.map(i64::cast_unsigned) }
}

fn failure_cause(stored: &StoredRow<'_>) -> Result<FailureCause, String> {
    let cause_reason = || stored.cause_reason.as_deref().unwrap_or_default().into();
    match stored.cause.as_deref() {
        Some(cause::REPORTED) => Ok(FailureCause::Reported),
        Some(cause::LEASES_EXHAUSTED) => Ok(FailureCause::LeasesExhausted),
        Some(cause::WORKER_LOST) => Ok(FailureCause::WorkerLost),
        Some(cause::IN_DOUBT) => Ok(FailureCause::InDoubt),
        Some(cause::UNREADABLE) => Ok(FailureCause::Unreadable),
        Some(cause::UNDELIVERABLE) => Ok(FailureCause::Undeliverable(cause_reason())),
        Some(cause::UNDECODABLE) => Ok(FailureCause::Undecodable(cause_reason())),
        unknown => Err(format!("cause is {unknown:?}, which is none")),
    }
}

/// The columns of positions in [`STATE`], in order.
#[derive(Deserialize)]
struct StoredPosition {
    slot: u32,
    topic: String,
    topic_id: String,
    consumer_group: String,
    partition: i32,
    watermark: i64,
    leader_epoch: Option<i32>,
    settled: String,
    acknowledged: i64,
    read_limit: i64,
}

/// The result row of [`STATE`].
pub(crate) struct StateColumns<'a> {
    pub(crate) closed: bool,
    pub(crate) last_key: Option<i64>,
    pub(crate) positions: &'a str,
    pub(crate) early_reports: &'a str,
    pub(crate) tombstones: &'a str,
}

/// Everything but the rows.
pub(crate) fn stored_state(columns: &StateColumns<'_>) -> Result<StoredState, StoreError> {
    let early_reports: Vec<StoredReport> = parse("early reports", columns.early_reports)?;
    let tombstones: Vec<(String, u32)> = parse("tombstones", columns.tombstones)?;
    let tombstone = |(id, slot): (String, u32)| Tombstone { id: ActivationId::new(id), slot: Slot(slot) };
    Ok(StoredState {
        closed: columns.closed,
        positions: positions(columns.positions)?,
        early_reports: early_reports.into_iter().map(early_report).collect::<Result<_, _>>()?,
        tombstones: tombstones.into_iter().map(tombstone).collect(),
        last_key: columns.last_key.map(|key| Key(key.cast_unsigned())),
    })
}

/// The columns of early reports in [`STATE`], in order.
type StoredReport = (String, i64, Option<u32>, Option<i64>, u8);

fn early_report((id, number, max_attempts, delay_s, of_copy): StoredReport) -> Result<EarlyReport, StoreError> {
    let verdict = match number {
        verdict::FAILURE => Verdict::Failure,
        verdict::RETRY => Verdict::Retry(wish(max_attempts, delay_s)),
        verdict::COMPLETE => Verdict::Complete,
        _ => return Err(corrupt(format_args!("the early report on {id} has the unknown verdict {number}"))),
    };
    Ok(EarlyReport { id: ActivationId::new(id), verdict, of_copy: of_copy != 0 })
}

/// Positions from their JSON.
pub(crate) fn positions(json: &str) -> Result<Vec<Position>, StoreError> {
    let stored: Vec<StoredPosition> = parse("positions", json)?;
    stored.into_iter().map(position).collect()
}

fn position(stored: StoredPosition) -> Result<Position, StoreError> {
    let unreadable = || corrupt(format_args!("the position of {}/{} is unreadable", stored.topic, stored.partition));
    let topic_id = from_hex(&stored.topic_id).and_then(|id| id.try_into().ok()).ok_or_else(unreadable)?;
    let settled = from_hex(&stored.settled).ok_or_else(unreadable)?;
    let partition = PartitionId {
        topic: stored.topic.into(),
        topic_id: TopicId(topic_id),
        group: stored.consumer_group.into(),
        partition: stored.partition,
    };
    Ok(Position {
        slot: Slot(stored.slot),
        partition: Arc::new(partition),
        watermark: stored.watermark,
        leader_epoch: stored.leader_epoch,
        settled,
        acknowledged: stored.acknowledged,
        read_limit: stored.read_limit,
    })
}

fn parse<'a, T: Deserialize<'a>>(what: &str, json: &'a str) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(|error| corrupt(format_args!("{what} cannot be read back: {error}")))
}

/// The bytes that pairs of hexadecimal digits stand for.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}
