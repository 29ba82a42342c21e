//! A row of the existing system's, and what it is here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use sqlx::{Row as _, sqlite::SqliteRow};
use taskbroker_domain::{
    activation::{
        Activation, ActivationId, Key, OnFailure, Origin, PartitionId, RetryWish, Route, Slot, Terms, TopicId,
    },
    lifecycle::Publication,
    ports::{
        codec::{ActivationCodec, Undecodable},
        source::Record,
        store::{FailureCause, NewRow, Row, RowState},
    },
    time::Timestamp,
};

use super::{CANARY, DEAD_LETTER, TakeOverLog, status};

/// The columns of a row, by the order of [`Theirs::read`], for a JSON list of row numbers.
pub(super) const ROWS: &str = "
SELECT t.id, t.activation, t.partition, t.\"offset\", t.added_at, t.processing_attempts, t.expires_at,
    t.processing_deadline_duration, t.processing_deadline, t.status, t.at_most_once, coalesce(t.namespace, ''), t.delay_until,
    t.on_attempts_exceeded, t.received_at, t.taskname, t.application, t.claim_expires_at
FROM json_each(?1) AS wanted CROSS JOIN inflight_taskactivations AS t ON t.rowid = wanted.value";

/// A row as it stands in the file.
pub(crate) struct Theirs {
    pub(crate) id: String,
    pub(crate) activation: Vec<u8>,
    pub(crate) partition: i64,
    pub(crate) offset: i64,
    pub(crate) added_at: i64,
    pub(crate) processing_attempts: i64,
    pub(crate) expires_at: Option<i64>,
    pub(crate) run_limit: i64,
    pub(crate) processing_deadline: Option<i64>,
    pub(crate) status: String,
    pub(crate) at_most_once: bool,
    pub(crate) namespace: String,
    pub(crate) delay_until: Option<i64>,
    pub(crate) on_attempts_exceeded: i64,
    pub(crate) received_at: i64,
    pub(crate) task_name: String,
    pub(crate) application: String,
    pub(crate) claim_expires_at: Option<i64>,
}

/// What becomes of it.
#[derive(Debug)]
pub(crate) enum Fate {
    /// It goes on here.
    Kept(NewRow),
    /// Its payload is no activation: on its way to the dead-letter topic.
    Undecodable(NewRow),
    /// It was done.
    Done,
    /// It had failed, and nobody wants a dead letter.
    Discarded,
}

/// How rows are read here.
pub(crate) struct Reader<'a> {
    pub(crate) codec: &'a dyn ActivationCodec,
    pub(crate) log: Option<&'a TakeOverLog>,
    pub(crate) report_grace: Duration,
    pub(crate) slots: &'a BTreeMap<i32, Slot>,
    pub(crate) routes: BTreeMap<Route, Arc<Route>>,
    pub(crate) now: Timestamp,
}

