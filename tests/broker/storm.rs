//! Rebalancing under fire: brokers of one group are stopped and started at random while messages come. Nobody works on them:
//! what was read stays as rows, so that it can be counted.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use taskbroker_support::{
    broker::{BrokerProcess, Setup, Task},
    kafka::{Kafka, Message},
};
use tokio::task::JoinSet;

use super::{scale, seed::Chance, setup};

/// A supervisor's patience with a broker that is to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(10);
/// How long the group may take to read everything after the last change.
pub(crate) const READ_WITHIN: Duration = Duration::from_secs(180);

/// Room for all at any one broker.
pub(crate) fn roomy(setup: Setup, count: usize) -> Setup {
    let count = count + 1;
    setup
        .with("store.max_pending_count", count)
        .with("store.max_size", 4_000_000_000_u64)
        .with("log_filter", "info,taskbroker_kafka::source=debug,librdkafka=warn,h2=off")
}

/// Produces so many, a hundredth of them at a time with a pause after each.
pub(crate) async fn produce(
    kafka: &Kafka,
    setup: &Setup,
    partitions: i32,
    count: usize,
    pause: Duration,
) -> Result<Vec<String>> {
    let mut ids = Vec::with_capacity(count);
    for (number, chunk) in (0..count).collect::<Vec<_>>().chunks(count.div_ceil(100)).enumerate() {
        let tasks: Vec<Task> = chunk.iter().map(|_| Task::new()).collect();
        ids.extend(tasks.iter().map(Task::id));
        let place = |index: usize| i32::try_from(number + index).unwrap_or_default() % partitions;
        let messages =
            tasks.iter().enumerate().map(|(index, task)| Message::new(task.encode()).partition(place(index)));
        kafka.produce(&setup.topic, messages).await?;
        tokio::time::sleep(pause).await;
    }
    Ok(ids)
}

/// A broker with a store of its own, which is stopped and started.
pub(crate) struct Member {
    pub(crate) broker: BrokerProcess,
    pub(crate) chance: Chance,
}

impl Member {
    /// Stops and starts until `end`; runs when it returns.
    pub(crate) async fn live(mut self, end: Instant) -> Result<Self> {
        while Instant::now() < end {
            tokio::time::sleep(self.chance.millis(500..5000)).await;
            let ended = self.broker.stop().await?;
            anyhow::ensure!(ended.status.code() == Some(0), "{ended:?}\n{}", self.broker.log().tail(30));
            anyhow::ensure!(ended.took < STOPS_WITHIN, "{ended:?}\n{}", self.broker.log().tail(30));
            tokio::time::sleep(self.chance.millis(50..2000)).await;
            self.broker.start_again().await?;
        }
        Ok(self)
    }
}

/// How often each of these ids is stored, over all files.
async fn stored(members: &[Member]) -> Result<BTreeMap<String, usize>> {
    let mut stored = BTreeMap::new();
    for member in members {
        for task in member.broker.stored().await? {
            *stored.entry(task.id).or_default() += 1;
        }
    }
    Ok(stored)
}

/// Every offset of every partition is stored by one broker, once.
async fn storm(strategy: &str) -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let (brokers, count, storm) = (scale::storm_brokers(), scale::storm_tasks(), scale::storm());
    let seed = scale::seed();
    eprintln!("storm {strategy}: {brokers} brokers, {count} messages, {storm:?}, TASKBROKER_TEST_SEED={seed}");
    let partitions = i32::try_from(4 * brokers)?;
    let setup = roomy(setup(&kafka, partitions).await?, count).with("kafka_assignment_strategy", strategy);
    let mut members = JoinSet::new();
    let end = Instant::now() + storm;
    for number in 0..brokers {
        let member = Member { broker: BrokerProcess::start(&setup).await?, chance: Chance::of(seed + number) };
        members.spawn(member.live(end));
    }
    let ids = produce(&kafka, &setup, partitions, count, storm / 110).await?;
    let mut survivors = Vec::new();
    while let Some(member) = members.join_next().await {
        survivors.push(member??);
    }
    kafka.await_no_lag(&setup.group, &setup.topic, READ_WITHIN).await?;
    for member in &mut survivors {
        let ended = member.broker.stop().await?;
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        assert!(ended.took < STOPS_WITHIN, "{ended:?}");
        assert_eq!(member.broker.log().errors(), Vec::<String>::new());
    }
    let stored = stored(&survivors).await?;
    let missing: Vec<&String> = ids.iter().filter(|id| !stored.contains_key(*id)).take(5).collect();
    let repeated: Vec<_> = stored.iter().filter(|(_, times)| **times > 1).map(|(id, _)| id).collect();
    let refused: usize = survivors.iter().map(|member| member.broker.log().with("commit failed").len()).sum();
    let insisted: usize = survivors.iter().map(|member| member.broker.log().with("sent again").len()).sum();
    eprintln!(
        "storm {strategy}: {} of {count} stored, {} more than once; Kafka refused {refused} commits, {insisted} times last ones \
         were sent again",
        stored.len(),
        repeated.len()
    );
    assert_eq!((stored.len(), missing.len()), (count, 0), "missing {missing:?}");
    assert!(repeated.is_empty(), "{} are stored twice, {:?}\n{}", repeated.len(), repeated[0], commits_of(&survivors));
    Ok(())
}

/// What was said of commits and assignments.
fn commits_of(members: &[Member]) -> String {
    let telling = |line: &String| ["commit", "partitions", "lost", "stopping"].iter().any(|word| line.contains(word));
    let of = |member: &Member| {
        let lines: Vec<_> = member.broker.log().lines().into_iter().filter(telling).collect();
        format!("--- port {}\n{}\n", member.broker.grpc_port(), lines.join("\n"))
    };
    members.iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eager_brokers_that_come_and_go_store_every_message_exactly_once() -> Result<()> {
    storm("range").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cooperative_brokers_that_come_and_go_store_every_message_exactly_once() -> Result<()> {
    storm("cooperative-sticky").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_of_the_consumer_protocol_that_come_and_go_store_every_message_exactly_once() -> Result<()> {
    storm("consumer").await
}
