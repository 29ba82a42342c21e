//! Drives a broker and measures it: produces activations to Kafka, and is the workers that fetch them or are pushed to.
//!
//! It speaks only the public protocol, so that it can drive any broker that speaks it. `bench` starts a Kafka and this
//! project's broker, and measures every row of the table in `docs/performance.md`.
//!
//! It shares the machine with what it measures, so it is cheap: one thread, calls straight on HTTP/2, requests encoded once.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a measuring tool")]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures")]

mod activation;
mod bench;
mod client;
mod commands;
#[cfg(test)]
mod fake;
mod floors;
mod functions;
mod idle;
mod ingest;
mod latency;
mod meter;
mod process;
mod produce;
mod pull;
mod push;
mod tally;

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
    Produce(commands::Produce),
    /// Fetch and complete tasks until so many are done.
    Pull(commands::Pull),
    /// Accept tasks that a broker pushes, and report them in batches.
    Push(commands::Push),
    /// Ask an empty broker for tasks, and see what that costs it.
    Idle(commands::Idle),
    /// Watch how fast a broker takes a topic in.
    Ingest(commands::Ingest),
    /// Measure what no broker can do better.
    #[command(subcommand)]
    Floor(floors::Floor),
    /// Measure every row of the table in `docs/performance.md`.
    Bench(bench::Bench),
    /// Sum folded stacks up (from standard input) by function and by crate.
    Functions,
    /// The server behind `floor grpc`.
    #[command(hide = true)]
    ServeEmpty,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Produce(produce) => produce.run(),
        Command::Ingest(ingest) => ingest.run(),
        Command::Pull(pull) => on_one_thread(pull.run()),
        Command::Push(push) => on_one_thread(push.run()),
        Command::Idle(idle) => on_one_thread(idle.run()),
        Command::Bench(bench) => on_one_thread(bench.run()),
        Command::Floor(floor) => on_one_thread(floor.run()),
        Command::Functions => {
            print!("{}", functions::table(std::io::stdin().lock())?);
            Ok(())
        }
        Command::ServeEmpty => runtime(tokio::runtime::Builder::new_multi_thread())?.block_on(floors::grpc::serve()),
    }
}

fn on_one_thread(work: impl Future<Output = Result<()>>) -> Result<()> {
    runtime(tokio::runtime::Builder::new_current_thread())?.block_on(work)
}

fn runtime(mut builder: tokio::runtime::Builder) -> Result<tokio::runtime::Runtime> {
    Ok(builder.enable_all().build()?)
}
