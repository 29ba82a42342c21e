//! `taskbroker recover`: what can be read of a damaged store.

use std::{fmt::Write, path::Path, process::ExitCode};

use anyhow::{Context, Result};
use taskbroker_sqlite::Recovered;

use super::{runtime, tell};
use crate::compose;

pub(super) fn recover(file: &Path, to: &Path) -> ExitCode {
    tell(get_out(file, to).with_context(|| format!("{} was not recovered", file.display())))
}

fn get_out(file: &Path, to: &Path) -> Result<String> {
    Ok(told(&runtime()?.block_on(compose::store::recover(file, to))?)?)
}

fn told(found: &Recovered) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    writeln!(out, "{}: a new store", found.path.display())?;
    writeln!(out, "{} tasks were whole", found.whole)?;
    writeln!(
        out,
        "{} were made anew from their activation (at-most-once ones fail: a worker may have them)",
        found.repaired
    )?;
    writeln!(out, "{} are no activation any more, and go to the dead-letter topic as they are", found.dead_letters)?;
    writeln!(out, "{} have no bytes left:", found.lost.len())?;
    for id in &found.lost {
        writeln!(out, "  {id}")?;
    }
    for position in &found.positions {
        writeln!(out, "{}: read up to {}", position.partition, position.watermark)?;
    }
    if found.log_unreadable {
        writeln!(out, "its write-ahead log could not be read: what was committed last is missing")?;
    }
    if found.free_pages_unknown {
        writeln!(out, "free pages could not be told from others: finished tasks may have come back")?;
    }
    writeln!(out, "what stood on pages that cannot be read is not named: nothing is left of it")?;
    Ok(out)
}
