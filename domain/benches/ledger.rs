//! What the ledger takes for a task, without a store and a Kafka: `cargo bench -p taskbroker-domain`.
#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use divan::{Bencher, counter::ItemsCount};
use taskbroker_domain::{
    activation::{Activation, ActivationId, Origin, PartitionId, Route, Slot, Terms, TopicId},
    ledger::{Ledger, SourceAction},
    policy::{Limits, Policy},
    ports::{
        service::{Report, Verdict, Wanted},
        source::{Assigned, AssignmentId},
    },
    positions::OffsetReset,
    rules::Fate,
    time::{Now, Steady, Timestamp},
};
use uuid::Uuid;

/// Tasks between two commits.
const BATCH: usize = 256;
const PAYLOAD: &[u8] = &[7; 395];

fn main() {
    divan::main();
}

/// A ledger that reads one partition.
struct Reading {
    ledger: Ledger,
    partition: Arc<PartitionId>,
    route: Arc<Route>,
    slot: Slot,
    offset: i64,
    ms: u64,
}

impl Reading {
    fn new(window: Duration) -> Self {
        let limits = Limits { pending: usize::MAX, ..Limits::default() };
        let policy = Policy { window, limits, offset_reset: OffsetReset::Earliest, ..Policy::default() };
        let partition = Arc::new(PartitionId {
            topic: "tasks".into(),
            topic_id: TopicId([7; 16]),
            group: "brokers".into(),
            partition: 0,
        });
        let route = Arc::new(Route::new("app", "ns", "task"));
        let ledger = Ledger::new(policy, Uuid::from_u128(1));
        let mut reading = Self { ledger, partition, route, slot: Slot(0), offset: 0, ms: 1_000 };
        reading.assign();
        reading
    }

    fn assign(&mut self) {
        let assigned = Assigned {
            partition: self.partition.clone(),
            assignment: AssignmentId(1),
            committed: None,
            log_start: 0,
            log_end: i64::MAX,
        };
        self.ledger.assign(&assigned, self.now()).unwrap();
        while self.ledger.reading(&self.partition, AssignmentId(1)).is_none() {
            self.commit();
        }
        self.slot = self.ledger.reading(&self.partition, AssignmentId(1)).unwrap();
    }

    fn now(&self) -> Now {
        let wall = Timestamp::from_millis(1_800_000_000_000).saturating_add(Duration::from_millis(self.ms));
        Now { wall, steady: Steady::from_millis(self.ms) }
    }

    fn id(&self, offset: i64) -> ActivationId {
        ActivationId::new(format!("0af7651916cd43dd{offset:016x}"))
    }

    fn admit(&mut self, count: usize) {
        let now = self.now();
        for _ in 0..count {
            let activation = Activation {
                id: self.id(self.offset),
                route: self.route.clone(),
                terms: Terms { run_limit: Duration::from_secs(60), ..Terms::default() },
                received_at: now.wall,
                marked: false,
                payload: Bytes::from_static(PAYLOAD),
            };
            let origin = Origin { slot: self.slot, offset: self.offset };
            self.ledger.read(origin, Some(1), now);
            self.ledger.admit(origin, activation, Fate::Keep, now);
            self.offset += 1;
        }
    }

    fn claim(&mut self, count: usize) {
        let (wanted, now) = (Wanted::Application("app".to_owned()), self.now());
        for _ in 0..count {
            assert!(self.ledger.claim(&wanted, now).is_some(), "something waits");
        }
    }

    fn settle(&mut self, from: i64, count: usize) {
        let now = self.now();
        for offset in (from..).take(count) {
            let report = Report { id: self.id(offset), verdict: Verdict::Complete };
            assert!(self.ledger.settle(&report, now).is_ok());
        }
    }

    /// The store takes what is to be written, Kafka the position.
    fn commit(&mut self) -> usize {
        self.ms += 5;
        let now = self.now();
        self.ledger.tick(now);
        let rows = self.ledger.take_commit(now).map_or(0, |commit| commit.rows());
        self.ledger.confirm(now);
        for action in self.ledger.source_actions(now) {
            if let SourceAction::Commit(commit) = action {
                self.ledger.committed(&commit.partition, commit.assignment, commit.offset, now);
            }
        }
        rows
    }
}

/// 256 tasks come and go within their window.
#[divan::bench]
fn tasks_that_become_no_row(bencher: Bencher<'_, '_>) {
    let mut reading = Reading::new(Duration::from_millis(200));
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        let first = reading.offset;
        reading.admit(BATCH);
        reading.claim(BATCH);
        reading.settle(first, BATCH);
        assert_eq!(reading.commit(), 0);
    });
}

/// 256 tasks become rows, are claimed, and settled: three commits.
#[divan::bench]
fn tasks_that_become_rows(bencher: Bencher<'_, '_>) {
    let mut reading = Reading::new(Duration::ZERO);
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        let first = reading.offset;
        reading.admit(BATCH);
        assert_eq!(reading.commit(), BATCH);
        reading.claim(BATCH);
        reading.commit();
        reading.settle(first, BATCH);
        assert_eq!(reading.commit(), BATCH);
    });
}

#[divan::bench]
fn admit(bencher: Bencher<'_, '_>) {
    let fresh = || Reading::new(Duration::from_millis(200));
    bencher.counter(ItemsCount::new(BATCH)).with_inputs(fresh).bench_local_refs(|reading| reading.admit(BATCH));
}

/// 256 tasks come, are claimed and settled, as the first does, while so many wait.
#[divan::bench(args = [1_000, 100_000])]
fn tasks_behind_a_queue(bencher: Bencher<'_, '_>, waiting: usize) {
    let mut reading = Reading::new(Duration::from_secs(3_600));
    reading.admit(waiting);
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        let first = reading.offset;
        reading.admit(BATCH);
        reading.claim(BATCH);
        reading.settle(first - i64::try_from(waiting).unwrap(), BATCH);
        reading.commit()
    });
}
