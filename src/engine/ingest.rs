//! Takes in what the source reads, as much as there is room for, and follows its assignments.

use std::{sync::Arc, time::Duration};

use taskbroker_domain::{
    activation::{Activation, Origin, PartitionId},
    ledger::{Admitted, Ledger},
    ports::{
        codec::Undecodable,
        source::{ActivationSource, Assigned, AssignmentId, Barrier, Record, SourceEvent},
    },
    positions::{Because, Reading},
    rules::{Fate, Rules},
    time::{Now, Timestamp},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    heavy,
    publisher::FORWARDED,
    rules::InForce,
    shared::{FeedState, Shared},
};

/// How long to wait before looking for room again, when there is none.
const ROOM_WAIT: Duration = Duration::from_millis(20);
/// How many records are admitted under one hold of the ledger's lock, so that workers need not wait long.
const STEP_MAX: usize = 64;

/// Reads until it is stopped.
pub(super) async fn run(shared: Arc<Shared>, feed: Arc<FeedState>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let room = room(&shared, &feed);
        // In this order: room that is gone must not be used.
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = feed.room_changed.notified() => continue,
            event = feed.source.receive(room) => event,
            () = tokio::time::sleep(ROOM_WAIT), if room == 0 => continue,
        };
        handle(&shared, &feed, event).await;
    }
}

/// Takes in what the group answered to the last commits of a source that has been closed. Returns whether there was any.
pub(super) async fn last_answers(shared: &Shared, source: &dyn ActivationSource) -> bool {
    let mut any = false;
    while let Ok(event) = timeout(Duration::ZERO, source.receive(0)).await {
        if let SourceEvent::Committed { partition, assignment, offset } = event {
            shared.step(|ledger, now| ledger.committed(&partition, assignment, offset, now));
            any = true;
        }
    }
    any
}

fn room(shared: &Shared, feed: &FeedState) -> usize {
    match shared.room(feed) {
        Ok(room) => {
            feed.meters.intake.goes_on();
            room
        }
        Err(full) => {
            feed.hearing.heard(shared.clock.now().steady);
            feed.meters.intake.is_held_by(full);
            0
        }
    }
}

async fn handle(shared: &Arc<Shared>, feed: &Arc<FeedState>, event: SourceEvent) {
    feed.hearing.event(&event, shared.clock.now().steady);
    match event {
        SourceEvent::Records { partition, assignment, records } => {
            take_in(shared, feed, &partition, assignment, records).await;
            shared.room_shrank();
        }
        SourceEvent::Assigned { partitions } => partitions.iter().for_each(|assigned| assign(shared, feed, assigned)),
        SourceEvent::OutOfRange(assigned) => assign(shared, feed, &assigned),
        SourceEvent::Revoking { partitions, barrier } => revoke(shared, feed, &partitions, barrier).await,
        SourceEvent::Lost { partitions } => lose(shared, feed, &partitions),
        SourceEvent::End { partition, assignment, offset } => {
            shared.step(|ledger, now| ledger.end(&partition, assignment, offset, now));
        }
        SourceEvent::Committed { partition, assignment, offset } => {
            shared.step(|ledger, now| ledger.committed(&partition, assignment, offset, now));
            shared.drive_sources();
        }
        SourceEvent::CommitFailed { partition, assignment } => {
            feed.meters.group_commits_failed.increment(1);
            shared.step(|ledger, now| ledger.commit_failed(&partition, assignment, now));
        }
        SourceEvent::Connection { up } => connection(feed, up),
    }
}

async fn take_in(
    shared: &Arc<Shared>,
    feed: &Arc<FeedState>,
    partition: &Arc<PartitionId>,
    assignment: AssignmentId,
    records: Vec<Record>,
) {
    let mut records = records.into_iter().peekable();
    while records.peek().is_some() {
        let mut some: Vec<Record> = records.by_ref().take(STEP_MAX).collect();
        loop {
            let rules = shared.rules.get();
            let decoded = decode(shared, feed, partition, &rules, some).await;
            match admit_all(shared, feed, partition, assignment, &rules, decoded) {
                Step::Done => break,
                Step::Stale => return,
                Step::OtherRules(again) => some = again,
            }
        }
    }
}

/// What became of some records.
enum Step {
    /// They are in the ledger.
    Done,
    /// Their assignment is over.
    Stale,
    /// Other rules are in force by now, and their sweep may be over: nothing that was judged by the old ones comes in.
    OtherRules(Vec<Record>),
}

fn admit_all(
    shared: &Shared,
    feed: &FeedState,
    partition: &PartitionId,
    assignment: AssignmentId,
    rules: &Arc<Rules>,
    decoded: Vec<(Decoded, Record)>,
) -> Step {
    shared.step(|ledger, now| {
        let Some(slot) = ledger.reading(partition, assignment) else { return Step::Stale };
        if !Arc::ptr_eq(&shared.rules.get(), rules) {
            return Step::OtherRules(decoded.into_iter().map(|(_, record)| record).collect());
        }
        for (activation, record) in decoded {
            let origin = Origin { slot, offset: record.offset };
            admit(feed, ledger, origin, activation, record, now);
        }
        Step::Done
    })
}

/// An activation and what the rules say of it; or why it is none.
type Decoded = Result<(Activation, Fate), Undecodable>;

