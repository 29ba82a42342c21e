//! Every row of the table in `docs/performance.md`: a Kafka, the broker, the load, and the floors beside them.

mod bars;
mod perf;
mod samples;
mod scenarios;
mod stage;
mod table;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::{samples::Samples, scenarios::Scenario, stage::Stage};

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// The broker; by default the `taskbroker` beside this program.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Which rows, comma separated; all if not given.
    #[arg(long, value_enum, value_delimiter = ',')]
    rows: Vec<Scenario>,
    /// How often each is run; the table has the medians.
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Where the figures are written as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// A Kafka that runs already; without it one is started for the time being.
    #[arg(long)]
    kafka: Option<String>,
    /// Record a profile of the broker, by `perf`, into this file; for one row that drains a topic, and one run.
    #[arg(long)]
    perf: Option<PathBuf>,
    #[command(flatten)]
    sizes: Sizes,
}

/// How much is run.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Sizes {
    /// Tasks measured in a run.
    #[arg(long, default_value_t = 60_000)]
    tasks: u64,
    /// Tasks that wait, for the rows about a backlog.
    #[arg(long, default_value_t = 1_000_000)]
    waiting: u64,
    /// Seconds of the rows that take their time: latency and idle.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tasks, waiting, seconds } = self;
        write!(
            f,
            "{tasks} tasks measured in a run; with a backlog, {waiting} waiting; {seconds} s of latency and idling"
        )
    }
}

impl Bench {
    pub(crate) async fn run(self) -> Result<()> {
        let binary = self.binary.map_or_else(beside_this_program, Ok)?;
        ensure!(binary.exists(), "there is no broker at {}: build it with --release", binary.display());
        let mut stage = Stage::new(binary, self.kafka.as_deref(), self.perf, self.sizes)?;
        let rows = if self.rows.is_empty() { Scenario::all() } else { self.rows };
        let mut samples = Samples::default();
        let mut failures = Vec::new();
        for run in 1..=self.runs {
            for row in &rows {
                println!("run {run} of {}: {row}", self.runs);
                if let Err(error) = row.run(&mut stage, &mut samples).await {
                    println!("  {row} failed: {error:#}");
                    failures.push(format!("{row}: {error:#}"));
                }
            }
        }
        let table = table::of(&samples);
        println!("\n{}\n{}", table::text(&table), self.sizes);
        if let Some(path) = self.json {
            let figures = serde_json::to_vec_pretty(&table::json(&table, &samples, self.runs))?;
            fs::write(&path, figures).with_context(|| format!("{} cannot be written", path.display()))?;
        }
        ensure!(failures.is_empty(), "not everything could be measured: {}", failures.join("; "));
        Ok(())
    }
}

fn beside_this_program() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("taskbroker"))
}
