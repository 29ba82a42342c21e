//! Drives a broker and measures it: produces activations to Kafka, and runs workers that fetch and report over gRPC.
//!
//! It speaks only the public protocol, so that it can drive any broker that speaks it.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a measuring tool")]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures")]

mod latency;
mod process;
mod produce;
mod pull;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Produce activations with ids `load-<run>-<n>`.
    Produce(produce::Produce),
    /// Fetch and complete tasks until so many are done.
    Pull(pull::Pull),
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Produce(produce) => produce::run(&produce),
        Command::Pull(pull) => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?
            .block_on(pull::run(pull)),
    }
}
