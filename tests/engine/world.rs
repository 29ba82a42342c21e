//! A broker on memory adapters, and what tests do with it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use taskbroker::engine::{Broker, Feed, Options, Ports};
use taskbroker_domain::{
    activation::{ActivationId, PartitionId, RetryWish, TopicId},
    ports::{
        clock::Clock,
        codec::ActivationCodec,
        outbox::Message,
        service::{Offer, Report, Reported, TaskService, Unavailable, Verdict, Wanted},
        source::Record,
        store::{ActivationStore, Row},
    },
    time::{Now, Steady, Timestamp},
};
use taskbroker_memory::{MemoryLog, MemoryOutbox, MemorySource, MemoryStore};
use taskbroker_proto::{MARK_HEADER, codec::Codec, pb};
use tokio::time::Instant;
use uuid::Uuid;

/// Tokio's clock, which tests stop and which moves on when everybody sleeps.
pub(crate) struct SimulatedClock(Instant);

/// 2026-01-01T00:00:00Z.
pub(crate) const START_MS: i64 = 1_767_225_600_000;

impl SimulatedClock {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Now {
        let elapsed = self.0.elapsed();
        Now {
            wall: Timestamp::from_millis(START_MS).saturating_add(elapsed),
            steady: Steady::default().saturating_add(Duration::from_secs(1) + elapsed),
        }
    }
}

pub(crate) struct World {
    pub(crate) log: MemoryLog,
    pub(crate) source: MemorySource,
    pub(crate) store: MemoryStore,
    pub(crate) outbox: MemoryOutbox,
    pub(crate) partition: Arc<PartitionId>,
    pub(crate) options: Options,
    pub(crate) broker: Broker,
    pub(crate) workers: Arc<dyn TaskService>,
    clock: Arc<SimulatedClock>,
    codec: Arc<dyn ActivationCodec>,
}

pub(crate) fn partition(number: i32) -> Arc<PartitionId> {
    Arc::new(PartitionId {
        topic: "taskworker".into(),
        topic_id: TopicId([7; 16]),
        group: "taskworker".into(),
        partition: number,
    })
}

pub(crate) fn options() -> Options {
    let mut options = Options::default();
    options.policy.offset_reset = taskbroker_domain::positions::OffsetReset::Earliest;
    options
}

impl World {
    /// A broker that reads partition 0.
    pub(crate) async fn new(options: Options) -> Self {
        let world = Self::unassigned(options).await;
        world.source.assign(std::slice::from_ref(&world.partition));
        world
    }

    pub(crate) async fn unassigned(options: Options) -> Self {
        Self::with_codec(options, Arc::new(Codec::default())).await
    }

    /// A broker whose records are read by this codec. It reads nothing yet.
    pub(crate) async fn with_codec(options: Options, codec: Arc<dyn ActivationCodec>) -> Self {
        let (log, store, outbox) = (MemoryLog::new(), MemoryStore::new(Uuid::from_u128(1)), MemoryOutbox::default());
        let clock = Arc::new(SimulatedClock::new());
        Self::start(log, store, outbox, options, clock, codec).await
    }

    async fn start(
        log: MemoryLog,
        store: MemoryStore,
        outbox: MemoryOutbox,
        options: Options,
        clock: Arc<SimulatedClock>,
        codec: Arc<dyn ActivationCodec>,
    ) -> Self {
        let source = log.member();
        let feed = Feed { topic: "taskworker".into(), source: Arc::new(source.clone()), codec: codec.clone() };
        let ports = Ports {
            store: Arc::new(store.clone()),
            feeds: vec![feed],
            outbox: Arc::new(outbox.clone()),
            codec: codec.clone(),
            clock: clock.clone(),
        };
        let broker = Broker::start(ports, options.clone()).await.unwrap();
        let workers = broker.service();
        Self { log, source, store, outbox, partition: partition(0), options, broker, workers, clock, codec }
    }

    /// Another life of the broker on the same store, log and outbox; the present one is dropped as it is.
    pub(crate) async fn crash(self) -> Self {
        let Self { log, source, store, outbox, partition, options, broker, clock, codec, .. } = self;
        source.lose(&[partition]);
        drop(broker);
        Self::start(log, store.clone(), outbox, options, clock, codec).await
    }

