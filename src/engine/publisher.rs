//! Publishes retries, dead letters and what is forwarded, each until it is durable at its destination or refused for good. A destination that
//! is away holds up nothing but its own.

use std::{
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt;
use taskbroker_domain::{
    ledger::{Outgoing, OutgoingKind},
    ports::{
        codec::Retry,
        outbox::{Destination, Message, PublishError},
        store::FailureCause,
    },
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::shared::Shared;

/// The first wait before a message is sent again; it doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest wait: within it, publishing resumes once Kafka answers again.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How long an orderly stop waits for what is on its way.
const FINISH_WITHIN: Duration = Duration::from_millis(1500);
/// The value of the mark on what is forwarded.
pub(super) const FORWARDED: &[u8] = b"forward";
/// How many entries are taken from the ledger at once.
const TAKE_MAX: usize = 256;

/// Publishes until it is stopped. What is not out by then stays in the store and is sent again after the next start.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let mut lanes = Lanes::default();
    loop {
        lanes.take(&shared);
        lanes.send(&shared, &stop);
        tokio::select! {
            () = shared.outgoing.notified() => {}
            Some(done) = lanes.under_way.join_next() => lanes.sent(done.ok()),
            () = stop.cancelled() => break,
        }
    }
    lanes.never_sent(&shared);
    // What is on its way may arrive: whoever waits for the answer need not send it again after the next start.
    let finish = async { while lanes.under_way.join_next().await.is_some() {} };
    if tokio::time::timeout(FINISH_WITHIN, finish).await.is_err() {
        warn!("messages under way were not acknowledged in time; they are sent again after the next start");
    }
}

/// A queue for each destination.
#[derive(Default)]
struct Lanes {
    waiting: HashMap<Destination, VecDeque<Outgoing>>,
    busy: HashMap<Destination, usize>,
    under_way: JoinSet<Destination>,
}

impl Lanes {
    fn take(&mut self, shared: &Shared) {
        loop {
            let taken = shared.step(|ledger, now| ledger.take_outgoing(TAKE_MAX, now));
            let all = taken.len() < TAKE_MAX;
            for outgoing in taken {
                self.waiting.entry(destination(&outgoing.kind)).or_default().push_back(outgoing);
            }
            if all {
                return;
            }
        }
    }

    fn send(&mut self, shared: &Arc<Shared>, stop: &CancellationToken) {
        for (destination, waiting) in &mut self.waiting {
            let busy = self.busy.entry(*destination).or_default();
            while *busy < shared.options.publish_concurrency {
                let Some(outgoing) = waiting.pop_front() else { break };
                *busy += 1;
                let (shared, stop, destination) = (shared.clone(), stop.clone(), *destination);
                self.under_way.spawn(async move {
                    contained(&shared, outgoing, &stop).await;
                    destination
                });
            }
        }
    }

    /// What still waits here when the broker stops was certainly not sent.
    fn never_sent(&mut self, shared: &Shared) {
        for outgoing in self.waiting.drain().flat_map(|(_, waiting)| waiting) {
            shared.step(|ledger, now| ledger.publish_undone(outgoing.handle, now));
        }
    }

    fn sent(&mut self, destination: Option<Destination>) {
        if let Some(busy) = destination.and_then(|destination| self.busy.get_mut(&destination)) {
            *busy = busy.saturating_sub(1);
        }
    }
}

fn destination(kind: &OutgoingKind) -> Destination {
    match kind {
        OutgoingKind::Retry { .. } => Destination::Retry,
        OutgoingKind::DeadLetter { .. } => Destination::DeadLetter,
        OutgoingKind::Forward => Destination::Forward,
    }
}

/// Publishes, and holds a bug to the one message that it is about: that is parked, with its place given back to the others.
async fn contained(shared: &Shared, outgoing: Outgoing, stop: &CancellationToken) {
    let (id, handle) = (outgoing.id.clone(), outgoing.handle);
    if AssertUnwindSafe(publish(shared, outgoing, stop)).catch_unwind().await.is_err() {
        error!(%id, "publishing failed by a bug of the broker; the panic message above says where. The task is parked in the store");
        shared.meters.publish_refused.increment(1);
        // It may have been sent: an at-most-once task is given up for that, and is then in no state to be parked.
        shared.step(|ledger, now| {
            if ledger.publish_failed(handle, true, now) {
                ledger.publish_refused(handle, "publishing it failed by a bug of the broker", now);
            }
        });
    }
}

async fn publish(shared: &Shared, outgoing: Outgoing, stop: &CancellationToken) {
    let handle = outgoing.handle;
    let Some(message) = compose(shared, &outgoing).await else { return };
    let mut backoff = BACKOFF_MIN;
    loop {
        match shared.outbox.publish(message.clone()).await {
            Ok(()) => {
                shared.meters.published(message.destination);
                return shared.step(|ledger, now| ledger.published(handle, now));
            }
            Err(PublishError::Refused(reason)) => {
                error!(id = %outgoing.id, destination = ?message.destination, reason, "refused for good; parked in the store");
                shared.meters.publish_refused.increment(1);
                return shared.step(|ledger, now| ledger.publish_refused(handle, &reason, now));
            }
            Err(error @ (PublishError::NotSent(_) | PublishError::Unavailable(_))) => {
                let sent = matches!(error, PublishError::Unavailable(_));
                // The outbox says once for each topic why nothing goes out.
                debug!(id = %outgoing.id, destination = ?message.destination, %error, "not published yet; it is sent again");
                shared.meters.publish_retried(message.destination, sent);
                if !shared.step(|ledger, now| ledger.publish_failed(handle, sent, now)) {
                    return;
                }
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(backoff)).await.is_none() {
            // The last try certainly sent nothing, nor did those before it, where that matters.
            return shared.step(|ledger, now| ledger.publish_undone(handle, now));
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

async fn compose(shared: &Shared, outgoing: &Outgoing) -> Option<Message> {
    let Some(payload) = payload(shared, outgoing).await else {
        refuse(shared, outgoing, "its payload cannot be read back from the store");
        return None;
    };
    match &outgoing.kind {
        OutgoingKind::DeadLetter { cause } => Some(dead_letter(shared, outgoing, cause, payload)),
        OutgoingKind::Forward => Some(forwarded(shared, outgoing, payload)),
        OutgoingKind::Retry { id, wish } => {
            let retry = Retry { id: id.clone(), received_at: shared.clock.now().wall, wish: *wish };
            let key = Some(Bytes::copy_from_slice(id.text().as_bytes()));
            let headers = vec![(shared.options.mark_header.to_owned(), Bytes::from_static(b"retry"))];
            match shared.codec.retry(&payload, &retry) {
                Ok(payload) => Some(Message { destination: Destination::Retry, key, payload, headers }),
                Err(undecodable) => {
                    refuse(shared, outgoing, &undecodable.reason);
                    None
                }
            }
        }
    }
}

fn refuse(shared: &Shared, outgoing: &Outgoing, reason: &str) {
    error!(id = %outgoing.id, reason, "cannot be published; parked in the store");
    shared.step(|ledger, now| ledger.publish_refused(outgoing.handle, reason, now));
}

async fn payload(shared: &Shared, outgoing: &Outgoing) -> Option<Bytes> {
    if outgoing.payload.is_some() {
        return outgoing.payload.clone();
    }
    loop {
        match shared.store.payloads(&[outgoing.handle.key()]).await {
            Ok(read) => return read.into_iter().next().map(|(_, payload)| payload),
            Err(error) if error.may_pass() => tokio::time::sleep(BACKOFF_MIN).await,
            Err(error) => {
                error!(id = %outgoing.id, %error, "payload cannot be read");
                return None;
            }
        }
    }
}

/// The activation as it is, marked as a copy of ours; copies of it meet in one partition.
fn forwarded(shared: &Shared, outgoing: &Outgoing, payload: Bytes) -> Message {
    let key = Some(Bytes::copy_from_slice(outgoing.id.text().as_bytes()));
    let headers = vec![(shared.options.mark_header.to_owned(), Bytes::from_static(FORWARDED))];
    Message { destination: Destination::Forward, key, payload, headers }
}

/// The activation's bytes unchanged, without a key, as the existing system publishes it; the reason and the origin are in
/// headers.
fn dead_letter(shared: &Shared, outgoing: &Outgoing, cause: &FailureCause, payload: Bytes) -> Message {
    let mut headers = vec![("taskbroker-reason".to_owned(), Bytes::from(describe(cause)))];
    let origin = outgoing.origin.and_then(|origin| Some((origin, shared.lock().partition_name(origin.slot)?)));
    if let Some((origin, partition)) = origin {
        headers.push(("taskbroker-topic".to_owned(), Bytes::copy_from_slice(partition.topic.as_bytes())));
        headers.push(("taskbroker-partition".to_owned(), Bytes::from(partition.partition.to_string())));
        headers.push(("taskbroker-offset".to_owned(), Bytes::from(origin.offset.to_string())));
    }
    Message { destination: Destination::DeadLetter, key: None, payload, headers }
}

fn describe(cause: &FailureCause) -> String {
    match cause {
        FailureCause::Reported => "a worker reported that it failed".to_owned(),
        FailureCause::LeasesExhausted => "workers missed its deadline too often".to_owned(),
        FailureCause::WorkerLost => "at most once, and its worker missed the deadline".to_owned(),
        FailureCause::InDoubt => "at most once, and it may have been handed out elsewhere".to_owned(),
        FailureCause::Unreadable => "its payload could not be read back".to_owned(),
        FailureCause::Undeliverable(reason) => format!("cannot be given to a worker: {reason}"),
        FailureCause::Undecodable(reason) => format!("undecodable: {reason}"),
    }
}
