//! Metrics of the engine. Handles are made once; nothing here looks a name up on the hot path.

mod gauges;
mod intake;
mod namespaces;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use taskbroker_domain::ports::{
    outbox::Destination,
    service::{Reported, Verdict},
    store::Commit,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use self::{gauges::Gauges, intake::Intake};
use super::{clockwatch::ClockWatch, demand::Announcer, shared::Shared};

/// How often gauges are set.
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Meters {
    claimed: Counter,
    pub(super) put_back: Counter,
    pub(super) timers: Counter,
    pub(super) commit_retries: Counter,
    pub(super) publish_refused: Counter,
    publish_retries: [[Counter; 2]; 3],
    published_retry: Counter,
    published_dead_letter: Counter,
    published_forward: Counter,
    reported: [[Counter; 4]; 3],
    waited_seconds: Histogram,
    commit_seconds: Histogram,
    commit_rows: Histogram,
    gauges: Mutex<Gauges>,
}

/// Destinations, in the order of [`place`], and whether a copy may have been written.
const KINDS: [&str; 3] = ["retry", "dead_letter", "forward"];
const SENT: [&str; 2] = ["no", "perhaps"];

fn place(destination: Destination) -> usize {
    match destination {
        Destination::Retry => 0,
        Destination::DeadLetter => 1,
        Destination::Forward => 2,
    }
}

const VERDICTS: [&str; 3] = ["complete", "failure", "retry"];
const ANSWERS: [&str; 4] = ["settled", "remembered", "unknown", "refused"];

impl Meters {
    pub(super) fn new() -> Self {
        Self {
            claimed: counter!("taskbroker_claims_total"),
            put_back: counter!("taskbroker_claims_put_back_total"),
            timers: counter!("taskbroker_timers_total"),
            commit_retries: counter!("taskbroker_commit_retries_total"),
            publish_refused: counter!("taskbroker_publish_refused_total"),
            publish_retries: KINDS.map(|kind| {
                SENT.map(|sent| counter!("taskbroker_publish_retries_total", "kind" => kind, "sent" => sent))
            }),
            published_retry: counter!("taskbroker_published_total", "kind" => "retry"),
            published_dead_letter: counter!("taskbroker_published_total", "kind" => "dead_letter"),
            published_forward: counter!("taskbroker_published_total", "kind" => "forward"),
            reported: VERDICTS.map(|verdict| {
                ANSWERS.map(|answer| counter!("taskbroker_reports_total", "verdict" => verdict, "answer" => answer))
            }),
            waited_seconds: histogram!("taskbroker_wait_seconds"),
            commit_seconds: histogram!("taskbroker_commit_seconds"),
            commit_rows: histogram!("taskbroker_commit_rows"),
            gauges: Mutex::default(),
        }
    }

    pub(super) fn committed(&self, commit: &Commit, took: Duration) {
        self.commit_seconds.record(took.as_secs_f64());
        self.commit_rows.record(commit.rows() as f64);
    }

    /// A task was claimed, so long after it was produced.
    pub(super) fn claimed(&self, waited: Duration) {
        self.claimed.increment(1);
        self.waited_seconds.record(waited.as_secs_f64());
    }

    pub(super) fn published(&self, destination: Destination) {
        match destination {
            Destination::Retry => self.published_retry.increment(1),
            Destination::DeadLetter => self.published_dead_letter.increment(1),
            Destination::Forward => self.published_forward.increment(1),
        }
    }

    /// A message was not published and is sent again; `sent`: a copy of it may have been written.
    pub(super) fn publish_retried(&self, destination: Destination, sent: bool) {
        let counter = self.publish_retries.get(place(destination)).and_then(|sents| sents.get(usize::from(sent)));
        counter.into_iter().for_each(|counter| counter.increment(1));
    }

