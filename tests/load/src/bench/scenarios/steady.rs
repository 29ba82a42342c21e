//! Latency at a steady rate: from produced to a worker that waits, and through Kafka alone.

use std::time::Duration;

use anyhow::Result;

use crate::{
    bench::{
        samples::Samples,
        stage::{Running, Stage},
    },
    floors,
    latency::Latency,
    meter::Range,
    produce, pull,
};

const PER_S: u64 = 1_000;

/// So many that one always waits, even where a commit, and with it a report, takes 20 ms.
const WORKERS: usize = 32;

/// The first seconds are not measured: connections are made and code is paged in.
const SETTLING_S: u64 = 2;

pub(super) async fn run(stage: &mut Stage, samples: &mut Samples) -> Result<()> {
    let skip = PER_S * SETTLING_S;
    let count = skip + PER_S * stage.sizes.seconds;
    let ages = through_the_broker(stage, Range { from: skip, until: count, total: count }).await?;
    samples.add("latency.p50", ages.us(0.5) / 1e3);
    samples.add("latency.p99", ages.us(0.99) / 1e3);
    samples.add("latency.p999", ages.us(0.999) / 1e3);
    let topic = stage.kafka().new_topic("plain", 4).await?;
    let plan = stage.production(&topic, count, Some(PER_S as f64))?;
    let ages = tokio::task::spawn_blocking(move || floors::kafka::run(plan, skip)).await??;
    samples.add("kafka.p50", ages.us(0.5) / 1e3);
    samples.add("kafka.p99", ages.us(0.99) / 1e3);
    samples.add("kafka.p999", ages.us(0.999) / 1e3);
    Ok(())
}

async fn through_the_broker(stage: &Stage, range: Range) -> Result<Latency> {
    let setup = stage.on_empty_topics().await?;
    let mut broker = Running::on(&setup).await?;
    broker.process.await_partitions(4, Duration::from_secs(60)).await?;
    let production = stage.production(&setup.topic, range.total, Some(PER_S as f64))?;
    let producing = tokio::task::spawn_blocking(move || produce::run(production));
    let pulled = pull::run(pull::Plan::new(broker.address.clone(), WORKERS, 4, range)).await?;
    producing.await??;
    pulled.figures.tally.exactly(range.total)?;
    broker.process.stop().await?;
    Ok(pulled.figures.age)
}
