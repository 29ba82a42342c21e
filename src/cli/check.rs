//! `taskbroker check-config`.

use std::process::ExitCode;

use super::{UNUSABLE, complain, print};
use crate::settings::{self, Sources};

pub(super) fn check_config(sources: &Sources) -> ExitCode {
    match settings::load(sources) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                complain(&anyhow::anyhow!("warning: {warning}"));
            }
            print(&settings::render_effective(&loaded));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error.into());
            ExitCode::from(UNUSABLE)
        }
    }
}
