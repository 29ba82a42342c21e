//! `taskbroker dev`: sample tasks, sample workers, and a view of how the tasks flow.
//!
//! It sees the broker as everybody does: tasks are produced to Kafka and fetched over gRPC. Only what the display says of
//! the broker's inside comes from the [`Stats`] of the ledger.

mod picture;
mod produce;
mod sample;
mod screen;
mod tally;
mod work;

use std::{fmt, io, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use taskbroker_domain::{
    ledger::Stats,
    ports::{clock::Clock, outbox::Outbox},
    time::Steady,
};
use taskbroker_proto::pb::consumer_service_client::ConsumerServiceClient;
use tokio::{task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

pub use self::screen::Screen;
use self::{
    picture::{Moment, Phase},
    produce::Producer,
    tally::{Rates, Tally},
    work::Worker,
};

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Sample tasks a second; 0: none.
    pub rate: u32,
    /// Sample workers; 0: none.
    pub workers: u32,
    /// How long tasks are produced; none: until it is stopped.
    pub length: Option<Duration>,
}

/// The broker as it is seen from here.
pub struct World {
    /// Produces tasks: what goes to the retry topic is read by the broker.
    pub outbox: Arc<dyn Outbox>,
    /// Where workers reach the broker: `http://host:port`.
    pub broker: String,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The ledger's picture of itself.
    pub stats: Box<dyn Fn() -> Stats + Send + Sync>,
    /// What stands still, in words.
    pub troubles: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    /// The latest warnings of the log.
    pub warnings: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    /// What else the display is to say, by name.
    pub facts: Vec<(String, String)>,
}

/// How often the display is drawn, and how often a line is written where there is no terminal.
const DRAW_EVERY: Duration = Duration::from_millis(500);
const LINE_EVERY: Duration = Duration::from_secs(1);
/// How long the first assignment is waited for.
const ASSIGNMENT_LIMIT: Duration = Duration::from_secs(5);
/// How long what is there may take to finish. The longest sample waits 2 s for its lease to end, another 2 s for its delay.
const FINISH_LIMIT: Duration = Duration::from_secs(6);
/// How often it is looked whether everything is finished.
const FINISH_STEP: Duration = Duration::from_millis(50);
/// How long workers may take to finish the task they have.
const WORKERS_LIMIT: Duration = Duration::from_secs(2);

/// Produces, works and shows until `stop` is cancelled or the time is up, then lets finish what is there.
pub async fn run<W: io::Write>(
    world: World,
    options: &Options,
    mut screen: Screen<W>,
    stop: CancellationToken,
) -> Result<Summary> {
    let mut show = Show::new(world);
    screen.introduce(&show.world.facts)?;
    let workers_stop = CancellationToken::new();
    let mut workers = show.workers(options, &workers_stop)?;
    let every = if screen.is_terminal() { DRAW_EVERY } else { LINE_EVERY };
    show.assigned(&stop).await;
    let length = options.length;
    let began = show.now();
    let mut producing = show.producer(options, &stop);
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.is_cancelled() {
        let left = length.map(|length| length.saturating_sub(show.now().since(began)));
        tokio::select! {
            _ = ticks.tick() => screen.show(&show.moment(Phase::Running), &show.world.facts)?,
            () = stop.cancelled() => {}
            () = tokio::time::sleep(left.unwrap_or_default()), if left.is_some() => stop.cancel(),
        }
    }
    while producing.join_next().await.is_some() {}
    if options.workers > 0 {
        finish(&mut show, &mut screen, every).await?;
    }
    workers_stop.cancel();
    tokio::time::timeout(WORKERS_LIMIT, async { while workers.join_next().await.is_some() {} }).await.ok();
    Ok(show.summary())
}

/// Waits until nothing of the samples is left, or for so long as that may take.
async fn finish<W: io::Write>(show: &mut Show, screen: &mut Screen<W>, every: Duration) -> Result<()> {
    let began = show.now();
    let mut shown = began;
    while !show.is_finished() && show.now().since(began) < FINISH_LIMIT {
        tokio::time::sleep(FINISH_STEP).await;
        if show.now().since(shown) >= every {
            shown = show.now();
            screen.show(&show.moment(Phase::Finishing), &show.world.facts)?;
        }
    }
    Ok(())
}

/// What is shown, and where it comes from.
struct Show {
    world: World,
    tally: Arc<Tally>,
    rates: Rates,
    began: Steady,
}

impl Show {
    fn new(world: World) -> Self {
        let now = world.clock.now();
        // The moment of the start tells runs on one store apart.
        let run = format!("dev-{:x}", now.wall.as_millis());
        Self { world, tally: Arc::new(Tally::new(run)), rates: Rates::default(), began: now.steady }
    }

    fn now(&self) -> Steady {
        self.world.clock.now().steady
    }

    /// Waits until the broker reads, so that the first tasks do not wait for that. Without it, things are worth seeing too.
    async fn assigned(&self, stop: &CancellationToken) {
        let began = self.now();
        let assigned = || (self.world.stats)().partitions.iter().any(|partition| partition.assigned);
        while !assigned() && !stop.is_cancelled() && self.now().since(began) < ASSIGNMENT_LIMIT {
            tokio::time::sleep(FINISH_STEP).await;
        }
    }

    fn producer(&self, options: &Options, stop: &CancellationToken) -> JoinSet<()> {
        let producer = Producer {
            outbox: self.world.outbox.clone(),
            tally: self.tally.clone(),
            clock: self.world.clock.clone(),
            rate: options.rate,
        };
        let mut task = JoinSet::new();
        task.spawn(producer.run(stop.clone()));
        task
    }

    fn workers(&self, options: &Options, stop: &CancellationToken) -> Result<JoinSet<()>> {
        let broker = tonic::transport::Endpoint::from_shared(self.world.broker.clone())
            .with_context(|| format!("the broker's address {}", self.world.broker))?
            .connect_lazy();
        let (tally, clock) = (self.tally.clone(), self.world.clock.clone());
        let worker = Worker { broker: ConsumerServiceClient::new(broker), tally, clock };
        let mut workers = JoinSet::new();
        for _ in 0..options.workers {
            workers.spawn(worker.clone().run(stop.clone()));
        }
        Ok(workers)
    }

    fn moment(&mut self, phase: Phase) -> Moment {
        let (now, counts) = (self.now(), self.tally.counts());
        Moment {
            elapsed: now.since(self.began),
            phase,
            counts,
            rate: self.rates.read(now, counts),
            latency: self.tally.latency(now),
            stats: (self.world.stats)(),
            troubles: (self.world.troubles)(),
            warnings: (self.world.warnings)(),
        }
    }

    fn is_finished(&self) -> bool {
        self.tally.counts().open == 0 && samples_in_flight(&(self.world.stats)()) == 0
    }

    fn summary(&self) -> Summary {
        let (counts, stats) = (self.tally.counts(), (self.world.stats)());
        let in_kafka: u64 = stats.partitions.iter().map(|partition| partition.lag).sum();
        let left = counts.open.min(samples_in_flight(&stats) + in_kafka);
        Summary {
            produced: counts.produced,
            finished: counts.finished,
            left,
            lost: counts.open - left,
            twice: counts.twice,
            unsure: counts.unsure,
            imbalance: stats.imbalance,
            stats,
        }
    }
}

fn samples_in_flight(stats: &Stats) -> u64 {
    let samples = stats.namespaces.iter().filter(|namespace| {
        &*namespace.application == sample::APPLICATION && &*namespace.namespace == sample::NAMESPACE
    });
    samples.map(|namespace| namespace.counts.in_flight).sum()
}

/// How it went.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Sample tasks sent.
    pub produced: u64,
    /// Sample tasks that workers finished, well or not.
    pub finished: u64,
    /// Sample tasks that are still there.
    pub left: u64,
    /// Sample tasks that are neither finished nor there.
    pub lost: u64,
    /// Times that a task was handed out although its last report had been answered.
    pub twice: u64,
    /// Sample tasks that Kafka did not acknowledge.
    pub unsure: u64,
    /// How far the ledger's sum is off.
    pub imbalance: i64,
    /// The ledger at the end.
    pub stats: Stats,
}

impl Summary {
    /// Nothing was lost and nothing made up.
    pub fn is_good(&self) -> bool {
        self.lost == 0 && self.twice == 0 && self.imbalance == 0
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let totals = self.stats.totals;
        write!(
            f,
            "end: produced={} finished={} completed={} retried={} dead_lettered={} discarded={} expired={} left={} lost={} \
             twice={} imbalance={}",
            self.produced,
            self.finished,
            totals.completed,
            totals.retried,
            totals.dead_lettered,
            totals.discarded,
            totals.expired,
            self.left,
            self.lost,
            self.twice,
            self.imbalance
        )?;
        if self.unsure > 0 {
            write!(f, " not_acknowledged={}", self.unsure)?;
        }
        Ok(())
    }
}