impl Theirs {
    pub(super) fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get(0)?,
            activation: row.try_get(1)?,
            partition: row.try_get(2)?,
            offset: row.try_get(3)?,
            added_at: row.try_get(4)?,
            processing_attempts: row.try_get(5)?,
            expires_at: row.try_get(6)?,
            run_limit: row.try_get(7)?,
            processing_deadline: row.try_get(8)?,
            status: row.try_get(9)?,
            at_most_once: row.try_get::<i64, _>(10)? != 0,
            namespace: row.try_get(11)?,
            delay_until: row.try_get(12)?,
            on_attempts_exceeded: row.try_get(13)?,
            received_at: row.try_get(14)?,
            task_name: row.try_get(15)?,
            application: row.try_get(16)?,
            claim_expires_at: row.try_get(17)?,
        })
    }

    fn decoded(&self, codec: &dyn ActivationCodec, now: Timestamp) -> Result<Activation, Undecodable> {
        let record = Record {
            offset: self.offset,
            leader_epoch: None,
            timestamp: Some(self.received_at()),
            payload: Bytes::copy_from_slice(&self.activation),
            headers: Vec::new(),
        };
        codec.decode(&record, &nowhere(), now)
    }

    /// The column is 0 in rows from before it was there.
    fn received_at(&self) -> Timestamp {
        moment(if self.received_at > 0 { self.received_at } else { self.added_at })
    }

    fn on_failure(&self) -> OnFailure {
        if self.on_attempts_exceeded == DEAD_LETTER { OnFailure::DeadLetter } else { OnFailure::Discard }
    }

    /// What the activation itself says stands only where the column does not: the attempt, and a run limit that was too
    /// large for the column and became negative.
    fn terms(&self, decoded: Terms) -> Terms {
        Terms {
            run_limit: u64::try_from(self.run_limit).map_or(decoded.run_limit, Duration::from_secs),
            expires_at: self.expires_at.map(moment),
            delayed_until: self.delay_until.map(moment),
            at_most_once: self.at_most_once,
            on_failure: self.on_failure(),
            attempt: decoded.attempt,
        }
    }

    /// None: it is of no more use.
    fn state(&self, now: Timestamp, grace: Duration) -> Option<RowState> {
        let lease = |until: Option<i64>| RowState::Processing {
            lease_ends_at: until.map_or(now, moment).max(now.saturating_add(grace)),
        };
        Some(match self.status.as_str() {
            status::COMPLETE => return None,
            status::FAILURE if self.on_failure() == OnFailure::Discard => return None,
            status::FAILURE => RowState::Failed { cause: FailureCause::Reported, publication: Publication::Waiting },
            status::RETRY => RowState::Retry { wish: RetryWish::default(), publication: Publication::Waiting },
            status::PROCESSING => lease(self.processing_deadline),
            // On its way to a worker, or there already.
            status::CLAIMED => lease(self.claim_expires_at),
            status::DELAY => RowState::Pending { ready_at: moment(self.delay_until.unwrap_or(self.added_at)) },
            status::PENDING => RowState::Pending { ready_at: moment(self.added_at) },
            // Of no status that it ever gave: whether a worker has it, nobody can say.
            _ => lease(None),
        })
    }
}

impl Reader<'_> {
    pub(crate) fn fate(&mut self, theirs: Theirs, key: Key) -> Fate {
        let Some(state) = theirs.state(self.now, self.report_grace) else {
            return if theirs.status == status::COMPLETE { Fate::Done } else { Fate::Discarded };
        };
        match theirs.decoded(self.codec, self.now) {
            Ok(activation) => Fate::Kept(self.row(theirs, key, state, activation.terms)),
            Err(undecodable) => {
                let cause = FailureCause::Undecodable(undecodable.reason.into());
                Fate::Undecodable(self.row(
                    theirs,
                    key,
                    RowState::Failed { cause, publication: Publication::Waiting },
                    Terms::default(),
                ))
            }
        }
    }

    fn row(&mut self, theirs: Theirs, key: Key, state: RowState, decoded: Terms) -> NewRow {
        let row = Row {
            key,
            terms: theirs.terms(decoded),
            received_at: theirs.received_at(),
            added_at: moment(theirs.added_at),
            origin: self.origin(&theirs),
            marked: false,
            payload_bytes: u32::try_from(theirs.activation.len()).unwrap_or(u32::MAX),
            lost_leases: u32::try_from(theirs.processing_attempts).unwrap_or(0),
            state,
            route: self.route(Route::new(&theirs.application, &theirs.namespace, &theirs.task_name)),
            id: ActivationId::new(theirs.id),
        };
        NewRow { row, payload: theirs.activation.into() }
    }

    fn origin(&self, theirs: &Theirs) -> Option<Origin> {
        let log = self.log?;
        let from_it = is_from(log, &theirs.application, &theirs.namespace, &theirs.task_name);
        let partition = i32::try_from(theirs.partition).ok().filter(|_| from_it)?;
        let slot = self.slots.get(&partition)?;
        Some(Origin { slot: *slot, offset: theirs.offset })
    }

    fn route(&mut self, route: Route) -> Arc<Route> {
        self.routes.entry(route).or_insert_with_key(|route| Arc::new(route.clone())).clone()
    }
}

/// What is read back comes from no log that the codec has to know.
pub(crate) fn nowhere() -> PartitionId {
    PartitionId { topic: "".into(), topic_id: TopicId::UNKNOWN, group: "".into(), partition: 0 }
}

/// Whether rows of this route are of the log: canaries are of none, and those of raw topics of another.
pub(super) fn is_from(log: &TakeOverLog, application: &str, namespace: &str, task_name: &str) -> bool {
    let same = |route: &Route| {
        *route.application == *application && *route.namespace == *namespace && *route.task_name == *task_name
    };
    (namespace, task_name) != CANARY && !log.except.iter().any(same)
}

fn moment(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds.saturating_mul(1_000))
}
