//! A broker that has nothing to do.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::{
    bench::{
        samples::Samples,
        stage::{Running, Stage},
    },
    floors::grpc,
    idle::{self, Plan},
    process,
};

const WORKERS: usize = 16;
const CONNECTIONS: usize = 4;
/// Each worker asks so often.
const PER_S: u64 = 10;

/// After its start a broker joins its group and looks around; that is no idling.
const SETTLING: Duration = Duration::from_secs(3);

pub(super) async fn run(stage: &mut Stage, samples: &mut Samples) -> Result<()> {
    let mut broker = Running::on(&stage.on_empty_topics().await?).await?;
    broker.process.await_partitions(4, Duration::from_secs(60)).await?;
    tokio::time::sleep(SETTLING).await;
    samples.add("memory.start", process::read(broker.pid)?.peak_kib as f64 * 1024.0 / 1e6);
    let alone = Plan {
        address: broker.address.clone(),
        workers: 0,
        connections: 0,
        poll: Duration::from_secs(1) / u32::try_from(PER_S)?,
        during: Duration::from_secs(stage.sizes.seconds),
        pid: broker.pid,
    };
    samples.add("idle.alone", idle::run(alone.clone()).await?.cpu_percent());
    let polled = Plan { workers: WORKERS, connections: CONNECTIONS, ..alone };
    samples.add("idle.polled", idle::run(polled).await?.cpu_percent());
    broker.process.stop().await?;
    samples.add("idle.empty", empty_calls(stage.sizes.seconds).await?);
    Ok(())
}

/// What as many calls in as much time cost a server that answers with nothing: a call that comes every few milliseconds finds
/// the caches cold, and takes ten times as long as one among many.
async fn empty_calls(seconds: u64) -> Result<f64> {
    let server = grpc::Server::start()?;
    let rate = u64::try_from(WORKERS)? * PER_S;
    let calls = usize::try_from(rate * seconds).context("calls")?;
    let plan = grpc::Plan { callers: WORKERS, connections: CONNECTIONS, calls, rate: Some(rate as f64) };
    Ok(grpc::run(&server, plan).await?.stretch.cpu_percent())
}
