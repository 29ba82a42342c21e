//! The broker as a process: the real binary on a configuration of its own, in a directory of its own.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use taskbroker_support::{broker::{BrokerProcess, Setup}, kafka::Kafka};
//!
//! let Some(kafka) = Kafka::shared() else { return Ok(()) };
//! let setup = Setup::on(&kafka, "target/debug/taskbroker", 4).await?;
//! let mut broker = BrokerProcess::start(&setup).await?;
//! broker.kill().await?;
//! broker.start_again().await?;
//! assert_eq!(broker.metrics().await?.sum("taskbroker_conservation_imbalance"), 0.0);
//! # Ok(()) }
//! ```

mod log;
mod metrics;
mod ports;
mod process;
mod setup;
mod store;
mod worker;

pub use self::{
    log::Log,
    metrics::{Metrics, get as http_get},
    ports::free_port,
    process::{BrokerProcess, Ended},
    setup::Setup,
    store::StoredTask,
    worker::{Task, Worker},
};
