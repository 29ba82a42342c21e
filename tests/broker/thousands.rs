//! Thousands of tasks of one temper: each ends as it should, and is handed out no more often than it should.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use taskbroker_support::{
    broker::{BrokerProcess, Metrics, Setup},
    kafka::Kafka,
};

use super::{
    crew::{Crew, assert_empty, collect_dead, produce},
    scale, setup,
    witness::{Kind, Tally, Witness},
};

/// How long nothing may happen before a test gives up, and how long the rest may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// On a machine that does other things as well. Idle, it is a few milliseconds.
const LATE_MAX: Duration = Duration::from_secs(10);
/// What is added to a deadline, in seconds.
const GRACE_S: u64 = 1;

/// A broker, its workers, and `scale::tasks()` tasks of these kinds in turn.
struct Round {
    kafka: Kafka,
    setup: Setup,
    broker: BrokerProcess,
    witness: Arc<Witness>,
    crew: Crew,
    began: Instant,
}

/// What was left behind.
struct Remains {
    tally: Tally,
    dead: Vec<String>,
    metrics: Metrics,
}

impl Round {
    /// Workers are there before the tasks. `None`: there is no Kafka.
    async fn of(kinds: &[Kind], workers: u64, work: u64) -> Result<Option<Self>> {
        let Some(kafka) = Kafka::shared() else { return Ok(None) };
        let setup = setup(&kafka, 4)
            .await?
            .with("store.max_delay_count", scale::tasks() + 1)
            .with("store.processing_deadline_grace_sec", GRACE_S);
        let broker = BrokerProcess::start(&setup).await?;
        let witness = Arc::new(Witness::default());
        let mut crew = Crew::new(&witness, work);
        crew.serve(&broker, workers)?;
        let began = Instant::now();
        produce(&kafka, &setup, &witness, kinds, scale::tasks()).await?;
        Ok(Some(Self { kafka, setup, broker, witness, crew, began }))
    }

    /// Once all was read and nothing is left: what there was to see.
    async fn end(self, what: &str) -> Result<Remains> {
        self.kafka.await_no_lag(&self.setup.group, &self.setup.topic, PATIENCE).await?;
        assert_empty(&self.broker, PATIENCE).await?;
        let took = self.began.elapsed();
        self.crew.dismiss().await;
        let dead = collect_dead(&self.kafka, &self.setup, &self.witness).await?;
        let (tally, metrics) = (self.witness.vindicate(), self.broker.metrics().await?);
        assert_eq!(self.broker.log().errors(), Vec::<String>::new());
        eprintln!("{what}: {tally}; {took:.1?}");
        Ok(Remains { tally, dead, metrics })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_are_retried_three_times_run_once_in_each_attempt() -> Result<()> {
    let Some(round) = Round::of(&[Kind::RetryThrice], 16, 0).await? else { return Ok(()) };
    round.witness.await_all(PATIENCE).await;
    let witness = Arc::clone(&round.witness);
    let remains = round.end("retried three times").await?;
    let count = scale::tasks();
    assert_eq!(witness.attempts(), BTreeMap::from([(vec![0, 1, 2, 3], count)]));
    assert_eq!(remains.tally.handed, 4 * count);
    assert_eq!(remains.dead, Vec::<String>::new());
    assert_eq!(remains.metrics.activations("retried"), 3.0 * count as f64);
    assert_eq!(remains.metrics.activations("completed"), count as f64);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_tasks_that_fail_those_that_ask_for_it_are_dead_lettered_once_each_and_no_others() -> Result<()> {
    let Some(round) = Round::of(&[Kind::Fails, Kind::FailsUnheard], 16, 0).await? else { return Ok(()) };
    round.witness.await_all(PATIENCE).await;
    let witness = Arc::clone(&round.witness);
    let remains = round.end("failing").await?;
    assert_eq!(witness.attempts(), BTreeMap::from([(vec![0], scale::tasks())]));
    assert_eq!(remains.dead, witness.ids(Kind::Fails));
    assert_eq!(remains.metrics.activations("dead_lettered"), remains.dead.len() as f64);
    assert_eq!(remains.metrics.activations("discarded"), witness.ids(Kind::FailsUnheard).len() as f64);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_expire_while_workers_are_busy_are_not_handed_out_any_more_and_each_is_counted() -> Result<()> {
    // So many that there is time for about half of them.
    let workers = u64::try_from(scale::tasks())?.div_ceil(200);
    let Some(round) = Round::of(&[Kind::Expires], workers, 80).await? else { return Ok(()) };
    let witness = Arc::clone(&round.witness);
    let remains = round.end("expiring").await?;
    let expired = remains.metrics.activations("expired");
    eprintln!("expiring: {} ran in time, {expired} expired", remains.tally.handed);
    assert_eq!(witness.attempts().into_keys().collect::<Vec<_>>(), [[0]], "none comes twice, and some come");
    assert!(expired > 0.0, "some expire");
    assert_eq!(expired + remains.tally.handed as f64, scale::tasks() as f64);
    assert_eq!(remains.metrics.activations("completed"), remains.tally.handed as f64);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delayed_tasks_come_when_their_time_has_come_and_never_before() -> Result<()> {
    // Each report waits for the disk, so few workers would be what is late.
    let workers = u64::try_from(scale::tasks())?.div_ceil(150).clamp(16, 64);
    let Some(round) = Round::of(&[Kind::DelayedLong], workers, 0).await? else { return Ok(()) };
    round.witness.await_all(PATIENCE).await;
    let witness = Arc::clone(&round.witness);
    round.end("delayed").await?;
    assert_eq!(witness.not_exactly_once(), Vec::<String>::new());
    let lateness = witness.lateness();
    let per_mille = |share: usize| lateness[(lateness.len() - 1) * share / 1_000];
    let max = per_mille(1_000);
    eprintln!(
        "delayed: with a worker after the end of the delay: p50 {:.1?}, p99 {:.1?}, p99.9 {:.1?}, max {max:.1?}",
        per_mille(500),
        per_mille(990),
        per_mille(999)
    );
    assert_eq!(lateness.len(), scale::tasks());
    assert!(max < LATE_MAX, "{max:?} late");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_once_tasks_whose_workers_vanish_never_come_again_and_are_dead_lettered_once_each() -> Result<()> {
    let Some(round) = Round::of(&[Kind::Vanishes, Kind::AtMostOnce], 16, 0).await? else { return Ok(()) };
    let witness = Arc::clone(&round.witness);
    let remains = round.end("vanishing workers").await?;
    assert_eq!(remains.tally.handed, scale::tasks(), "each is handed out once");
    assert_eq!(remains.dead, witness.ids(Kind::Vanishes));
    assert_eq!(remains.metrics.activations("completed"), witness.ids(Kind::AtMostOnce).len() as f64);
    assert_eq!(remains.metrics.sum("taskbroker_leases_lost_total"), remains.dead.len() as f64);
    Ok(())
}