    pub(super) fn reported(&self, verdict: &Verdict, reported: Reported) {
        let verdict = match verdict {
            Verdict::Complete => 0,
            Verdict::Failure => 1,
            Verdict::Retry(_) => 2,
        };
        let answer = match reported {
            Reported::Settled => 0,
            Reported::Remembered => 1,
            Reported::Unknown => 2,
            Reported::Refused => 3,
        };
        if let Some(counter) = self.reported.get(verdict).and_then(|answers| answers.get(answer)) {
            counter.increment(1);
        }
    }
}

/// What is counted of one topic.
pub(super) struct FeedMeters {
    pub(super) read: Counter,
    pub(super) known: Counter,
    pub(super) duplicates: Counter,
    pub(super) settled_early: Counter,
    pub(super) expired_on_arrival: Counter,
    pub(super) dropped_on_arrival: Counter,
    pub(super) forwarded_on_arrival: Counter,
    pub(super) undecodable: Counter,
    pub(super) assigned: Counter,
    pub(super) revoked: Counter,
    pub(super) lost: Counter,
    pub(super) not_started: Counter,
    pub(super) lost_to_retention: Counter,
    pub(super) group_commits_failed: Counter,
    pub(super) intake: Intake,
    kafka_up: Gauge,
}

impl FeedMeters {
    pub(super) fn new(topic: &str) -> Self {
        let topic = || topic.to_owned();
        let records = |kind: &'static str| counter!("taskbroker_records_total", "topic" => topic(), "kind" => kind);
        let partitions =
            |event: &'static str| counter!("taskbroker_partitions_total", "topic" => topic(), "event" => event);
        Self {
            read: records("read"),
            known: records("known"),
            duplicates: records("duplicate"),
            settled_early: records("settled_early"),
            expired_on_arrival: records("expired"),
            dropped_on_arrival: records("dropped"),
            forwarded_on_arrival: records("forwarded"),
            undecodable: records("undecodable"),
            assigned: partitions("assigned"),
            revoked: partitions("revoked"),
            lost: partitions("lost"),
            not_started: partitions("not_started"),
            lost_to_retention: counter!("taskbroker_lost_to_retention_total", "topic" => topic()),
            group_commits_failed: counter!("taskbroker_group_commits_failed_total", "topic" => topic()),
            intake: Intake::new(&topic()),
            kafka_up: gauge!("taskbroker_kafka_up", "topic" => topic()),
        }
    }

    pub(super) fn connection(&self, up: bool) {
        self.kafka_up.set(if up { 1.0 } else { 0.0 });
    }
}

/// Sets gauges and checks conservation until it is stopped.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let (mut announcer, mut clock) = (Announcer::default(), ClockWatch::default());
    loop {
        let imbalance = refresh(&shared);
        if let Some(jump) = clock.look(shared.clock.now()) {
            warn!(
                direction = jump.direction,
                by_s = jump.by.as_secs(),
                "the system clock was set; delays and expiry follow it, deadlines of workers do not"
            );
        }
        if imbalance != 0 {
            error!(imbalance, "conservation is violated: activations were lost or made up");
        }
        let unserved = shared.lock().unserved();
        announcer.show(&unserved, shared.clock.now().steady);
        match shared.store.usage().await {
            Ok(usage) => {
                gauge!("taskbroker_store_used_bytes").set(usage.used_bytes as f64);
                gauge!("taskbroker_store_disk_bytes").set(usage.disk_bytes as f64);
                shared.measured(usage);
            }
            Err(error) => warn!(%error, "the size of the store cannot be read"),
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Sets the gauges of the ledger. Returns its imbalance.
pub(super) fn refresh(shared: &Shared) -> i64 {
    // The picture is taken under the lock of who shows it: an older one must not follow a newer one.
    let mut gauges = shared.meters.gauges.lock().unwrap_or_else(PoisonError::into_inner);
    let stats = shared.stats();
    gauges.show(&stats, shared.clock.now().wall);
    stats.imbalance
}
