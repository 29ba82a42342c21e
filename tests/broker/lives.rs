//! A restart goes on where the last life ended.

use std::time::{Duration, Instant};

use anyhow::Result;
use taskbroker_support::{
    broker::{BrokerProcess, Task},
    kafka::Kafka,
};

use super::{crew::assert_empty, produce, setup, tasks};

const WITHIN: Duration = Duration::from_secs(15);

/// Fills a store with one of everything, ends the life, and compares.
async fn goes_on_after(end: &str) -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1)
        .await?
        .with("store.linger", "0ms")
        .with("store.processing_deadline_grace_sec", 0)
        .with("store.hold_after_crash", "0ms")
        .with("kafka_session_timeout_ms", 1500);
    let mut broker = BrokerProcess::start(&setup).await?;
    let delayed = Task::new().delay(9);
    let begun = Instant::now();
    let (lost, leased, running) = (Task::new().deadline(1), Task::new().deadline(8), Task::new());
    let ids = [&lost, &leased, &running].map(Task::id);
    let waiting =
        produce(&kafka, &setup.topic, [lost, leased, running, delayed.clone()].into_iter().chain(tasks(300))).await?;
    let mut worker = broker.worker()?;
    let mut claimed = Instant::now();
    for id in &ids {
        claimed = Instant::now();
        assert_eq!(worker.fetch_within(WITHIN).await?.unwrap().id, *id);
    }
    let is_back = |task: &taskbroker_support::broker::StoredTask| task.id == ids[0] && task.attempts == 1;
    while !broker.stored().await?.iter().any(is_back) {
        assert!(claimed.elapsed() < WITHIN, "the lost lease was not noticed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    while broker.stored().await?.len() < waiting.len() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    match end {
        "KILL" => broker.kill().await?,
        _ => drop(broker.stop().await?),
    }
    let before = broker.stored().await?;
    broker.start_again().await?;
    let after = broker.stored().await?;
    assert_eq!(before, after, "states, attempts, deadlines and delays are as they were");
    assert_eq!(after.iter().filter(|task| task.status == "Processing").count(), 2);
    assert_eq!(after.iter().filter(|task| task.status == "Delay").count(), 1);

    // The worker that had one of them reports to the new life.
    worker.complete(&ids[2]).await?;
    let mut came = Vec::new();
    while came.len() < waiting.len() - 1 {
        let task = worker.fetch_within(Duration::from_secs(12)).await?.unwrap();
        if task.id == ids[1] {
            assert!(claimed.elapsed() >= Duration::from_secs(8), "its lease was ended early: {:?}", claimed.elapsed());
        }
        if task.id == delayed.id() {
            assert!(begun.elapsed() >= Duration::from_secs(8), "its delay was cut: {:?}", begun.elapsed());
        }
        worker.complete(&task.id).await?;
        came.push(task.id);
    }
    assert_eq!(came[0], ids[0], "what had been handed out comes ahead of what had not");
    came.sort();
    let mut expected: Vec<String> = waiting.into_iter().filter(|id| *id != ids[2]).collect();
    expected.sort();
    assert_eq!(came, expected, "each once");
    assert_empty(&broker, WITHIN).await
}

#[tokio::test]
async fn a_full_table_goes_on_after_a_kill_with_states_attempts_deadlines_and_delays() -> Result<()> {
    goes_on_after("KILL").await
}

#[tokio::test]
async fn a_full_table_goes_on_after_an_orderly_stop_with_states_attempts_deadlines_and_delays() -> Result<()> {
    goes_on_after("TERM").await
}

/// A round takes two or three seconds.
const ROUNDS_MAX: usize = 40;

#[tokio::test]
async fn what_was_answered_just_before_a_kill_never_comes_again() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1).await?.with("kafka_group_instance_id", "only").with("store.hold_after_crash", "200ms");
    let mut broker = BrokerProcess::start(&setup).await?;
    let mut worker = broker.worker()?;
    let (mut rounds, mut rounds_before_commit, mut produced) = (0, 0, 0);
    // Until a kill came between journal and Kafka.
    while rounds < 4 || rounds_before_commit == 0 {
        rounds += 1;
        assert!(rounds <= ROUNDS_MAX, "no kill came between journal and Kafka");
        produce(&kafka, &setup.topic, tasks(3)).await?;
        produced += 3;
        let first = worker.fetch_within(WITHIN).await?.unwrap();
        let second = worker.report_and_fetch(&first.id, taskbroker_proto::pb::TaskActivationStatus::Complete).await?;
        // Journalled and answered; the commit to Kafka follows within 100 ms, or never.
        broker.kill().await?;
        let position = kafka.committed(&setup.group, &setup.topic).await?.get(&0).map_or(0, |position| position.offset);
        rounds_before_commit += usize::from(position < produced - 2);
        broker.start_again().await?;
        if let Some(second) = second {
            // Its worker goes on reporting.
            worker.complete(&second.id).await?;
        }
        let rest = worker.complete_all(Duration::from_secs(2)).await?;
        assert!(!rest.contains(&first.id), "it was answered before the kill");
        assert_eq!(rest.len(), 1, "the third, and not the second, which was reported: {rest:?}");
    }
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await?;
    assert_empty(&broker, WITHIN).await
}
