//! A topic that is full is worked off, and measured while it is neither beginning nor ending: Kafka, commits, claims and
//! reports, all in.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use taskbroker_support::broker::Setup;
use tokio::net::TcpListener;

use crate::{
    activation::APPLICATION,
    bench::{
        perf::Recording,
        samples::Samples,
        stage::{Running, Stage},
    },
    floors::{disk, grpc},
    meter::{Figures, Range},
    pull, push,
};

pub(super) async fn pull_64(stage: &mut Stage, samples: &mut Samples) -> Result<()> {
    let figures = pulled(stage, 64, 4, |setup| setup).await?;
    samples.add("pull-64.rate", figures.rate());
    samples.add("pull-64.cpu", figures.cpu_ms());
    samples.add("pull-64.written", figures.written_kb());
    let empty = empty(stage, 64, 4).await?;
    samples.add("empty-64.rate", empty.rate());
    samples.add("empty-64.cpu", empty.cpu_ms());
    let disk = disk::sync(&std::env::temp_dir(), Duration::from_secs(1))?;
    samples.add("disk.p50", disk.us(0.5) / 1e3);
    samples.add("disk.p99", disk.us(0.99) / 1e3);
    Ok(())
}

pub(super) async fn pull_64_rows(stage: &mut Stage, samples: &mut Samples) -> Result<()> {
    let figures = pulled(stage, 64, 4, |setup| setup.with("store.linger", "0")).await?;
    samples.add("pull-64-rows.rate", figures.rate());
    samples.add("pull-64-rows.cpu", figures.cpu_ms());
    samples.add("pull-64-rows.written", figures.written_kb());
    Ok(())
}

pub(super) async fn pull_16(stage: &mut Stage, samples: &mut Samples) -> Result<()> {
    let figures = pulled(stage, 16, 4, |setup| setup).await?;
    samples.add("pull-16.rate", figures.rate());
    samples.add("pull-16.cpu", figures.cpu_ms());
    let empty = empty(stage, 16, 4).await?;
    samples.add("empty-16.rate", empty.rate());
    samples.add("empty-16.cpu", empty.cpu_ms());
    Ok(())
}

/// As many workers to a connection as 64 on 4; and each with a connection of its own.
pub(super) async fn pull_500(stage: &mut Stage, samples: &mut Samples) -> Result<()> {
    let figures = pulled(stage, 500, 32, |setup| setup).await?;
    samples.add("pull-500.rate", figures.rate());
    samples.add("pull-500.cpu", figures.cpu_ms());
    samples.add("empty-500.cpu", empty(stage, 500, 32).await?.cpu_ms());
    samples.add("pull-500-alone.cpu", pulled(stage, 500, 500, |setup| setup).await?.cpu_ms());
    samples.add("empty-500-alone.cpu", empty(stage, 500, 500).await?.cpu_ms());
    Ok(())
}

/// The counterpart of a large backlog: every task is a row, and 1,000 wait.
pub(super) async fn few(stage: &mut Stage, samples: &mut Samples) -> Result<()> {
    let few = |setup: Setup| setup.with("store.linger", "0").with("store.max_pending_count", 1_000);
    let figures = pulled(stage, 64, 4, few).await?;
    samples.add("few.cpu", figures.cpu_ms());
    Ok(())
}

/// Workers work a topic off. Every task must come exactly once.
async fn pulled(
    stage: &mut Stage,
    workers: usize,
    connections: usize,
    change: impl FnOnce(Setup) -> Setup,
) -> Result<Figures> {
    let range = Range::amid(stage.sizes.tasks);
    let setup = change(stage.on_filled_topic(range.total).await?);
    let mut broker = Running::on(&setup).await?;
    let plan =
        pull::Plan { pid: Some(broker.pid), ..pull::Plan::new(broker.address.clone(), workers, connections, range) };
    let recording = stage.record(broker.pid)?;
    let figures = pull::run(plan).await?.figures;
    recording.map_or(Ok(()), Recording::finish)?;
    figures.tally.exactly(range.total)?;
    let excess = pull::excess(&broker.address, APPLICATION).await?;
    ensure!(excess == 0, "{excess} more tasks came than were produced");
    broker.process.stop().await?;
    Ok(figures)
}

/// Empty calls, as many as tasks are measured.
async fn empty(stage: &Stage, callers: usize, connections: usize) -> Result<grpc::Called> {
    let server = grpc::Server::start()?;
    let calls = usize::try_from(stage.sizes.tasks)?;
    grpc::run(&server, grpc::Plan { callers, connections, calls, rate: None }).await
}

/// As many tasks are on their way as pull workers have in the other rows.
pub(super) async fn push(stage: &mut Stage, samples: &mut Samples) -> Result<()> {
    let range = Range::amid(stage.sizes.tasks);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let worker = format!("http://{}", listener.local_addr()?);
    let setup = stage
        .on_filled_topic(range.total)
        .await?
        .with("delivery_mode", "push")
        .with("worker_map", json!({ APPLICATION: worker }))
        .with("push.threads", 4)
        .with("push.queue.size", 60);
    let mut broker = Running::on(&setup).await?;
    let plan = push::Plan {
        address: broker.address.clone(),
        concurrency: 512,
        batch: 64,
        range,
        patience: Duration::from_secs(30),
        pid: Some(broker.pid),
    };
    let recording = stage.record(broker.pid)?;
    let figures = push::run(listener, plan).await?.figures;
    recording.map_or(Ok(()), Recording::finish)?;
    figures.tally.exactly(range.total)?;
    samples.add("push.rate", figures.rate());
    samples.add("push.cpu", figures.cpu_ms());
    broker.process.stop().await?;
    Ok(())
}
