//! Workers that ask for tasks where there are none: what that costs the broker.

use std::time::Duration;

use anyhow::{Result, ensure};
use taskbroker_proto::pb::GetTaskRequest;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    activation::APPLICATION,
    client::{Call, Connection, NOT_FOUND, framed},
    process::{self, Stretch},
};

/// What they do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// `host:port`.
    pub(crate) address: String,
    pub(crate) workers: usize,
    pub(crate) connections: usize,
    /// How long each waits between two calls.
    pub(crate) poll: Duration,
    /// How long it is measured.
    pub(crate) during: Duration,
    pub(crate) pid: u32,
}

/// Runs them. Returns what the broker used meanwhile.
pub(crate) async fn run(plan: Plan) -> Result<Stretch> {
    let connections = Connection::several(&plan.address, plan.connections).await?;
    let mut workers = JoinSet::new();
    for number in 0..plan.workers {
        workers.spawn(poll(plan.clone(), connections[number % connections.len()].clone(), number));
    }
    let before = process::read(plan.pid)?;
    sleep(plan.during).await;
    let after = process::read(plan.pid)?;
    while let Some(ended) = workers.try_join_next() {
        ended??;
    }
    Ok(Stretch::between(&before, &after))
}

async fn poll(plan: Plan, connection: Connection, number: usize) -> Result<()> {
    let call = Call::to(&plan.address, "ConsumerService/GetTask")?;
    let frame = framed(&GetTaskRequest { namespace: None, application: Some(APPLICATION.to_owned()) });
    // Not all at the same moment.
    let mut next = Instant::now() + plan.poll.mul_f64(number as f64 / plan.workers as f64);
    loop {
        sleep_until(next).await;
        let answer = connection.call(&call, frame.clone()).await?;
        ensure!(answer.code == NOT_FOUND, "a broker that should be empty answered with code {}", answer.code);
        next += plan.poll;
    }
}
