//! Rows out of what was found.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use taskbroker_domain::{
    activation::{ActivationId, Key, OnFailure, Route, Terms},
    lifecycle::Publication,
    ports::{
        source::Record,
        store::{FailureCause, NewRow, Row, RowState},
    },
};

use super::{
    Recover,
    gather::Gathered,
    pages::Pages,
    record::{Value, values},
};
use crate::existing::{Fate, Reader, TakeOver, Theirs, nowhere};

/// What became of one row.
pub(super) enum Rebuilt {
    Whole(NewRow),
    Repaired(NewRow),
    DeadLetter(NewRow),
    /// Its id.
    Lost(String),
    /// It was done.
    Done,
}

/// What rows are rebuilt from.
pub(super) struct Rebuild<'a> {
    pub(super) what: &'a Recover<'a>,
    pub(super) pages: &'a Pages,
    pub(super) gathered: &'a Gathered,
}

impl<'a> Rebuild<'a> {
    /// Every row of which anything was found, by key; then those of the existing system.
    pub(super) fn rows(self) -> impl Iterator<Item = Rebuilt> + 'a {
        let Gathered { rows, payloads, theirs, .. } = self.gathered;
        let keys: BTreeSet<i64> = rows.keys().chain(payloads.keys()).copied().filter(|key| *key >= 0).collect();
        let next = keys.last().map_or(1, |last| last + 1);
        let (what, pages, gathered) = (self.what, self.pages, self.gathered);
        let ours = keys.into_iter().map(move |key| Rebuild { what, pages, gathered }.ours(key));
        let theirs = theirs.iter().zip(next..);
        ours.chain(theirs.map(move |(cell, key)| Rebuild { what, pages, gathered }.theirs(*cell, key)))
    }

    fn ours(&self, key: i64) -> Rebuilt {
        let payload = self.gathered.payloads.get(&key).and_then(|cell| self.pages.record(*cell));
        let payload = payload.and_then(|record| match values(&record)?.pop()? {
            Value::Blob(bytes) => Some(Bytes::from(bytes)),
            _ => None,
        });
        let row = self.gathered.row(key);
        match (row, payload) {
            (Some(row), Some(payload)) if row.payload_bytes as usize == payload.len() => {
                Rebuilt::Whole(NewRow { row, payload })
            }
            (_, Some(payload)) => self.from_payload(key, payload),
            (_, None) => Rebuilt::Lost(self.gathered.ids.get(&key).cloned().unwrap_or_else(|| format!("key {key}"))),
        }
    }

    /// Its row is lost or makes no sense. Nobody can say whether a worker has it: to be run at most once, it fails.
    fn from_payload(&self, key: i64, payload: Bytes) -> Rebuilt {
        let now = self.what.now;
        let record = Record {
            offset: 0,
            leader_epoch: None,
            timestamp: Some(now),
            payload: payload.clone(),
            headers: Vec::new(),
        };
        match self.what.codec.decode(&record, &nowhere(), now) {
            Ok(activation) => {
                let terms = activation.terms;
                let state = match terms.at_most_once {
                    true => failed(FailureCause::InDoubt),
                    false => RowState::Pending { ready_at: terms.delayed_until.map_or(now, |at| at.max(now)) },
                };
                Rebuilt::Repaired(self.row(key, activation.id, activation.route, terms, state, payload))
            }
            Err(undecodable) => {
                let id = self.gathered.ids.get(&key).cloned().unwrap_or_else(|| format!("undecodable:recovered:{key}"));
                let state = failed(FailureCause::Undecodable(format!("recovered: {}", undecodable.reason).into()));
                let terms = Terms { on_failure: OnFailure::DeadLetter, ..Terms::default() };
                Rebuilt::DeadLetter(self.row(key, ActivationId::new(id), Arc::default(), terms, state, payload))
            }
        }
    }

    fn row(
        &self,
        key: i64,
        id: ActivationId,
        route: Arc<Route>,
        terms: Terms,
        state: RowState,
        payload: Bytes,
    ) -> NewRow {
        let row = Row {
            key: Key(key.cast_unsigned()),
            id,
            route,
            terms,
            received_at: self.what.now,
            added_at: self.what.now,
            origin: None,
            marked: false,
            payload_bytes: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            lost_leases: 0,
            state,
        };
        NewRow { row, payload }
    }

    fn theirs(&self, cell: super::pages::Cell, key: i64) -> Rebuilt {
        let columns = self.pages.record(cell).and_then(|record| values(&record)).unwrap_or_default();
        let id = match columns.first() {
            Some(Value::Text(id)) => id.clone(),
            _ => format!("row {}", cell.rowid),
        };
        let payload = match columns.get(1) {
            Some(Value::Blob(bytes)) => Bytes::from(bytes.clone()),
            _ => return Rebuilt::Lost(id),
        };
        let Some(theirs) = of_columns(&columns) else { return self.from_payload(key, payload) };
        let mut reader = Reader {
            codec: self.what.codec,
            log: None,
            report_grace: TakeOver::REPORT_GRACE,
            slots: &BTreeMap::new(),
            routes: BTreeMap::new(),
            now: self.what.now,
        };
        match reader.fate(theirs, Key(key.cast_unsigned())) {
            Fate::Kept(row) => Rebuilt::Whole(row),
            Fate::Undecodable(row) => Rebuilt::DeadLetter(row),
            Fate::Done | Fate::Discarded => Rebuilt::Done,
        }
    }
}

fn failed(cause: FailureCause) -> RowState {
    RowState::Failed { cause, publication: Publication::Waiting }
}

/// None: a column does not hold what it should.
fn of_columns(columns: &[Value]) -> Option<Theirs> {
    let text = |index: usize| match columns.get(index)? {
        Value::Text(text) => Some(text.clone()),
        Value::Null => Some(String::new()),
        _ => None,
    };
    let integer = |index: usize| match columns.get(index)? {
        Value::Integer(number) => Some(*number),
        _ => None,
    };
    let optional = |index: usize| match columns.get(index)? {
        Value::Null => Some(None),
        Value::Integer(number) => Some(Some(*number)),
        _ => None,
    };
    let Some(Value::Blob(activation)) = columns.get(1) else { return None };
    Some(Theirs {
        id: text(0)?,
        activation: activation.clone(),
        partition: integer(2)?,
        offset: integer(3)?,
        added_at: integer(4)?,
        processing_attempts: integer(5)?,
        expires_at: optional(6)?,
        run_limit: integer(7)?,
        processing_deadline: optional(8)?,
        status: text(9)?,
        at_most_once: integer(10)? != 0,
        namespace: text(11)?,
        delay_until: optional(12)?,
        on_attempts_exceeded: integer(13)?,
        received_at: integer(14)?,
        task_name: text(15)?,
        application: text(16)?,
        claim_expires_at: optional(18)?,
    })
}
