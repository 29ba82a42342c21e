//! The whole broker: the real binary on a real Kafka, with workers over gRPC. Each test has topics, a group and a store of its
//! own. Sizes can be raised by the environment: see `scale`.

#![allow(clippy::disallowed_methods, reason = "these tests run in real time, with names of their own")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests fail by panicking, and say numbers")]

mod answers;
mod broken_store;
mod crew;
mod crowd;
mod dashboards;
mod dead_cluster;
mod drain;
mod frozen;
mod fullness;
mod kills;
mod kind;
mod limits;
mod lives;
mod mixed;
mod outage;
mod poison;
mod positions;
mod rebalance;
mod recreated;
mod rules;
mod scale;
mod secured;
mod seed;
mod signals;
mod starts;
mod storm;
mod takeover;
mod thousands;
mod topics;
mod traces;
mod witness;

use anyhow::Result;
use taskbroker_support::{
    broker::{BrokerProcess, Setup, Task},
    kafka::{Kafka, Message},
};

/// The binary under test.
const BINARY: &str = env!("CARGO_BIN_EXE_taskbroker");

/// Topics and a group of its own on this Kafka.
async fn setup(kafka: &Kafka, partitions: i32) -> Result<Setup> {
    Setup::on(kafka, BINARY, partitions).await
}

/// A broker on topics and a group of its own.
async fn broker(kafka: &Kafka, partitions: i32) -> Result<(Setup, BrokerProcess)> {
    let setup = setup(kafka, partitions).await?;
    let broker = BrokerProcess::start(&setup).await?;
    Ok((setup, broker))
}

/// Produces tasks, to one partition. Returns their ids.
async fn produce(kafka: &Kafka, topic: &str, tasks: impl IntoIterator<Item = Task>) -> Result<Vec<String>> {
    let tasks: Vec<Task> = tasks.into_iter().collect();
    kafka.produce(topic, tasks.iter().map(|task| Message::new(task.encode()).partition(0))).await?;
    Ok(tasks.iter().map(Task::id).collect())
}

/// So many plain tasks.
fn tasks(count: usize) -> impl Iterator<Item = Task> {
    std::iter::repeat_with(Task::new).take(count)
}
