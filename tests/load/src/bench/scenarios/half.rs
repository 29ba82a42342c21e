//! `GetTask` at half the load that the broker can bear, beside empty calls at the same rate.

use anyhow::Result;

use crate::{
    bench::{
        samples::Samples,
        stage::{Running, Stage},
    },
    floors::grpc,
    meter::Range,
    pull::{self, Plan, Pulled, Style},
};

const WORKERS: usize = 64;
const CONNECTIONS: usize = 4;

pub(super) async fn run(stage: &mut Stage, samples: &mut Samples) -> Result<()> {
    let most = pairs(stage, None).await?.figures.rate();
    samples.add("half.most", most);
    let rate = most / 2.0;
    let half = pairs(stage, Some(rate)).await?;
    samples.add("half.rate", half.figures.rate());
    samples.add("half.p50", half.get.us(0.5));
    samples.add("half.p99", half.get.us(0.99));
    samples.add("half.p999", half.get.us(0.999));
    let server = grpc::Server::start()?;
    // A task is two calls: it is fetched and reported.
    let calls = usize::try_from(stage.sizes.tasks * 2)?;
    let plan = grpc::Plan { callers: WORKERS, connections: CONNECTIONS, calls, rate: Some(rate * 2.0) };
    let empty = grpc::run(&server, plan).await?.latency;
    samples.add("half-empty.p50", empty.us(0.5));
    samples.add("half-empty.p99", empty.us(0.99));
    samples.add("half-empty.p999", empty.us(0.999));
    Ok(())
}

/// Workers that fetch and report by calls of their own, as fast as possible or at a rate.
async fn pairs(stage: &mut Stage, rate: Option<f64>) -> Result<Pulled> {
    let range = Range::amid(stage.sizes.tasks);
    let setup = stage.on_filled_topic(range.total).await?;
    let mut broker = Running::on(&setup).await?;
    let plan = Plan { style: Style::Pair(rate), ..Plan::new(broker.address.clone(), WORKERS, CONNECTIONS, range) };
    let pulled = pull::run(plan).await?;
    pulled.figures.tally.exactly(range.total)?;
    broker.process.stop().await?;
    Ok(pulled)
}
