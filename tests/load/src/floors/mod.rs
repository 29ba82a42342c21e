//! What no broker can do better, measured on the same machine in the same minutes.

pub(crate) mod disk;
pub(crate) mod grpc;
pub(crate) mod kafka;
pub(crate) mod sqlite;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::Subcommand;

use crate::{activation::SIZE, commands::Produce};

/// What no broker can do better.
#[derive(Debug, Subcommand)]
pub(crate) enum Floor {
    /// Empty calls to a tonic server in a process of its own.
    Grpc {
        #[arg(long, default_value_t = 64)]
        callers: usize,
        #[arg(long, default_value_t = 4)]
        connections: usize,
        #[arg(long, default_value_t = 100_000)]
        calls: usize,
        /// Calls per second; as fast as possible if not given.
        #[arg(long)]
        rate: Option<f64>,
    },
    /// Rows into SQLite, fsynced.
    Sqlite {
        /// Where the file is made.
        #[arg(long, default_value = ".")]
        directory: PathBuf,
        #[arg(long, default_value_t = 500_000)]
        rows: u32,
        #[arg(long, default_value_t = 256)]
        batch: u32,
    },
    /// Small writes, each fsynced.
    Disk {
        /// Where the file is made.
        #[arg(long, default_value = ".")]
        directory: PathBuf,
        #[arg(long, default_value_t = 3)]
        seconds: u64,
    },
    /// From a producer to a plain consumer, on a topic that is empty.
    Kafka(Produce),
}

impl Floor {
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Grpc { callers, connections, calls, rate } => {
                let server = grpc::Server::start()?;
                let plan = grpc::Plan { callers, connections, calls, rate };
                println!("{}", grpc::run(&server, plan).await?);
            }
            Self::Sqlite { directory, rows, batch } => {
                println!("{:.0} rows/s", sqlite::insert(&directory, rows, batch, SIZE)?);
            }
            Self::Disk { directory, seconds } => {
                println!("4 KiB, synced: {}", disk::sync(&directory, Duration::from_secs(seconds))?);
            }
            Self::Kafka(produce) => {
                println!("produced to consumed: {}", kafka::run(produce.plan()?, 0)?);
            }
        }
        Ok(())
    }
}