    /// Stops in good order and starts again.
    pub(crate) async fn restart(self) -> Self {
        let Self { log, store, outbox, options, broker, clock, codec, .. } = self;
        broker.shut_down(Duration::from_secs(5)).await;
        Self::start(log, store, outbox, options, clock, codec).await
    }

    pub(crate) fn produce(&self, activation: &pb::TaskActivation) -> i64 {
        self.log.append(&self.partition, activation.encode_to_vec())
    }

    pub(crate) fn produce_marked(&self, activation: &pb::TaskActivation) -> i64 {
        let headers = vec![(MARK_HEADER.to_owned(), Bytes::from_static(b"retry"))];
        let payload = activation.encode_to_vec().into();
        self.log.append_record(&self.partition, Record { payload, headers, ..Record::default() })
    }

    pub(crate) async fn fetch(&self) -> Option<pb::TaskActivation> {
        let offer = self.workers.fetch(Wanted::Application("app".into())).await.unwrap();
        offer.map(|offer| pb::TaskActivation::decode(Offer::sent(offer)).unwrap())
    }

    /// Polls until there is a task.
    pub(crate) async fn next(&self) -> pb::TaskActivation {
        for _ in 0..100_000 {
            if let Some(task) = self.fetch().await {
                return task;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no task came");
    }

    /// No task comes for this long.
    pub(crate) async fn nothing_for(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let task = self.fetch().await;
            assert!(task.is_none(), "{task:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn report(&self, id: &str, verdict: Verdict) -> Result<Reported, Unavailable> {
        self.workers.report(Report { id: ActivationId::new(id), verdict }).await
    }

    pub(crate) async fn complete(&self, id: &str) -> Reported {
        self.report(id, Verdict::Complete).await.unwrap()
    }

    pub(crate) async fn retry(&self, id: &str) -> Reported {
        self.report(id, Verdict::Retry(RetryWish { max_attempts: Some(3), delay_s: None })).await.unwrap()
    }

    pub(crate) async fn rows(&self) -> Vec<Row> {
        self.store.rows(None, 100_000).await.unwrap()
    }

    /// Waits until everything that came in has left, and checks that nothing was lost or made up.
    pub(crate) async fn empty(&self) {
        for _ in 0..100_000 {
            if self.broker.stats().in_flight == 0 {
                return self.balanced();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("still here: {:?}", self.broker.stats());
    }

    pub(crate) fn balanced(&self) {
        assert_eq!(self.broker.stats().imbalance, 0, "{:?}", self.broker.stats());
    }

    /// Waits until so many messages were delivered; fails when they are not after an hour of simulated time.
    pub(crate) async fn delivered(&self, count: usize) -> Vec<Message> {
        let delivered = tokio::time::timeout(Duration::from_secs(3600), self.outbox.delivered(count)).await;
        assert!(delivered.is_ok(), "{} of {count} messages were delivered", self.outbox.messages().len());
        self.outbox.messages()
    }

    pub(crate) fn now_s(&self) -> i64 {
        self.clock.now().wall.as_millis() / 1000
    }
}

pub(crate) fn task(id: &str) -> pb::TaskActivation {
    pb::TaskActivation {
        id: id.into(),
        application: Some("app".into()),
        namespace: "ns".into(),
        taskname: "demo.task".into(),
        processing_deadline_duration: 10,
        received_at: Some(prost_types::Timestamp { seconds: START_MS / 1000, nanos: 0 }),
        retry_state: Some(pb::RetryState { max_attempts: 3, ..Default::default() }),
        parameters_bytes: b"\x82\xa4args\x90\xa6kwargs\x80".to_vec().into(),
        ..Default::default()
    }
}

pub(crate) fn dead_letter(mut task: pb::TaskActivation) -> pb::TaskActivation {
    task.retry_state.get_or_insert_default().on_attempts_exceeded = pb::OnAttemptsExceeded::Deadletter.into();
    task
}

pub(crate) fn at_most_once(mut task: pb::TaskActivation) -> pb::TaskActivation {
    task.retry_state.get_or_insert_default().at_most_once = Some(true);
    task
}
