//! Messages that are no tasks, and tasks that are absurd: each is dead-lettered, parked, or run; the next one is processed.

use std::time::Duration;

use anyhow::Result;
use prost::Message as _;
use taskbroker_proto::pb::{RetryState, TaskActivation};
use taskbroker_support::{
    broker::{BrokerProcess, Setup, Task, Worker},
    kafka::{Kafka, Message},
};

use super::{BINARY, crew::assert_empty, seed::Chance, setup};

const WITHIN: Duration = Duration::from_secs(20);
const MB: usize = 1_000_000;

/// Produces a message and a good task behind it; the good one must come, and is completed. Returns what came before it.
async fn then_the_next_one(kafka: &Kafka, setup: &Setup, worker: &mut Worker, poison: Message) -> Result<Vec<String>> {
    let good = Task::new();
    kafka.produce(&setup.topic, [poison.partition(0), Message::new(good.encode()).partition(0)]).await?;
    let mut before = Vec::new();
    loop {
        let task = worker.fetch_within(WITHIN).await?.unwrap_or_else(|| panic!("the task behind it does not come"));
        worker.complete(&task.id).await?;
        if task.id == good.id() {
            return Ok(before);
        }
        before.push(task.id);
    }
}

/// Waits until so many dead letters are there.
async fn dead_letters(kafka: &Kafka, setup: &Setup, count: usize) -> Result<Vec<taskbroker_support::kafka::Consumed>> {
    let deadline = tokio::time::Instant::now() + WITHIN;
    loop {
        let dead = kafka.consume_all(&setup.dead_letters).await?;
        if dead.len() >= count {
            return Ok(dead);
        }
        assert!(tokio::time::Instant::now() < deadline, "{} of {count} dead letters", dead.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn what_is_no_task_is_dead_lettered_with_its_bytes_and_a_reason() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1).await?;
    let mut broker = BrokerProcess::start(&setup).await?;
    let mut worker = broker.worker()?;
    let mut chance = Chance::of(7);
    let cut_off = {
        let mut bytes = Task::new().arguments(vec![0; 100]).encode();
        bytes.truncate(60);
        bytes
    };
    let without_id = TaskActivation { namespace: "space".to_owned(), ..TaskActivation::default() }.encode_to_vec();
    let poison = [chance.bytes(300), vec![0xff; 12], Vec::new(), cut_off, without_id, b"{\"id\": 1}".to_vec()];
    for bytes in &poison {
        let before = then_the_next_one(&kafka, &setup, &mut worker, Message::new(bytes.clone())).await?;
        assert_eq!(before, Vec::<String>::new());
    }
    then_the_next_one(&kafka, &setup, &mut worker, Message::without_value()).await?;

    let dead = dead_letters(&kafka, &setup, poison.len() + 1).await?;
    let mut bytes: Vec<&[u8]> = dead.iter().map(|message| message.payload.as_slice()).collect();
    let mut expected: Vec<&[u8]> = poison.iter().map(Vec::as_slice).chain([&[][..]]).collect();
    bytes.sort_unstable();
    expected.sort_unstable();
    assert_eq!(bytes, expected, "the bytes are kept as they were");
    for message in &dead {
        let header = |name: &str| String::from_utf8_lossy(message.header(name).unwrap_or_default()).into_owned();
        assert!(header("taskbroker-reason").starts_with("undecodable: "), "{message:?}");
        assert_eq!((header("taskbroker-topic"), header("taskbroker-partition")), (setup.topic.clone(), "0".to_owned()));
        assert!(header("taskbroker-offset").parse::<i64>()? % 2 == 0, "{message:?}");
    }
    assert_empty(&broker, WITHIN).await?;
    assert_eq!(broker.log().errors(), Vec::<String>::new());
    broker.stop().await?;
    broker.start_again().await?;
    assert_eq!(worker.complete_all(Duration::from_secs(2)).await?, Vec::<String>::new(), "none comes back");
    assert_eq!(kafka.consume_all(&setup.dead_letters).await?.len(), poison.len() + 1);
    Ok(())
}

/// Waits until one task is in this state.
async fn await_depth(broker: &BrokerProcess, state: &str) -> Result<()> {
    let deadline = tokio::time::Instant::now() + WITHIN;
    let label = format!("state=\"{state}\"");
    while broker.metrics().await?.of_labels("taskbroker_depth", &[&label]) != 1.0 {
        assert!(tokio::time::Instant::now() < deadline, "nothing is {state}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Tasks that decode and make no sense otherwise.
fn absurd() -> Vec<(&'static str, Task)> {
    let with = |change: fn(&mut TaskActivation)| {
        let mut task = Task::new();
        change(&mut task.0);
        task
    };
    let retry =
        |task: &mut TaskActivation, change: fn(&mut RetryState)| change(task.retry_state.get_or_insert_default());
    let mut unknown_enum = Task::new();
    retry(&mut unknown_enum.0, |state| state.on_attempts_exceeded = 77);
    let mut negative_enum = Task::new();
    retry(&mut negative_enum.0, |state| state.on_attempts_exceeded = i32::MIN);
    let mut absurd_retry = Task::new();
    retry(&mut absurd_retry.0, |state| {
        state.attempts = u32::MAX;
        state.max_attempts = u32::MAX;
        state.delay_on_retry = Some(u64::MAX);
    });
    let time = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
    let mut far_future = Task::new();
    far_future.0.received_at = time(i64::MAX, i32::MAX);
    let mut far_past = Task::new();
    far_past.0.received_at = time(i64::MIN, i32::MIN);
    vec![
        ("unknown enum number", unknown_enum),
        ("negative enum number", negative_enum),
        ("deadline of all time", with(|task| task.processing_deadline_duration = u64::MAX)),
        ("deadline that wraps", with(|task| task.processing_deadline_duration = 4_000_000_000)),
        ("no deadline", with(|task| task.processing_deadline_duration = 0)),
        ("expires at the end of time", with(|task| task.expires = Some(u64::MAX))),
        ("retries of all time", absurd_retry),
        ("received in the far future", far_future),
        ("received in the far past", far_past),
        (
            "received in the far future, expires at the end of time",
            with(|task| {
                task.received_at = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
                task.expires = Some(u64::MAX);
            }),
        ),
    ]
}

#[tokio::test]
async fn absurd_tasks_are_run_or_refused_with_a_reason_and_stop_nothing() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1).await?;
    let broker = BrokerProcess::start(&setup).await?;
    let mut worker = broker.worker()?;
    let (mut run, mut refused) = (Vec::new(), Vec::new());
    for (what, task) in absurd() {
        let before = then_the_next_one(&kafka, &setup, &mut worker, Message::new(task.encode())).await?;
        assert!(before.is_empty() || before == [task.id()], "{what}: {before:?}");
        if before.is_empty() { refused.push((what, task)) } else { run.push(what) }
    }
    let dead = dead_letters(&kafka, &setup, refused.len()).await?;
    for (what, task) in &refused {
        let found = dead.iter().find(|message| message.payload == task.encode());
        assert!(found.is_some_and(|message| message.header("taskbroker-reason").is_some()), "{what} is nowhere");
    }
    assert_eq!(dead.len(), refused.len());
    // The delay is cut to an hour: it waits, and stops nothing.
    let delayed = Task::new().delay(u64::MAX);
    then_the_next_one(&kafka, &setup, &mut worker, Message::new(delayed.encode())).await?;
    await_depth(&broker, "delayed").await?;
    let metrics = broker.metrics().await?;
    assert_eq!((metrics.in_flight(), metrics.imbalance()), (1.0, 0.0));
    assert_eq!(broker.log().errors(), Vec::<String>::new());
    let names = refused.iter().map(|(what, _)| *what).collect::<Vec<_>>();
    eprintln!("absurd tasks: run {run:?}; dead-lettered {names:?}");
    Ok(())
}

/// Topics that take large messages.
async fn large_topics(kafka: &Kafka) -> Result<Setup> {
    let setup = Setup::without_topics(kafka.address(), BINARY);
    let large = [("max.message.bytes", "40000000")];
    kafka.create_topic(&setup.topic, 1, &large).await?;
    kafka.create_topic(&setup.dead_letters, 1, &large).await?;
    Ok(setup)
}

#[tokio::test]
async fn twenty_megabytes_are_run_or_dead_lettered_as_they_are() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = large_topics(&kafka).await?.with("max_message_size", 30 * MB);
    let broker = BrokerProcess::start(&setup).await?;
    let mut worker = broker.worker()?;
    let garbage = vec![0xff; 20 * MB];
    let before = then_the_next_one(&kafka, &setup, &mut worker, Message::new(garbage.clone())).await?;
    assert_eq!(before, Vec::<String>::new());
    let large = Task::new().arguments(vec![7; 20 * MB]);
    let before = then_the_next_one(&kafka, &setup, &mut worker, Message::new(large.encode())).await?;
    assert_eq!(before, [large.id()]);
    let dead = dead_letters(&kafka, &setup, 1).await?;
    assert!(dead[0].payload == garbage && dead[0].header("taskbroker-reason").is_some());
    assert_empty(&broker, WITHIN).await?;
    assert_eq!(broker.log().errors(), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn what_is_too_large_for_the_dead_letter_topic_is_parked_with_the_reason() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = large_topics(&kafka).await?;
    let mut broker = BrokerProcess::start(&setup).await?;
    let mut worker = broker.worker()?;
    // More than max_message_size, 5 MB.
    then_the_next_one(&kafka, &setup, &mut worker, Message::new(vec![0xff; 6 * MB])).await?;
    await_depth(&broker, "parked").await?;
    assert_eq!(kafka.consume_all(&setup.dead_letters).await?.len(), 0);
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await?;
    for restarted in [false, true] {
        if restarted {
            broker.stop().await?;
            broker.start_again().await?;
        }
        let path = broker.store_path().display().to_string();
        let (ok, said) = broker.command(&["inspect", &path, "--json"]).await?;
        let found: serde_json::Value = serde_json::from_str(&said)?;
        assert!(ok && found["parked_total"] == 1, "restarted {restarted}: {said}");
        assert!(found["parked"][0]["reason"].as_str().is_some_and(|reason| reason.contains("large")), "{said}");
    }
    assert_eq!(broker.metrics().await?.imbalance(), 0.0);
    Ok(())
}
