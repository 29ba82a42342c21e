//! Rebalancing under fire: brokers of one group are stopped and started at random while messages come. Nobody works on them:
//! what was read stays as rows, so that it can be counted.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use taskbroker_support::{
    broker::{BrokerProcess, Setup, Task},
    kafka::{Kafka, Message},
};
use tokio::task::JoinSet;

use super::{scale, seed::Chance, setup};

/// A supervisor's patience with a broker that is to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(10);
/// What a broker says that left without its last commit, with the positions. A cooperative group may make it wait for too long,
/// after a member that it did not hear of: see `docs/guarantees.md`. Where none says so, nothing may be repeated.
const GIVEN_UP: &str = "the last positions may not be committed";
/// All stops of a storm are orderly, so that there is hardly a cause.
const GIVEN_UP_MAX: usize = 1;
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

/// A record's place in Kafka's log.
type Place = (i32, i64);

/// What one broker has stored, and what it may have stored in vain: of its stops without the last commit, the positions up to which
/// it had read, by partition.
struct Stored {
    places: BTreeMap<String, Place>,
    given_up: Vec<BTreeMap<i32, i64>>,
}

impl Stored {
    async fn by(member: &Member) -> Result<Self> {
        let tasks = member.broker.stored().await?.into_iter();
        let places = tasks.map(|task| (task.id, (task.partition, task.offset))).collect();
        let lines = member.broker.log().with(GIVEN_UP);
        Ok(Self { places, given_up: lines.iter().map(|line| positions(line)).collect::<Result<_>>()? })
    }

    /// Whether it stored this, and then left without having it committed.
    fn left_open(&self, id: &str) -> bool {
        let Some((partition, offset)) = self.places.get(id) else { return false };
        self.given_up.iter().any(|open| open.get(partition).is_some_and(|position| offset < position))
    }
}

/// Reads `positions={3: 120, 7: 44}`.
fn positions(line: &str) -> Result<BTreeMap<i32, i64>> {
    let open = line.split_once("positions={").and_then(|(_, rest)| rest.split_once('}'));
    let (open, _) = open.with_context(|| format!("no positions in: {line}"))?;
    let one = |pair: &str| {
        let (partition, position) = pair.split_once(": ").with_context(|| format!("{pair:?} in: {line}"))?;
        Ok((partition.trim().parse()?, position.parse()?))
    };
    open.split(',').filter(|pair| !pair.trim().is_empty()).map(one).collect()
}

/// Of all that is stored more than once, what must not be: all of its copies but one are those of brokers that left it open.
fn unlawful(stored: &[Stored], ids: &[String]) -> Vec<String> {
    let is_unlawful = |id: &&String| {
        let copies = stored.iter().filter(|one| one.places.contains_key(*id)).count();
        copies > 1 + stored.iter().filter(|one| one.left_open(id)).count()
    };
    ids.iter().filter(is_unlawful).cloned().collect()
}

/// Every offset of every partition is stored by one broker, once; twice only what a broker of a cooperative group said that it
/// left without a commit.
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
    let mut stored = Vec::new();
    for member in &survivors {
        stored.push(Stored::by(member).await?);
    }
    let said = |text: &str| survivors.iter().map(|member| member.broker.log().with(text).len()).sum::<usize>();
    let missing: Vec<&String> =
        ids.iter().filter(|id| !stored.iter().any(|one| one.places.contains_key(*id))).take(5).collect();
    let copies: usize = stored.iter().map(|one| one.places.len()).sum();
    let given_up: usize = stored.iter().map(|one| one.given_up.len()).sum();
    eprintln!(
        "storm {strategy}: {copies} copies of {count} stored; {} stops, {given_up} of them without the last commit; Kafka refused {} \
         commits, {} times last ones were sent again",
        said("stopping in order"),
        said("commit failed"),
        said("sent again")
    );
    assert_eq!(missing, Vec::<&String>::new(), "of {count}");
    let wrong = unlawful(&stored, &ids);
    assert!(wrong.is_empty(), "{} are stored twice, {:?}\n{}", wrong.len(), wrong[0], commits_of(&survivors));
    let may_give_up = if strategy == "cooperative-sticky" { GIVEN_UP_MAX } else { 0 };
    assert!(given_up <= may_give_up, "{given_up} left without their last commit\n{}", commits_of(&survivors));
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

#[test]
fn what_a_broker_left_open_is_read_from_what_it_says() -> Result<()> {
    let line = format!("WARN taskbroker_kafka::source: {GIVEN_UP}, Kafka … topic=t positions={{3: 120, 7: 44}}");
    assert_eq!(positions(&line)?, BTreeMap::from([(3, 120), (7, 44)]));
    assert_eq!(positions("positions={}")?, BTreeMap::new());
    assert!(positions(GIVEN_UP).is_err());
    Ok(())
}

#[test]
fn a_copy_is_lawful_only_where_its_broker_left_it_open() {
    let stored = |places: &[(&str, Place)], given_up: &[(i32, i64)]| Stored {
        places: places.iter().map(|(id, place)| ((*id).to_owned(), *place)).collect(),
        given_up: vec![given_up.iter().copied().collect()],
    };
    let ids: Vec<String> = ["a", "b", "c", "d"].map(str::to_owned).into();
    let all = [("a", (0, 4)), ("b", (0, 5)), ("c", (1, 0)), ("d", (2, 0))];
    // The first left partition 0 open below 5; of partition 1 only the second did, which has nothing there.
    let left = stored(&all[..3], &[(0, 5)]);
    let has = stored(&all[..2], &[(1, 9)]);
    let third = stored(&all[2..], &[]);
    assert_eq!(unlawful(&[left, has, third], &ids), ["b", "c"]);
}
