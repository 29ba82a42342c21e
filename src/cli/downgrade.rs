//! `taskbroker downgrade`: the way back to the existing system.

use std::{fmt::Write, path::Path, process::ExitCode};

use anyhow::{Context, Result};
use taskbroker_domain::ports::store::Position;
use taskbroker_sqlite::Downgraded;

use super::{runtime, tell};
use crate::compose;

pub(super) fn downgrade(file: &Path, to: Option<&Path>) -> ExitCode {
    tell(bring_back(file, to).with_context(|| format!("{} was not written back", file.display())))
}

fn bring_back(file: &Path, to: Option<&Path>) -> Result<String> {
    Ok(told(&runtime()?.block_on(compose::store::bring_back(file, to))?)?)
}

fn told(done: &Downgraded) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    writeln!(out, "{}: {} tasks, for the existing system", done.path.display(), done.rows)?;
    writeln!(out, "{}: the store as it was", done.original.display())?;
    if done.parked > 0 {
        writeln!(out, "{} tasks that Kafka refused stay there alone: `taskbroker parked` lists them", done.parked)?;
    }
    if done.left_behind > 0 {
        writeln!(out, "{} tasks stay there alone: their payload is missing, or their id is taken", done.left_behind)?;
    }
    for position in &done.positions {
        writeln!(out, "{}", position_told(position))?;
    }
    Ok(out)
}

fn position_told(position: &Position) -> String {
    let above: u32 = position.settled.iter().map(|byte| byte.count_ones()).sum();
    let (partition, group, watermark) = (&position.partition, &position.partition.group, position.watermark);
    let repeated = match above {
        0 => String::new(),
        above => format!("; {above} finished tasks above it run again"),
    };
    format!("{partition}: group {group} has to be at {watermark}, as it is after an orderly stop{repeated}")
}
