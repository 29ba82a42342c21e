//! What a task takes in the engine: ingest, ledger, committer and answers, on stores, logs and outboxes in memory:
//! `cargo bench -p taskbroker`.
#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::{sync::Arc, time::Duration};

use divan::{Bencher, counter::ItemsCount};
use prost::Message as _;
use taskbroker::engine::{Broker, Feed, Options, Ports};
use taskbroker_clock::SystemClock;
use taskbroker_domain::{
    activation::{ActivationId, PartitionId, TopicId},
    ports::service::{Report, Reported, TaskService, Verdict, Wanted},
    positions::OffsetReset,
};
use taskbroker_memory::{MemoryLog, MemoryOutbox, MemoryStore};
use taskbroker_proto::{codec::Codec, pb};
use tokio::runtime::Runtime;
use uuid::Uuid;

const TASKS: usize = 2_000;

fn main() {
    divan::main();
}

struct Bench {
    runtime: Runtime,
    log: MemoryLog,
    partition: Arc<PartitionId>,
    workers: Arc<dyn TaskService>,
    next: u64,
    _broker: Broker,
}

impl Bench {
    fn new(window: Duration) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let log = MemoryLog::new();
        let partition = Arc::new(PartitionId {
            topic: "tasks".into(),
            topic_id: TopicId([7; 16]),
            group: "brokers".into(),
            partition: 0,
        });
        let source = log.member();
        let mut options = Options::default();
        options.policy.window = window;
        options.policy.offset_reset = OffsetReset::Earliest;
        options.policy.limits.pending = 10 * TASKS;
        let codec = Arc::new(Codec::default());
        let feed = Feed { topic: "tasks".into(), source: Arc::new(source.clone()), codec: codec.clone() };
        let ports = Ports {
            store: Arc::new(MemoryStore::new(Uuid::from_u128(1))),
            feeds: vec![feed],
            outbox: Arc::new(MemoryOutbox::default()),
            codec,
            clock: Arc::new(SystemClock::new()),
        };
        let broker = runtime.block_on(Broker::start(ports, options)).unwrap();
        source.assign(std::slice::from_ref(&partition));
        Self { log, partition, workers: broker.service(), next: 0, _broker: broker, runtime }
    }

    fn produce(&mut self, count: usize) {
        for _ in 0..count {
            let activation = pb::TaskActivation {
                id: format!("0af7651916cd43dd{:016x}", self.next),
                application: Some("app".into()),
                processing_deadline_duration: 60,
                parameters_bytes: vec![7; 300].into(),
                ..pb::TaskActivation::default()
            };
            self.log.append(&self.partition, activation.encode_to_vec());
            self.next += 1;
        }
    }

    /// So many workers fetch and report until all is done.
    fn work(&self, workers: usize) {
        self.runtime.block_on(async {
            let crew = (0..workers).map(|_| {
                let service = self.workers.clone();
                tokio::spawn(async move {
                    for _ in 0..TASKS / workers {
                        one(&*service).await;
                    }
                })
            });
            for worker in crew.collect::<Vec<_>>() {
                worker.await.unwrap();
            }
        });
    }
}

async fn one(service: &dyn TaskService) {
    let offer = loop {
        match service.fetch(Wanted::Application("app".to_owned())).await.unwrap() {
            Some(offer) => break offer,
            None => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    let id = pb::TaskActivation::decode(offer.sent()).unwrap().id;
    let report = Report { id: ActivationId::new(id), verdict: Verdict::Complete };
    assert_eq!(service.report(report).await.unwrap(), Reported::Settled);
}

/// Tasks that come and go within their window.
#[divan::bench(args = [1, 16, 64], sample_count = 20, sample_size = 1)]
fn within_the_window(bencher: Bencher<'_, '_>, workers: usize) {
    drain(bencher, Duration::from_millis(200), workers);
}

/// Every task becomes a row.
#[divan::bench(args = [1, 16, 64], sample_count = 20, sample_size = 1)]
fn as_rows(bencher: Bencher<'_, '_>, workers: usize) {
    drain(bencher, Duration::ZERO, workers);
}

fn drain(bencher: Bencher<'_, '_>, window: Duration, workers: usize) {
    let mut bench = Bench::new(window);
    let tasks = TASKS / workers * workers;
    bencher.counter(ItemsCount::new(tasks)).bench_local(|| {
        bench.produce(tasks);
        bench.work(workers);
    });
}
