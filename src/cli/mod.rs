//! The commands of the program.

mod check;
mod connect;
mod dev;
mod downgrade;
mod evacuate;
mod healthcheck;
mod inspect;
mod parked;
mod recover;
mod run;
mod signals;
mod store;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};

use crate::settings::Sources;

/// Asynchronous tasks: from Kafka, journalled in SQLite, handed to workers over gRPC.
#[derive(Debug, Parser)]
#[command(name = "taskbroker", version, about, max_term_width = 100)]
struct Cli {
    /// The configuration file (YAML). Environment variables TASKBROKER_* go over it.
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What to run, in the words of the system that this program replaces.
    #[arg(short, long, value_enum, default_value_t = Part::Broker)]
    run: Part,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What can be run without a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The broker.
    Broker,
    /// Bring the store's tables up to date, and end. The broker does that itself when it opens a file.
    Migrations,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker (the default).
    Run,
    /// Try it out: Kafka in memory, the broker, sample tasks and workers, and a view of how the tasks flow.
    Dev(dev::Dev),
    /// Print the effective configuration with the source of each value; exit with 2 if it cannot be used.
    CheckConfig {
        /// Dial each Kafka cluster with its credentials and say what was found, within 10 s; exit with 1 if something is not
        /// as it has to be. Changes nothing.
        #[arg(long)]
        connect: bool,
    },
    /// Ask the broker on this machine whether it lives; exit with 0 if so. For health checks of containers.
    Healthcheck {
        /// Where it serves probes; otherwise port TASKBROKER_HTTP_PORT, or 9464, on loopback.
        #[arg(long, value_name = "IP:PORT")]
        address: Option<SocketAddr>,
    },
    /// Show what is in a store, live or left behind.
    Inspect {
        /// The store's file.
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Copy the configured store to a file, while it is in use too.
    Backup {
        /// Where to; must not exist.
        file: PathBuf,
        /// The store to copy, instead of the configured one.
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Publish everything in the configured store to Kafka and remove it, for a broker that will not come back.
    Evacuate,
    /// Decide about what Kafka refused for good, and about rows that made no sense.
    Parked {
        /// The store. No broker may have it open.
        file: PathBuf,
        #[command(subcommand)]
        action: ParkedAction,
    },
    /// Get out of a damaged store, ours or the existing system's, what can be read.
    Recover {
        /// The damaged store. It is only read; no broker may have it open.
        file: PathBuf,
        /// The new store; must not exist.
        #[arg(long, value_name = "NEW")]
        to: PathBuf,
    },
    /// Write a store back as the existing system (getsentry/taskbroker) has it, in place or to another file.
    Downgrade {
        /// The store. No broker may have it open.
        file: PathBuf,
        /// Where to; must not exist. Without it the file is replaced, and the store kept under another name.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum ParkedAction {
    /// List it.
    List,
    /// Let it be published again at the next start; what made no sense goes to the dead-letter topic.
    Retry(parked::Which),
    /// Remove it for good.
    Drop(parked::Which),
}

/// Something failed while running.
const FAILED: u8 = 1;
/// The configuration or the command line cannot be used.
const UNUSABLE: u8 = 2;

/// Does what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let configured = cli.config.is_some();
    let sources = Sources::of_this_process(cli.config);
    match cli.command.unwrap_or(Command::Run) {
        Command::Run if cli.run == Part::Migrations => run::migrations(&sources),
        Command::Run => run::run(&sources),
        Command::Dev(_) if configured => {
            complain(&anyhow::anyhow!("dev brings its own settings: leave out --config, or use run with it"));
            ExitCode::from(UNUSABLE)
        }
        Command::Dev(args) => dev::dev(&args),
        Command::CheckConfig { connect } => check::check_config(&sources, connect),
        Command::Healthcheck { address } => {
            let port = std::env::var("TASKBROKER_HTTP_PORT").ok();
            healthcheck::healthcheck(address.unwrap_or_else(|| healthcheck::default_address(port.as_deref())))
        }
        Command::Inspect { file, json } => inspect::inspect(&file, json),
        Command::Backup { file, from } => store::backup(&sources, from, &file),
        Command::Evacuate => evacuate::run_evacuation(&sources),
        Command::Parked { file, action } => parked::parked(&file, &action),
        Command::Recover { file, to } => recover::recover(&file, &to),
        Command::Downgrade { file, to } => downgrade::downgrade(&file, to.as_deref()),
    }
}

/// How a command ends that either has something to tell or failed.
fn tell(told: anyhow::Result<String>) -> ExitCode {
    match told {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error);
            ExitCode::from(FAILED)
        }
    }
}

/// Prints a result. A reader that went away is no error.
fn print(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).ok();
}

/// Prints what went wrong, in one line.
fn complain(error: &anyhow::Error) {
    use std::io::Write;
    writeln!(std::io::stderr().lock(), "taskbroker: {error:#}").ok();
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
