//! `taskbroker evacuate`: everything in the store goes to Kafka.

use std::{cell::Cell, fmt::Write, process::ExitCode};

use anyhow::Result;
use taskbroker_domain::ledger::Stats;

use super::{FAILED, UNUSABLE, complain, print, run, runtime};
use crate::{
    compose::evacuate::{Evacuated, evacuate},
    settings::{self, Settings, Sources},
};

pub(super) fn run_evacuation(sources: &Sources) -> ExitCode {
    let settings = match settings::load(sources) {
        Ok(loaded) => loaded.settings,
        Err(error) => {
            complain(&error.into());
            return ExitCode::from(UNUSABLE);
        }
    };
    match publish_all(&settings) {
        Ok(done) => {
            print(&told(&done).unwrap_or_default());
            if done.parked == 0 { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
        }
        Err(error) => {
            complain(&error);
            ExitCode::from(FAILED)
        }
    }
}

fn publish_all(settings: &Settings) -> Result<Evacuated> {
    let _guard = run::logs(settings, None)?;
    let last = Cell::new(usize::MAX);
    let progress = |stats: &Stats| {
        if last.replace(stats.in_flight) != stats.in_flight {
            print(&format!("{} left, of which workers had {}\n", stats.in_flight, stats.depths.processing));
        }
    };
    runtime()?.block_on(evacuate(settings, &progress))
}

fn told(done: &Evacuated) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let counts = &done.counts;
    writeln!(out, "{} published again under their own ids", counts.forwarded)?;
    writeln!(out, "{} published as retries, {} as dead letters", counts.retried, counts.dead_lettered)?;
    writeln!(out, "{} removed: failed without a dead letter, or expired", counts.discarded + counts.expired)?;
    if done.parked > 0 {
        writeln!(out, "{} refused by Kafka are still there: `taskbroker parked` lists them", done.parked)?;
    }
    Ok(out)
}
