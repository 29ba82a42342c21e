//! The cluster that dead letters go to, another than the one that tasks come from, is away for a while under load.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::json;
use taskbroker_support::{broker::BrokerProcess, kafka::Kafka};

use super::{
    crew::{Crew, Producer, assert_empty, collect_dead},
    scale, setup,
    witness::{Kind, Witness},
};

/// A fifth fails.
const LOAD: [Kind; 5] = [Kind::Plain, Kind::Plain, Kind::Fails, Kind::Plain, Kind::Plain];
const WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_dead_letter_cluster_away_work_goes_on_and_each_dead_letter_comes_once_when_it_is_back() -> Result<()>
{
    let (Some(kafka), Some(other)) = (Kafka::shared(), Kafka::own()) else { return Ok(()) };
    let setup = setup(&kafka, 4).await?;
    other.create_topic(&setup.dead_letters, 1, &[]).await?;
    let dead_topic = format!("kafka_topics.{}", setup.dead_letters);
    let setup = setup
        .with("kafka_clusters.other", json!({ "address": other.address() }))
        .with(&dead_topic, json!({ "cluster": "other", "produce_only": true }));
    let broker = BrokerProcess::start(&setup).await?;
    let witness = Arc::new(Witness::default());
    let mut crew = Crew::new(&witness, 20);
    crew.serve(&broker, 16)?;
    let producer = Producer::start(&kafka, &setup, &witness, &LOAD, 20);
    await_dead_letters(&broker, 10.0).await?;

    tokio::task::block_in_place(|| other.stop())?;
    let (stopped, before) = (Instant::now(), broker.metrics().await?);
    let mut open_most = 0;
    while stopped.elapsed() < scale::dead_cluster() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        open_most = open_most.max(witness.open());
    }
    // Everything that came is worked on while the cluster is still away.
    producer.stop().await?;
    witness.await_all(Duration::from_secs(20)).await;
    let (away, after) = (stopped.elapsed(), broker.metrics().await?);
    assert_eq!(witness.open(), 0, "work stands still: {}", broker.log().tail(20));
    let gone = after.activations("dead_lettered");
    let waiting = witness.ids(Kind::Fails).len() as f64 - gone;
    let completed = after.activations("completed") - before.activations("completed");
    assert_eq!(gone, before.activations("dead_lettered"), "nothing takes dead letters");
    assert_eq!(after.depth("failed"), waiting, "each that is not gone waits");
    assert!(waiting > 0.0 && completed > 0.0, "{waiting} failed and {completed} completed meanwhile");
    assert_eq!(after.sum("taskbroker_intake_pauses_total"), 0.0, "nothing is held back");
    assert_eq!(broker.probe("/healthz").await?.0, 200, "a cluster that is away is not unhealthy");

    tokio::task::block_in_place(|| other.start_again())?;
    let answers = Instant::now();
    await_dead_letters(&broker, gone + waiting).await?;
    let delivered = answers.elapsed();
    assert_empty(&broker, WITHIN).await?;
    crew.dismiss().await;
    assert_eq!(collect_dead(&other, &setup, &witness).await?, witness.ids(Kind::Fails), "each once, by its id");
    let tally = witness.vindicate();
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await?;
    assert_eq!(broker.log().errors(), Vec::<String>::new());
    eprintln!(
        "dead-letter cluster: away for {away:.1?}, {completed} completed and {waiting} failed meanwhile, at most {open_most} \
         open at once; all delivered {delivered:.1?} after it answered again; {tally}"
    );
    Ok(())
}

/// Waits until Kafka has acknowledged so many.
async fn await_dead_letters(broker: &BrokerProcess, count: f64) -> Result<()> {
    let deadline = Instant::now() + WITHIN;
    loop {
        let acknowledged = broker.metrics().await?.activations("dead_lettered");
        if acknowledged >= count {
            return Ok(());
        }
        assert!(Instant::now() < deadline, "{acknowledged} of {count} dead letters:\n{}", broker.log().tail(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
