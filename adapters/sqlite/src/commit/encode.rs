//! The values of a commit, in the order of its texts.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde::Serialize;
use sqlx::{Arguments, Encode, Sqlite, Type, sqlite::SqliteArguments};
use taskbroker_domain::{
    activation::{ActivationId, Key, OnFailure, RetryWish, Route},
    lifecycle::Publication,
    ports::{
        service::Verdict,
        store::{EarlyReport, FailureCause, NewRow, Position, RowState, RowUpdate, StoreError},
    },
    time::Timestamp,
};

use super::text::ROW_VALUES;
use crate::{routes::Numbering, schema::state};

/// The words for [`FailureCause`] in `activation.cause`.
pub(crate) mod cause {
    pub(crate) const REPORTED: &str = "reported";
    pub(crate) const LEASES_EXHAUSTED: &str = "leases exhausted";
    pub(crate) const WORKER_LOST: &str = "worker lost";
    pub(crate) const IN_DOUBT: &str = "in doubt";
    pub(crate) const UNREADABLE: &str = "unreadable";
    pub(crate) const UNDELIVERABLE: &str = "undeliverable";
    pub(crate) const UNDECODABLE: &str = "undecodable";
}

/// A row's values, owned, before they are bound.
struct RowValues {
    key: i64,
    id: String,
    route: i64,
    origin: Option<(i64, i64)>,
    times: [i64; 3],
    limits: [Option<i64>; 2],
    marks: [bool; 3],
    counts: [u32; 3],
    bucket: u8,
    state: StateValues,
}

/// The columns that a state fills.
struct StateValues {
    state: i64,
    at_ms: Option<i64>,
    max_attempts: Option<u32>,
    delay_s: Option<i64>,
    cause: Option<&'static str>,
    reason: Option<String>,
    parked: Option<String>,
    begun: Option<bool>,
}

/// Appends the rows and their payloads, in the order of the text that inserts them. Places beyond the rows stay empty.
pub(super) fn rows(
    to: &mut SqliteArguments,
    rows: &[NewRow],
    places: usize,
    numbering: &mut Numbering<'_>,
) -> Result<(), StoreError> {
    let padding = places.saturating_sub(rows.len());
    to.reserve(places * (ROW_VALUES + 2), 0);
    let mut keys = Vec::with_capacity(rows.len());
    for new in rows {
        let values = row_values(new, numbering)?;
        keys.push(values.key);
        values.bind(to)?;
    }
    nulls(to, padding * ROW_VALUES)?;
    for (key, new) in keys.into_iter().zip(rows) {
        add(to, key)?;
        add(to, new.payload.to_vec())?;
    }
    nulls(to, padding * 2)
}

fn row_values(new: &NewRow, numbering: &mut Numbering<'_>) -> Result<RowValues, StoreError> {
    let row = &new.row;
    let key = stored_key(row.key)
        .ok_or_else(|| StoreError::Failed(format!("key {} of activation {} is too large", row.key.0, row.id)))?;
    let run_limit_ms = i64::try_from(row.terms.run_limit.as_millis()).unwrap_or(i64::MAX);
    Ok(RowValues {
        key,
        id: row.id.text().to_owned(),
        route: numbering.number(&row.route),
        origin: row.origin.map(|origin| (i64::from(origin.slot.0), origin.offset)),
        times: [row.received_at.as_millis(), row.added_at.as_millis(), run_limit_ms],
        limits: [row.terms.expires_at, row.terms.delayed_until].map(|limit| limit.map(Timestamp::as_millis)),
        marks: [row.terms.at_most_once, row.terms.on_failure == OnFailure::DeadLetter, row.marked],
        counts: [row.terms.attempt, row.payload_bytes, row.lost_leases],
        bucket: row.id.bucket(),
        state: state_values(&row.state),
    })
}

fn state_values(state: &RowState) -> StateValues {
    let none = StateValues {
        state: state::PENDING,
        at_ms: None,
        max_attempts: None,
        delay_s: None,
        cause: None,
        reason: None,
        parked: None,
        begun: None,
    };
    let (parked, begun) = publication_values(state);
    match state {
        RowState::Pending { ready_at } => {
            StateValues { state: state::PENDING, at_ms: Some(ready_at.as_millis()), ..none }
        }
        RowState::Processing { lease_ends_at } => {
            StateValues { state: state::PROCESSING, at_ms: Some(lease_ends_at.as_millis()), ..none }
        }
        RowState::Retry { wish, publication: _ } => StateValues {
            state: state::RETRY,
            max_attempts: wish.max_attempts,
            delay_s: wish.delay_s.map(u64::cast_signed),
            parked,
            begun,
            ..none
        },
        RowState::Forward { publication: _ } => StateValues { state: state::FORWARD, parked, begun, ..none },
        RowState::Failed { cause, publication: _ } => {
            let (cause, reason) = cause_values(cause);
            StateValues { state: state::FAILED, cause: Some(cause), reason, parked, begun, ..none }
        }
    }
}

fn publication_values(state: &RowState) -> (Option<String>, Option<bool>) {
    match state {
        RowState::Pending { .. } | RowState::Processing { .. } => (None, None),
        RowState::Retry { publication, .. }
        | RowState::Forward { publication }
        | RowState::Failed { publication, .. } => match publication {
            Publication::Waiting => (None, None),
            Publication::Begun => (None, Some(true)),
            Publication::Parked(reason) => (Some(reason.to_string()), None),
        },
    }
}

