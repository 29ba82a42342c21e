//! `taskbroker check-config`.

use std::process::ExitCode;

use super::{FAILED, UNUSABLE, complain, connect::connect, print};
use crate::settings::{self, Loaded, Sources};

/// Prints the settings in force; with `dial`, what is found where they point to, in place of them.
pub(super) fn check_config(sources: &Sources, dial: bool) -> ExitCode {
    match settings::load(sources) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                complain(&anyhow::anyhow!("warning: {warning}"));
            }
            if dial { dialled(&loaded) } else { shown(&loaded) }
        }
        Err(error) => {
            complain(&error.into());
            ExitCode::from(UNUSABLE)
        }
    }
}

fn shown(loaded: &Loaded) -> ExitCode {
    print(&settings::render_effective(loaded));
    ExitCode::SUCCESS
}

fn dialled(loaded: &Loaded) -> ExitCode {
    let (lines, good) = connect(&loaded.settings);
    print(&lines);
    if good { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}
