//! `taskbroker parked`: what waits for a decision.

use std::{collections::BTreeSet, fmt::Write, path::Path, process::ExitCode};

use anyhow::{Result, bail};
use taskbroker_sqlite::{Shelf, Shelved, ShelvedKind};

use super::{ParkedAction, runtime, tell};
use crate::compose;

/// Which of them.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// Their ids.
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All of them.
    #[arg(long)]
    all: bool,
}

pub(super) fn parked(file: &Path, action: &ParkedAction) -> ExitCode {
    tell(decide(file, action))
}

fn decide(file: &Path, action: &ParkedAction) -> Result<String> {
    runtime()?.block_on(async {
        let shelf = Shelf::open(file, compose::clock().now().wall).await?;
        let done = act(&shelf, action).await;
        shelf.close().await;
        done
    })
}

async fn act(shelf: &Shelf, action: &ParkedAction) -> Result<String> {
    let all = shelf.list().await?;
    Ok(match action {
        ParkedAction::List => listed(&all)?,
        ParkedAction::Retry(which) => {
            format!("{} are published again at the next start\n", shelf.retry(&chosen(all, which)?).await?)
        }
        ParkedAction::Drop(which) => format!("{} were removed\n", shelf.drop(&chosen(all, which)?).await?),
    })
}

/// An id that is not there is an error, and nothing is done: it may be mistyped.
fn chosen(all: Vec<Shelved>, which: &Which) -> Result<Vec<Shelved>> {
    if which.all {
        return Ok(all);
    }
    let known: BTreeSet<_> = all.iter().map(|item| item.id.to_string()).collect();
    if let Some(unknown) = which.ids.iter().find(|id| !known.contains(*id)) {
        bail!("nothing with the id {unknown} waits for a decision; `list` shows what does");
    }
    Ok(all.into_iter().filter(|item| which.ids.iter().any(|id| **id == *item.id.text())).collect())
}

fn listed(all: &[Shelved]) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    for item in all {
        let (what, bytes) = match &item.kind {
            ShelvedKind::Retry(row) => ("retry", u64::from(row.payload_bytes)),
            ShelvedKind::Forward(row) => ("forward", u64::from(row.payload_bytes)),
            ShelvedKind::DeadLetter(row) => ("dead letter", u64::from(row.payload_bytes)),
            ShelvedKind::Nonsense { payload, .. } => {
                ("nonsense", payload.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
        };
        writeln!(out, "{}  {what}  {bytes} bytes  {}", item.id, item.reason)?;
    }
    writeln!(out, "{} in all", all.len())?;
    Ok(out)
}