fn cause_values(cause: &FailureCause) -> (&'static str, Option<String>) {
    match cause {
        FailureCause::Reported => (cause::REPORTED, None),
        FailureCause::LeasesExhausted => (cause::LEASES_EXHAUSTED, None),
        FailureCause::WorkerLost => (cause::WORKER_LOST, None),
        FailureCause::InDoubt => (cause::IN_DOUBT, None),
        FailureCause::Unreadable => (cause::UNREADABLE, None),
        FailureCause::Undeliverable(reason) => (cause::UNDELIVERABLE, Some(reason.to_string())),
        FailureCause::Undecodable(reason) => (cause::UNDECODABLE, Some(reason.to_string())),
    }
}

impl RowValues {
    /// In the order of the columns in the text.
    fn bind(self, to: &mut SqliteArguments) -> Result<(), StoreError> {
        add(to, self.key)?;
        add(to, self.id)?;
        add(to, self.route)?;
        add(to, self.origin.map(|(slot, _)| slot))?;
        add(to, self.origin.map(|(_, offset)| offset))?;
        self.times.into_iter().try_for_each(|time| add(to, time))?;
        self.limits.into_iter().try_for_each(|limit| add(to, limit))?;
        self.marks.into_iter().try_for_each(|mark| add(to, mark))?;
        let [attempt, payload_bytes, lost_leases] = self.counts;
        add(to, attempt)?;
        add(to, self.bucket)?;
        add(to, payload_bytes)?;
        add(to, lost_leases)?;
        self.state.bind(to)
    }
}

impl StateValues {
    fn bind(self, to: &mut SqliteArguments) -> Result<(), StoreError> {
        add(to, self.state)?;
        add(to, self.at_ms)?;
        add(to, self.max_attempts)?;
        add(to, self.delay_s)?;
        add(to, self.cause)?;
        add(to, self.reason)?;
        add(to, self.parked)?;
        add(to, self.begun)
    }
}

/// The routes that are to be stored.
pub(super) fn routes(new: &HashMap<Arc<Route>, i64>) -> impl Iterator<Item = impl Serialize + '_> {
    new.iter().map(|(route, id)| (*id, &*route.application, &*route.namespace, &*route.task_name))
}

/// The keys as SQLite has them.
pub(super) fn keys(keys: &[Key]) -> Vec<i64> {
    keys.iter().copied().filter_map(stored_key).collect()
}

/// The ids as text.
pub(super) fn ids(ids: &[ActivationId]) -> impl Iterator<Item = String> {
    ids.iter().map(ActivationId::to_string)
}

/// The words for [`Verdict`] in `early_report.verdict`: those of the wire protocol.
pub(crate) mod verdict {
    pub(crate) const FAILURE: i64 = 3;
    pub(crate) const RETRY: i64 = 4;
    pub(crate) const COMPLETE: i64 = 5;
}

pub(super) fn early_report(report: &EarlyReport) -> impl Serialize + '_ {
    let (verdict, wish) = match report.verdict {
        Verdict::Failure => (verdict::FAILURE, RetryWish::default()),
        Verdict::Retry(wish) => (verdict::RETRY, wish),
        Verdict::Complete => (verdict::COMPLETE, RetryWish::default()),
    };
    let delay_s = wish.delay_s.map(u64::cast_signed);
    (report.id.to_string(), verdict, wish.max_attempts, delay_s, u8::from(report.of_copy))
}

pub(super) type UpdateValues = (
    i64,
    u32,
    i64,
    Option<i64>,
    Option<u32>,
    Option<i64>,
    Option<&'static str>,
    Option<String>,
    Option<String>,
    Option<bool>,
);

/// The last update of each row: SQLite would pick any of several.
pub(super) fn updates(updates: &[RowUpdate]) -> Vec<UpdateValues> {
    let mut seen = HashSet::with_capacity(updates.len());
    updates.iter().rev().filter(|update| seen.insert(update.key)).filter_map(update).collect()
}

fn update(update: &RowUpdate) -> Option<UpdateValues> {
    let state = state_values(&update.state);
    Some((
        stored_key(update.key)?,
        update.lost_leases,
        state.state,
        state.at_ms,
        state.max_attempts,
        state.delay_s,
        state.cause,
        state.reason,
        state.parked,
        state.begun,
    ))
}

pub(super) fn position(position: &Position) -> impl Serialize + '_ {
    let partition = &position.partition;
    (
        position.slot.0,
        &*partition.topic,
        to_hex(&partition.topic_id.0),
        &*partition.group,
        partition.partition,
        position.watermark,
        position.leader_epoch,
        to_hex(&position.settled),
        position.acknowledged,
        position.read_limit,
    )
}

/// The key as SQLite has it; none beyond its range, where no row can be.
pub(crate) fn stored_key(key: Key) -> Option<i64> {
    i64::try_from(key.0).ok()
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// A JSON list; none if it has no element.
pub(super) fn list<T: Serialize>(list: impl IntoIterator<Item = T>) -> Result<Option<String>, StoreError> {
    let list: Vec<T> = list.into_iter().collect();
    if list.is_empty() {
        return Ok(None);
    }
    let json =
        serde_json::to_string(&list).map_err(|error| StoreError::Failed(format!("encoding a commit: {error}")))?;
    Ok(Some(json))
}

fn nulls(to: &mut SqliteArguments, count: usize) -> Result<(), StoreError> {
    (0..count).try_for_each(|_| add(to, None::<i64>))
}

pub(super) fn add<'t, T: Encode<'t, Sqlite> + Type<Sqlite>>(
    to: &mut SqliteArguments,
    value: T,
) -> Result<(), StoreError> {
    to.add(value).map_err(|error| StoreError::Failed(format!("encoding a commit: {error}")))
}
