//! Workers that work until they are told to stop, and a producer that keeps them busy.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use taskbroker_proto::pb::TaskActivation;
use taskbroker_support::{
    broker::{BrokerProcess, Setup, Worker},
    kafka::{Kafka, Message},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    seed::Chance,
    witness::{Kind, Verdict, Witness},
};

/// How long to wait when there is nothing to do, or nobody to ask.
const PAUSE: Duration = Duration::from_millis(10);
/// How long workers may still report after they were told to stop.
const LAST_REPORTS: Duration = Duration::from_secs(20);

/// Workers of several brokers.
#[derive(Debug)]
pub(crate) struct Crew {
    witness: Arc<Witness>,
    stop: CancellationToken,
    workers: JoinSet<usize>,
    work: u64,
}

impl Crew {
    /// Nobody yet. Each task takes a worker up to `work` milliseconds.
    pub(crate) fn new(witness: &Arc<Witness>, work: u64) -> Self {
        Self { witness: witness.clone(), stop: CancellationToken::new(), workers: JoinSet::new(), work }
    }

    /// So many workers for a broker.
    pub(crate) fn serve(&mut self, broker: &BrokerProcess, count: u64) -> Result<()> {
        for number in 0..count {
            let hand = Hand {
                worker: broker.worker()?,
                port: broker.grpc_port(),
                witness: self.witness.clone(),
                stop: self.stop.clone(),
                chance: Chance::of(number),
                work: self.work,
            };
            self.workers.spawn(hand.run());
        }
        Ok(())
    }

    /// Tells all to finish, and waits for them. How many tasks each has had.
    pub(crate) async fn dismiss(self) -> Vec<usize> {
        self.stop.cancel();
        self.workers.join_all().await
    }
}

struct Hand {
    worker: Worker,
    port: u16,
    witness: Arc<Witness>,
    stop: CancellationToken,
    chance: Chance,
    work: u64,
}

impl Hand {
    async fn run(mut self) -> usize {
        let mut had = 0;
        while !self.stop.is_cancelled() {
            let asked = Instant::now();
            match self.worker.fetch().await {
                Ok(Some(task)) => had += self.work_on(task, asked).await,
                Ok(None) | Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        had
    }

    /// Works on a task and on those that come with the answers. How many there were.
    async fn work_on(&mut self, task: TaskActivation, asked: Instant) -> usize {
        let (mut next, mut had) = (Some((task, asked)), 0);
        while let Some((task, asked)) = next {
            had += 1;
            self.witness.handed(&task, asked);
            tokio::time::sleep(Duration::from_millis(self.chance.below(self.work))).await;
            next = match Verdict::on(&task) {
                Some(verdict) => self.report(&task, verdict).await,
                None => self.vanish(),
            };
        }
        had
    }

    /// Its connection goes with it, and another worker comes.
    fn vanish<T>(&mut self) -> Option<T> {
        self.worker = Worker::at(self.port).unwrap();
        None
    }

    /// Reports until it is answered.
    async fn report(&mut self, task: &TaskActivation, verdict: Verdict) -> Option<(TaskActivation, Instant)> {
        let mut deadline = None;
        loop {
            let stopping = self.stop.is_cancelled();
            if stopping && *deadline.get_or_insert(Instant::now() + LAST_REPORTS) < Instant::now() {
                return None;
            }
            let asked = Instant::now();
            let answer = match stopping {
                true => self.worker.report(&task.id, verdict.status()).await.map(|()| None),
                false => self.worker.report_and_fetch(&task.id, verdict.status()).await,
            };
            if let Ok(next) = answer {
                self.witness.answered(task, verdict);
                return next.map(|next| (next, asked));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Produces so many tasks of these kinds in turn, spread over all partitions.
pub(crate) async fn produce(
    kafka: &Kafka,
    setup: &Setup,
    witness: &Witness,
    kinds: &[Kind],
    count: usize,
) -> Result<()> {
    let messages: Vec<Message> = kinds
        .iter()
        .cycle()
        .take(count)
        .map(|kind| witness.produce(*kind))
        .map(|task| Message::new(task.encode()).key(task.id()))
        .collect();
    kafka.produce(&setup.topic, messages).await?;
    Ok(())
}

/// Produces a few tasks now and then, until it is stopped.
pub(crate) struct Producer {
    stop: CancellationToken,
    running: tokio::task::JoinHandle<Result<()>>,
}

impl Producer {
    /// `batch` tasks each 50 ms.
    pub(crate) fn start(kafka: &Kafka, setup: &Setup, witness: &Arc<Witness>, kinds: &[Kind], batch: usize) -> Self {
        let stop = CancellationToken::new();
        let (kafka, setup, witness, kinds) = (kafka.clone(), setup.clone(), witness.clone(), kinds.to_vec());
        let stopped = stop.clone();
        let running = tokio::spawn(async move {
            while !stopped.is_cancelled() {
                produce(&kafka, &setup, &witness, &kinds, batch).await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        });
        Self { stop, running }
    }

    /// Stops it and waits until all is in Kafka.
    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.running.await?
    }
}

/// Notes down what is in the dead-letter topic. The ids that are there, in ascending order, each as often as it is there.
pub(crate) async fn collect_dead(kafka: &Kafka, setup: &Setup, witness: &Witness) -> Result<Vec<String>> {
    use prost::Message as _;
    let mut ids = Vec::new();
    for message in kafka.consume_all(&setup.dead_letters).await? {
        let task = TaskActivation::decode(message.payload.as_slice())?;
        witness.dead(&task);
        ids.push(task.id);
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Waits until a broker has nothing in flight; then conservation must hold and the store must be empty.
pub(crate) async fn assert_empty(broker: &BrokerProcess, within: Duration) -> Result<()> {
    let deadline = Instant::now() + within;
    loop {
        let metrics = broker.metrics().await?;
        let stored = broker.stored().await?;
        if metrics.in_flight() == 0.0 && stored.is_empty() {
            assert_eq!(metrics.imbalance(), 0.0, "conservation is violated");
            return Ok(());
        }
        assert!(
            Instant::now() < deadline,
            "{} in flight and {} rows after {within:?}: {:?}\n{}",
            metrics.in_flight(),
            stored.len(),
            stored.iter().take(5).collect::<Vec<_>>(),
            broker.log().tail(20)
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