/// What the records are, in their order. Compressing and looking into large ones holds up no worker.
async fn decode(
    shared: &Arc<Shared>,
    feed: &Arc<FeedState>,
    partition: &Arc<PartitionId>,
    rules: &Arc<Rules>,
    records: Vec<Record>,
) -> Vec<(Decoded, Record)> {
    let bytes = match rules.look_into_arguments() {
        true => usize::MAX, // Small ones may unpack to large ones.
        false => records.iter().map(|record| record.payload.len()).sum(),
    };
    let (shared, feed, partition, rules) = (shared.clone(), feed.clone(), partition.clone(), rules.clone());
    let work = move || {
        let now = shared.clock.now().wall;
        let of = |record: Record| (decode_one(&shared, &feed, &partition, &rules, &record, now), record);
        records.into_iter().map(of).collect()
    };
    heavy::run(bytes, work).await
}

fn decode_one(
    shared: &Shared,
    feed: &FeedState,
    partition: &PartitionId,
    rules: &Rules,
    record: &Record,
    now: Timestamp,
) -> Decoded {
    let activation = feed.codec.decode(record, partition, now)?;
    Ok(judged(shared, feed, rules, activation, record))
}

/// What the rules say of an activation. One that was forwarded already is not forwarded again: two brokers that demote into
/// each other's topics would never run it.
fn judged(
    shared: &Shared,
    feed: &FeedState,
    rules: &Rules,
    activation: Activation,
    record: &Record,
) -> (Activation, Fate) {
    let mark = shared.options.mark_header;
    let was_forwarded = || record.headers.iter().any(|(name, value)| name == mark && value == FORWARDED);
    match InForce::fate(rules, feed.codec.as_ref(), &activation) {
        Fate::Forward if was_forwarded() => (activation, Fate::Keep),
        fate => (activation, fate),
    }
}

fn admit(feed: &FeedState, ledger: &mut Ledger, origin: Origin, activation: Decoded, record: Record, now: Now) {
    let (meters, topic) = (&feed.meters, &feed.topic);
    meters.read.increment(1);
    if ledger.read(origin, record.leader_epoch, now) == Reading::Known {
        return meters.known.increment(1);
    }
    match activation {
        Ok((activation, fate)) => match ledger.admit(origin, activation, fate, now) {
            Admitted::New => {}
            Admitted::Duplicate => meters.duplicates.increment(1),
            Admitted::SettledEarly => meters.settled_early.increment(1),
            Admitted::Expired => meters.expired_on_arrival.increment(1),
            Admitted::Dropped => meters.dropped_on_arrival.increment(1),
            Admitted::Forwarding => meters.forwarded_on_arrival.increment(1),
        },
        Err(undecodable) => {
            meters.undecodable.increment(1);
            warn!(%topic, offset = origin.offset, reason = %undecodable, "undecodable message goes to the dead-letter topic");
            ledger.admit_undecodable(origin, record.payload, &undecodable.reason, now);
        }
    }
}

fn assign(shared: &Shared, feed: &FeedState, assigned: &Assigned) {
    let decision = shared.step(|ledger, now| ledger.assign(assigned, now));
    match decision {
        Err(no_start) => {
            feed.meters.not_started.increment(1);
            error!(partition = %assigned.partition, reason = %no_start, "partition is not read");
        }
        Ok(decision) => {
            let (partition, plan) = (&decision.partition, decision.plan);
            feed.meters.assigned.increment(1);
            info!(%partition, at = plan.at, because = reason(plan.because), "partition assigned");
            if plan.lost > 0 {
                feed.meters.lost_to_retention.increment(plan.lost);
                error!(%partition, offsets = plan.lost, "retention removed records before they were read: they are lost");
            }
            if plan.cut {
                warn!(%partition, end = assigned.log_end, "the log is shorter than it was; reading goes on at its end");
            }
        }
    }
}

fn reason(because: Because) -> &'static str {
    match because {
        Because::Stored => "stored position",
        Because::TakenOver => "position taken over from the existing system",
        Because::Committed => "group's position",
        Because::Rewound => "group's position was set back",
        Because::Reset => "no position is known (kafka_auto_offset_reset)",
    }
}

async fn revoke(shared: &Shared, feed: &FeedState, partitions: &[Arc<PartitionId>], barrier: Barrier) {
    let ticket = shared.step(|ledger, now| ledger.revoke(partitions, now));
    let written = timeout(shared.options.revocation_wait, shared.durable.wait(ticket)).await;
    if !matches!(written, Ok(Ok(()))) {
        warn!(topic = %feed.topic, "not everything of the revoked partitions could be written in time; the rest is left to the next owner");
    }
    let positions = shared.lock().final_positions(partitions);
    barrier.release(positions);
    let withdrawn = shared.step(|ledger, now| ledger.let_go(partitions, now));
    feed.meters.revoked.increment(partitions.len() as u64);
    info!(topic = %feed.topic, partitions = partitions.len(), withdrawn, "partitions revoked");
}

fn lose(shared: &Shared, feed: &FeedState, partitions: &[Arc<PartitionId>]) {
    let withdrawn = shared.step(|ledger, now| ledger.lose(partitions, now));
    feed.meters.lost.increment(partitions.len() as u64);
    warn!(topic = %feed.topic, partitions = partitions.len(), withdrawn, "partitions lost; what had no row is left to the next owner");
}

fn connection(feed: &FeedState, up: bool) {
    feed.meters.connection(up);
    let topic = &feed.topic;
    match up {
        true => info!(%topic, "Kafka answers"),
        false => warn!(%topic, "no connection to Kafka; what is here is served meanwhile"),
    }
}
