//! `taskbroker dev`: everything in one process, for trying out.

use std::{num::NonZeroUsize, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Args;
use taskbroker_domain::ports::clock::Clock;
use taskbroker_telemetry::{LogOptions, Metrics, RecentWarnings, init_logs_to_file};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{FAILED, complain, print, runtime, signals::Signals};
use crate::{
    compose::{
        self,
        playground::{DEAD_LETTER_TOPIC, Playground, TOPIC, Wishes},
    },
    dev::{self, Options, Screen, Summary, World},
    settings::{DURATION_EXPECTED, parse_duration},
};

/// What can be said of `taskbroker dev`.
#[derive(Debug, Args)]
pub(super) struct Dev {
    /// Sample tasks a second; 0: none, for your own producer.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(..=20_000))]
    rate: u32,
    /// Sample workers; 0: none, for your own.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(..=256))]
    workers: u32,
    /// End after this time (10s, 5m); without it, at Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = length)]
    length: Option<Duration>,
    /// Keep the store in this file; without it, in a temporary one.
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Write the log to this file; without it, to a temporary one.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// The port for workers; without it 50051, or a free one where that is taken.
    #[arg(long, value_name = "PORT")]
    grpc_port: Option<u16>,
    /// The port for metrics and probes; without it 9464, or a free one where that is taken.
    #[arg(long, value_name = "PORT")]
    http_port: Option<u16>,
}

/// How many tasks may wait or be with workers: a few seconds of the highest rate.
const TASKS_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(100_000 - 1);

fn length(text: &str) -> Result<Duration, String> {
    parse_duration(text).filter(|length| !length.is_zero()).ok_or_else(|| DURATION_EXPECTED.to_owned())
}

pub(super) fn dev(args: &Dev) -> ExitCode {
    match try_dev(args) {
        Ok(summary) => {
            print(&format!("{summary}\n"));
            if summary.is_good() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
        }
        Err(error) => {
            complain(&error);
            ExitCode::from(FAILED)
        }
    }
}

/// Where files go that nobody named: a directory that is removed at the end.
struct Places {
    store: PathBuf,
    log: PathBuf,
    _directory: TempDir,
}

impl Places {
    fn new(args: &Dev) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("taskbroker-dev-").tempdir();
        let directory = directory.context("a temporary directory cannot be made (TMPDIR says where)")?;
        let place = |given: &Option<PathBuf>, name| given.clone().unwrap_or_else(|| directory.path().join(name));
        Ok(Self { store: place(&args.store, "store.sqlite"), log: place(&args.log, "log"), _directory: directory })
    }
}

fn try_dev(args: &Dev) -> Result<Summary> {
    let places = Places::new(args)?;
    let clock = compose::clock();
    let (guard, warnings) = init_logs_to_file(&LogOptions::default(), clock.clone(), &places.log)?;
    let runtime = runtime().context("the asynchronous runtime cannot be started")?;
    let result = runtime.block_on(play(args, &places, clock, warnings));
    // What still blocks must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(200));
    drop(guard);
    result
}

async fn play(args: &Dev, places: &Places, clock: Arc<dyn Clock>, warnings: RecentWarnings) -> Result<Summary> {
    let mut signals = Signals::new()?;
    let metrics = Metrics::install(env!("CARGO_PKG_VERSION"), None)?;
    let wishes = Wishes {
        store: places.store.clone(),
        grpc_port: args.grpc_port,
        http_port: args.http_port,
        tasks_max: TASKS_MAX,
    };
    let playground = Playground::start(&wishes, clock.clone(), metrics).await?;
    let world = world(&playground, args, places, clock, warnings)?;
    let options = Options { rate: args.rate, workers: args.workers, length: args.length };
    let watched = watch(&playground, world, &options, &mut signals).await;
    if let Ok(None) = watched {
        bail!(AT_ONCE);
    }
    tokio::select! {
        () = playground.stop() => watched?.context(AT_ONCE),
        _ = signals.second() => bail!(AT_ONCE),
    }
}

const AT_ONCE: &str = "ended at once, before everything was finished";

/// Runs until it is over or the store fails. `None`: somebody is impatient.
async fn watch(
    playground: &Playground,
    world: World,
    options: &Options,
    signals: &mut Signals,
) -> Result<Option<Summary>> {
    let stop = CancellationToken::new();
    let run = dev::run(world, options, Screen::stdout()?, stop.clone());
    tokio::pin!(run);
    tokio::select! {
        summary = &mut run => return summary.map(Some),
        () = playground.daemon.failed() => bail!("the broker failed; the reason stands in the log"),
        _ = signals.next() => stop.cancel(),
    }
    tokio::select! {
        summary = &mut run => summary.map(Some),
        () = playground.daemon.failed() => bail!("the broker failed; the reason stands in the log"),
        _ = signals.second() => Ok(None),
    }
}

fn world(
    playground: &Playground,
    args: &Dev,
    places: &Places,
    clock: Arc<dyn Clock>,
    warnings: RecentWarnings,
) -> Result<World> {
    let daemon = &playground.daemon;
    let grpc = daemon.grpc_addr.context("the gRPC port is not open")?;
    let health = daemon.broker.health_probe();
    Ok(World {
        outbox: playground.producer(),
        broker: format!("http://{grpc}"),
        clock,
        stats: Box::new(daemon.broker.stats_probe()),
        troubles: Box::new(move || health().troubles.iter().map(ToString::to_string).collect()),
        warnings: Box::new(move || warnings.lines()),
        facts: facts(playground, args, places, &grpc.to_string()),
    })
}

fn facts(playground: &Playground, args: &Dev, places: &Places, grpc: &str) -> Vec<(String, String)> {
    let kafka = &playground.kafka_address;
    let temporary = |given: &Option<PathBuf>| if given.is_some() { "" } else { " (temporary)" };
    let mut facts = vec![
        ("Kafka".to_owned(), format!("{kafka}   topics {TOPIC}, {DEAD_LETTER_TOPIC}")),
        ("gRPC".to_owned(), grpc.to_owned()),
    ];
    if let Some(http) = playground.daemon.http_addr {
        facts.push(("metrics".to_owned(), format!("http://{http}/metrics")));
    }
    facts.push(("store".to_owned(), format!("{}{}", places.store.display(), temporary(&args.store))));
    facts.push(("log".to_owned(), format!("{}{}", places.log.display(), temporary(&args.log))));
    facts.push((
        "note".to_owned(),
        "for trying out only: Kafka is in memory, 5 MiB or 100,000 messages a partition".to_owned(),
    ));
    facts
}
