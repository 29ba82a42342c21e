//! Where reading goes on: what operators set, what retention and transactions leave out, what a crash comes in between of.

use std::time::Duration;

use anyhow::Result;
use taskbroker_support::{
    broker::{BrokerProcess, Setup},
    kafka::{Ending, Kafka, Message},
};

use super::{crew::assert_empty, produce, setup, tasks};

const WITHIN: Duration = Duration::from_secs(15);
const QUIET: Duration = Duration::from_millis(1500);

/// A broker that completed ten tasks and stopped in good order. Returns their ids.
async fn ten_done(kafka: &Kafka, setup: &Setup) -> Result<(BrokerProcess, Vec<String>)> {
    let mut broker = BrokerProcess::start(setup).await?;
    let ids = produce(kafka, &setup.topic, tasks(10)).await?;
    let mut worker = broker.worker()?;
    let first = worker.fetch_within(WITHIN).await?.unwrap();
    worker.complete(&first.id).await?;
    assert_eq!(worker.complete_all(QUIET).await?, ids[1..]);
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await?;
    broker.stop().await?;
    Ok((broker, ids))
}

/// Starts it again, and completes what comes.
async fn comes(broker: &mut BrokerProcess) -> Result<Vec<String>> {
    broker.start_again().await?;
    broker.await_partitions(1, WITHIN).await?;
    Ok(broker.worker()?.complete_all(QUIET).await?)
}

#[tokio::test]
async fn an_operators_rewind_is_honoured_once() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1).await?;
    let (mut broker, ids) = ten_done(&kafka, &setup).await?;
    kafka.set_committed(&setup.group, &setup.topic, 0, 3, "").await?;
    assert_eq!(comes(&mut broker).await?, ids[3..], "everything from there up comes again");
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await?;
    broker.stop().await?;
    assert_eq!(comes(&mut broker).await?, Vec::<String>::new(), "but only once");
    assert_empty(&broker, WITHIN).await
}

#[tokio::test]
async fn a_rewind_is_not_obeyed_again_after_a_crash_in_the_midst_of_it() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1)
        .await?
        .with("kafka_group_instance_id", "only")
        .with("kafka_session_timeout_ms", 1500)
        .with("store.hold_after_crash", "200ms");
    let (mut broker, ids) = ten_done(&kafka, &setup).await?;
    // A static member stays in the group until its session is over.
    kafka.set_committed(&setup.group, &setup.topic, 0, 3, "").await?;
    broker.start_again().await?;
    let mut worker = broker.worker()?;
    let mut done = Vec::new();
    for _ in 0..4 {
        let task = worker.fetch_within(WITHIN).await?.unwrap();
        worker.complete(&task.id).await?;
        done.push(task.id);
    }
    broker.kill().await?;
    assert_eq!(done, ids[3..7]);
    assert_eq!(comes(&mut broker).await?, ids[7..], "what was done after the rewind stays done");
    assert_empty(&broker, WITHIN).await
}

#[tokio::test]
async fn an_operators_fast_forward_skips_what_is_below_it() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1).await?;
    let (mut broker, _) = ten_done(&kafka, &setup).await?;
    let ids = produce(&kafka, &setup.topic, tasks(10)).await?;
    kafka.set_committed(&setup.group, &setup.topic, 0, 15, "").await?;
    assert_eq!(comes(&mut broker).await?, ids[5..]);
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await?;
    assert_empty(&broker, WITHIN).await
}

#[tokio::test]
async fn what_retention_removed_is_counted_and_what_is_left_is_read() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1).await?;
    let (mut broker, _) = ten_done(&kafka, &setup).await?;
    let ids = produce(&kafka, &setup.topic, tasks(10)).await?;
    kafka.delete_records(&setup.topic, 0, 14).await?;
    assert_eq!(comes(&mut broker).await?, ids[4..], "nothing that is still there is skipped");
    assert_eq!(broker.metrics().await?.sum("taskbroker_lost_to_retention_total"), 4.0);
    let said = broker.log().with("retention removed records").pop().unwrap();
    assert!(said.contains("offsets=4") && said.contains(&setup.topic), "{said}");
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await?;
    assert_empty(&broker, WITHIN).await
}

#[tokio::test]
async fn transaction_markers_do_not_hold_the_position() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1).await?;
    let mut broker = BrokerProcess::start(&setup).await?;
    let all: Vec<_> = tasks(5).collect();
    let message = |index: usize| Message::new(all[index].encode()).partition(0);
    kafka.transaction(&setup.topic, [message(0)], Ending::Commit).await?;
    kafka.transaction(&setup.topic, [message(1), message(2)], Ending::Abort).await?;
    kafka.transaction(&setup.topic, [message(3)], Ending::Commit).await?;
    kafka.produce(&setup.topic, [message(4)]).await?;
    let mut worker = broker.worker()?;
    let first = worker.fetch_within(WITHIN).await?.unwrap();
    worker.complete(&first.id).await?;
    let mut came = vec![first.id];
    came.extend(worker.complete_all(QUIET).await?);
    assert_eq!(came, [0, 3, 4].map(|index| all[index].id()), "what was taken back never comes");
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await?;
    assert_eq!(kafka.committed(&setup.group, &setup.topic).await?[&0].offset, 8, "5 records and 3 markers");
    broker.stop().await?;
    assert_eq!(comes(&mut broker).await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_log_that_ends_in_a_transaction_marker_is_read_to_its_end() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1).await?;
    let broker = BrokerProcess::start(&setup).await?;
    let messages: Vec<_> = tasks(2).map(|task| Message::new(task.encode()).partition(0)).collect();
    kafka.transaction(&setup.topic, messages, Ending::Commit).await?;
    let mut worker = broker.worker()?;
    worker.fetch_within(WITHIN).await?.map(|task| task.id).unwrap();
    let second = worker.fetch_within(WITHIN).await?.unwrap();
    worker.complete(&second.id).await?;
    let deadline = tokio::time::Instant::now() + WITHIN;
    while broker.metrics().await?.sum("taskbroker_kafka_lag") != 0.0 {
        assert!(tokio::time::Instant::now() < deadline, "the lag of a log that is read to its end stays above 0");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_start_at_latest_is_kept_by_a_crash() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1)
        .await?
        .with("kafka_auto_offset_reset", "latest")
        .with("kafka_session_timeout_ms", 1500)
        .with("store.hold_after_crash", "200ms");
    produce(&kafka, &setup.topic, tasks(3)).await?;
    let mut broker = BrokerProcess::start(&setup).await?;
    broker.await_partitions(1, WITHIN).await?;
    let ids = produce(&kafka, &setup.topic, tasks(2)).await?;
    let mut worker = broker.worker()?;
    assert_eq!(worker.fetch_within(WITHIN).await?.unwrap().id, ids[0], "what was there before does not run");
    broker.kill().await?;
    let more = produce(&kafka, &setup.topic, tasks(2)).await?;
    let came = comes(&mut broker).await?;
    let expected: Vec<String> = ids.into_iter().chain(more).collect();
    assert_eq!(came, expected, "nothing after the first start is skipped");
    Ok(())
}
