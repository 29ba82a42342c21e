//! What is run for the rows of the table.

mod drain;
mod half;
mod idle;
mod steady;
mod waiting;

use anyhow::Result;
use clap::ValueEnum;

use super::{samples::Samples, stage::Stage};

/// One of them. Each takes its floors beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// 64 workers fetch with their reports.
    #[value(name = "pull-64")]
    Pull64,
    /// The same with every task a row.
    #[value(name = "pull-64-rows")]
    Pull64Rows,
    /// 16 workers.
    #[value(name = "pull-16")]
    Pull16,
    /// 500 workers.
    #[value(name = "pull-500")]
    Pull500,
    /// Tasks are pushed, and reported in batches.
    Push,
    /// 1,000 tasks wait.
    Few,
    /// 1,000,000 tasks are taken in, wait, are worked on, and are there after a crash.
    Waiting,
    /// From produced to a worker at a steady rate.
    Latency,
    /// `GetTask` at half the maximum load.
    Half,
    /// Nothing to do.
    Idle,
}

impl std::fmt::Display for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| f.write_str(value.get_name()))
    }
}

impl Scenario {
    pub(crate) fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    pub(crate) async fn run(self, stage: &mut Stage, samples: &mut Samples) -> Result<()> {
        match self {
            Self::Pull64 => drain::pull_64(stage, samples).await,
            Self::Pull64Rows => drain::pull_64_rows(stage, samples).await,
            Self::Pull16 => drain::pull_16(stage, samples).await,
            Self::Pull500 => drain::pull_500(stage, samples).await,
            Self::Push => drain::push(stage, samples).await,
            Self::Few => drain::few(stage, samples).await,
            Self::Waiting => waiting::run(stage, samples).await,
            Self::Latency => steady::run(stage, samples).await,
            Self::Half => half::run(stage, samples).await,
            Self::Idle => idle::run(stage, samples).await,
        }
    }
}
