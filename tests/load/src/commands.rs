//! The single measurements as commands, for any broker that speaks the protocol.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use tokio::net::TcpListener;

use crate::{
    activation::{APPLICATION, NAMESPACE, SIZE, Template},
    idle, ingest,
    meter::Range,
    produce, pull, push,
};

#[derive(Debug, Args)]
pub(crate) struct Produce {
    /// Kafka's address.
    #[arg(long)]
    kafka: String,
    #[arg(long, default_value = "taskworker")]
    topic: String,
    #[arg(long)]
    count: u64,
    /// Bytes of an activation.
    #[arg(long, default_value_t = SIZE)]
    size: usize,
    /// Tasks per second; as fast as possible if not given.
    #[arg(long)]
    rate: Option<f64>,
    /// Stands in the ids: other runs have others.
    #[arg(long, default_value_t = 0)]
    run: u64,
    #[arg(long, default_value = APPLICATION)]
    application: String,
    #[arg(long, default_value = NAMESPACE)]
    namespace: String,
}

impl Produce {
    pub(crate) fn plan(self) -> Result<produce::Plan> {
        let template = Template::new(self.run, &self.application, &self.namespace, self.size)?;
        let Self { kafka, topic, count, rate, .. } = self;
        Ok(produce::Plan { kafka, topic, count, rate, template })
    }

    pub(crate) fn run(self) -> Result<()> {
        let count = self.count;
        let took = produce::run(self.plan()?)?;
        println!("produced {count} in {took:.2} s ({:.0}/s)", count as f64 / took);
        Ok(())
    }
}

/// What commands that drive a broker have in common.
#[derive(Debug, Args)]
struct Broker {
    /// The broker's address.
    #[arg(long, default_value = "127.0.0.1:50051")]
    grpc: String,
    /// The broker's process, to read its CPU, memory and writes.
    #[arg(long)]
    pid: Option<u32>,
    /// Give up when no task came for so many seconds.
    #[arg(long, default_value_t = 30)]
    patience_s: u64,
}

impl Broker {
    fn address(&self) -> String {
        self.grpc.trim_start_matches("http://").to_owned()
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.patience_s)
    }
}

/// Which tasks are run and which of them are measured.
#[derive(Debug, Args)]
struct Tasks {
    /// Stop after so many tasks.
    #[arg(long)]
    count: u64,
    /// Measure only what comes after so many, and leave as many out at the end.
    #[arg(long, default_value_t = 0)]
    margin: u64,
    /// The broker holds more than that: look for tasks that came twice, not for such as are missing.
    #[arg(long)]
    part: bool,
}

impl Tasks {
    fn range(&self) -> Range {
        Range { from: self.margin, until: self.count.saturating_sub(self.margin), total: self.count }
    }

    fn check(&self, tally: &crate::tally::Tally) -> Result<()> {
        if self.part { tally.none_twice() } else { tally.exactly(self.count) }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Style {
    /// A report asks for the next task.
    Fetch,
    /// The next task is asked for after the report.
    Pair,
    /// Tasks are fetched and not reported.
    ClaimOnly,
}

#[derive(Debug, Args)]
pub(crate) struct Pull {
    #[command(flatten)]
    broker: Broker,
    #[command(flatten)]
    tasks: Tasks,
    #[arg(long, default_value_t = 64)]
    workers: usize,
    #[arg(long, default_value_t = 4)]
    connections: usize,
    #[arg(long, default_value = APPLICATION)]
    application: String,
    /// How long a worker without a task waits.
    #[arg(long, default_value_t = 5)]
    poll_ms: u64,
    #[arg(long, value_enum, default_value = "fetch")]
    style: Style,
    /// With `--style pair`: tasks per second.
    #[arg(long)]
    rate: Option<f64>,
}

impl Pull {
    pub(crate) async fn run(self) -> Result<()> {
        let (address, application) = (self.broker.address(), self.application.clone());
        let plan = pull::Plan {
            style: match self.style {
                Style::Fetch => pull::Style::Fetch,
                Style::Pair => pull::Style::Pair(self.rate),
                Style::ClaimOnly => pull::Style::ClaimOnly,
            },
            poll: Duration::from_millis(self.poll_ms),
            patience: self.broker.patience(),
            pid: self.broker.pid,
            application: self.application,
            ..pull::Plan::new(address.clone(), self.workers, self.connections, self.tasks.range())
        };
        let pulled = pull::run(plan).await?;
        println!("{pulled}");
        self.tasks.check(&pulled.figures.tally)?;
        match self.tasks.part {
            true => Ok(()),
            false => nothing_more(&address, &application).await,
        }
    }
}

async fn nothing_more(address: &str, application: &str) -> Result<()> {
    match pull::excess(address, application).await? {
        0 => Ok(()),
        more => bail!("{more} more tasks came than were to come"),
    }
}

#[derive(Debug, Args)]
pub(crate) struct Push {
    #[command(flatten)]
    broker: Broker,
    #[command(flatten)]
    tasks: Tasks,
    /// Where the broker reaches the worker.
    #[arg(long, default_value = "127.0.0.1:50052")]
    listen: SocketAddr,
    /// How many tasks the worker has at once.
    #[arg(long, default_value_t = 512)]
    concurrency: usize,
    /// How many reports share a call.
    #[arg(long, default_value_t = 64)]
    batch: usize,
}

impl Push {
    pub(crate) async fn run(self) -> Result<()> {
        let plan = push::Plan {
            address: self.broker.address(),
            concurrency: self.concurrency,
            batch: self.batch,
            range: self.tasks.range(),
            patience: self.broker.patience(),
            pid: self.broker.pid,
        };
        let listener = TcpListener::bind(self.listen).await.with_context(|| format!("{} is taken", self.listen))?;
        let pushed = push::run(listener, plan).await?;
        println!("{pushed}");
        self.tasks.check(&pushed.figures.tally)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Idle {
    /// The broker's address.
    #[arg(long, default_value = "127.0.0.1:50051")]
    grpc: String,
    #[arg(long)]
    pid: u32,
    #[arg(long, default_value_t = 16)]
    workers: usize,
    #[arg(long, default_value_t = 100)]
    poll_ms: u64,
    /// For how long.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

impl Idle {
    pub(crate) async fn run(self) -> Result<()> {
        let plan = idle::Plan {
            address: self.grpc.trim_start_matches("http://").to_owned(),
            workers: self.workers,
            connections: self.workers.clamp(1, 4),
            poll: Duration::from_millis(self.poll_ms),
            during: Duration::from_secs(self.seconds),
            pid: self.pid,
        };
        println!("broker: {:.2} % of a core", idle::run(plan).await?.cpu_percent());
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(crate) struct Ingest {
    /// Kafka's address.
    #[arg(long)]
    kafka: String,
    #[arg(long, default_value = "taskworker")]
    topic: String,
    /// The broker's group.
    #[arg(long, default_value = "taskworker")]
    group: String,
    #[arg(long)]
    count: u64,
    #[arg(long)]
    pid: u32,
}

impl Ingest {
    pub(crate) fn run(self) -> Result<()> {
        let Self { kafka, topic, group, count, pid } = self;
        let patience = Duration::from_secs(30);
        println!("{}", ingest::run(&ingest::Plan { kafka, topic, group, count, patience, pid })?);
        Ok(())
    }
}
