//! A broker that has nothing to do.

use std::time::Duration;

use anyhow::Result;

use crate::{
    bench::{
        samples::Samples,
        stage::{Running, Stage},
    },
    idle::{self, Plan},
    process,
};

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
        poll: Duration::from_millis(100),
        during: Duration::from_secs(stage.sizes.seconds),
        pid: broker.pid,
    };
    samples.add("idle.alone", idle::run(alone.clone()).await?.cpu_percent());
    let polled = Plan { workers: 16, connections: 4, ..alone };
    samples.add("idle.polled", idle::run(polled).await?.cpu_percent());
    broker.process.stop().await?;
    Ok(())
}
