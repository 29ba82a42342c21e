//! The taskbroker daemon and its commands.

use std::process::ExitCode;

fn main() -> ExitCode {
    taskbroker::cli::main()
}
