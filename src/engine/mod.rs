//! The run loops over the ports. Names no adapter and no clock: the composition root plugs those in, a simulation can too.
//!
//! ```text
//!  feeds ───▶ ingest ──┐                ┌──▶ committer ──▶ store
//!  workers ─▶ service ─┼──▶ Ledger ─────┼──▶ publisher ──▶ outbox
//!                      │                ├──▶ dispatch ───▶ workers (push delivery)
//!  clock ───▶ timekeeper                └──▶ payloads  ◀── store
//! ```
//!
//! Every loop locks the ledger for one short step, and acts on what came out of it without the lock.

mod asking;
mod claims;
mod clockwatch;
mod committer;
mod demand;
mod dispatch;
mod durable;
mod health;
mod hearing;
mod heavy;
mod ingest;
mod meters;
mod payloads;
mod publisher;
mod rules;
mod service;
mod shared;
mod shares;
mod timekeeper;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use taskbroker_domain::{
    activation::{Key, PartitionId, TopicId},
    ledger::{Ledger, Stats},
    policy::Policy,
    ports::{
        clock::Clock,
        codec::ActivationCodec,
        outbox::Outbox,
        service::TaskService,
        source::{ActivationSource, GroupCommit, Record},
        store::{ActivationStore, StoreError},
    },
    rules::Rules,
};
use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info};

pub use self::dispatch::DispatchOptions;
pub use self::health::{Health, Trouble};
use self::shared::Shared;

/// What the engine is plugged into.
pub struct Ports {
    /// The journal.
    pub store: Arc<dyn ActivationStore>,
    /// Where activations come from, each topic by itself; none where Kafka is not used.
    pub feeds: Vec<Feed>,
    /// Where retries and dead letters go.
    pub outbox: Arc<dyn Outbox>,
    /// Composes retries.
    pub codec: Arc<dyn ActivationCodec>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// A topic that is consumed. No two of a broker have the same topic.
pub struct Feed {
    /// The topic's name, as its partitions carry it.
    pub topic: Arc<str>,
    /// Reads it.
    pub source: Arc<dyn ActivationSource>,
    /// What its records are.
    pub codec: Arc<dyn ActivationCodec>,
}

/// What the operator chose for the loops.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the ledger decides by.
    pub policy: Policy,
    /// The rules in force at start.
    pub rules: Rules,
    /// The header that marks a retry of ours.
    pub mark_header: &'static str,
    /// Intake pauses while the store holds more than this many bytes.
    pub store_bytes_max: Option<u64>,
    /// Intake pauses while the store's disk has less room than this: a full disk stops removals as well as insertions, so
    /// that some has to be left for what is under way. 64 MiB: a write-ahead log at its usual 16 MiB, a commit of as many
    /// payloads as may be unwritten, and what comes within the second until it is looked at again.
    pub disk_room_min: u64,
    /// How many records are taken from the source at once.
    pub batch_max: usize,
    /// How many messages may be on their way to each destination.
    pub publish_concurrency: usize,
    /// How long a worker's call waits for the store before it is told to try again.
    pub store_wait: Duration,
    /// How long an orderly revocation may take; shorter than what the source allows.
    pub revocation_wait: Duration,
    /// A commit that takes longer, or a timer that is later, makes the broker unhealthy.
    pub unhealthy_after: Duration,
    /// So does a topic of which there is more, and room for it, when nothing has come for so long although Kafka answers. A
    /// minute: longer than a change of leader or a rebalance takes, and than a Kafka that is away is taken for one that answers.
    pub unread_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            rules: Rules::default(),
            mark_header: "taskbroker-origin",
            store_bytes_max: None,
            disk_room_min: 64 << 20,
            batch_max: 1024,
            publish_concurrency: 64,
            store_wait: Duration::from_secs(10),
            revocation_wait: Duration::from_secs(3),
            unhealthy_after: Duration::from_secs(5),
            unread_after: Duration::from_secs(60),
        }
    }
}

/// A running broker.
pub struct Broker {
    shared: Arc<Shared>,
    loops: TaskTracker,
    /// Stops what brings work in and hands it out.
    intake: CancellationToken,
    /// Stops the committer, once everything else has stopped.
    journal: CancellationToken,
    failed: CancellationToken,
}

/// How many rows are loaded at once.
const LOAD_PAGE: usize = 10_000;

impl Broker {
    /// Loads what the store holds and starts all loops.
    pub async fn start(ports: Ports, options: Options) -> Result<Self, StoreError> {
        let ledger = load(&ports, &options).await?;
        let shared = Arc::new(Shared::new(ports, options, ledger));
        let broker = Self {
            shared,
            loops: TaskTracker::new(),
            intake: CancellationToken::new(),
            journal: CancellationToken::new(),
            failed: CancellationToken::new(),
        };
        broker.spawn_loops();
        Ok(broker)
    }

    fn spawn_loops(&self) {
        let (shared, intake) = (&self.shared, &self.intake);
        let failed = self.failed.clone();
        let committer = tokio::spawn(committer::run(shared.clone(), self.journal.clone()));
        self.loops.spawn(async move {
            match committer.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    error!(%error, "the store failed; the broker stops, so that nothing is answered that is not durable");
                    failed.cancel();
                }
                Err(panic) => {
                    error!(%panic, "the committer ended by itself; the broker stops");
                    failed.cancel();
                }
            }
        });
        self.supervise("timekeeper", &self.journal, timekeeper::run(shared.clone(), self.journal.clone()));
        self.supervise("payloads", intake, payloads::run(shared.clone(), intake.clone()));
        self.supervise("rules", intake, rules::run(shared.clone(), intake.clone()));
        self.supervise("publisher", intake, publisher::run(shared.clone(), intake.clone()));
        self.supervise("meters", &self.journal, meters::run(shared.clone(), self.journal.clone()));
        for feed in &shared.feeds {
            self.supervise("ingest", intake, ingest::run(shared.clone(), feed.clone(), intake.clone()));
        }
    }

    /// Runs a loop. One that ends before it was told to (it panicked) stops the broker: half a broker looks healthy and
    /// stands still.
    fn supervise(&self, name: &'static str, stop: &CancellationToken, run: impl Future<Output = ()> + Send + 'static) {
        let (failed, stop) = (self.failed.clone(), stop.clone());
        let running = tokio::spawn(run);
        self.loops.spawn(async move {
            let ended = running.await;
            if !stop.is_cancelled() {
                error!(name, ?ended, "a loop of the broker ended by itself; the broker stops");
                failed.cancel();
            }
        });
    }

    /// What workers talk to.
    pub fn service(&self) -> Arc<dyn TaskService> {
        Arc::new(service::Service::new(self.shared.clone(), self.intake.clone()))
    }

    /// Whether work that could move has moved.
    pub fn health(&self) -> Health {
        self.shared.health()
    }

    /// Health that can be asked for after the broker itself has been moved elsewhere.
    pub fn health_probe(&self) -> impl Fn() -> Health + Send + Sync + Clone + use<> {
        let shared = self.shared.clone();
        move || shared.health()
    }

    /// Takes in tasks of the broker's own. What is no activation is left out, and said.
    pub fn take_in(&self, tasks: Vec<Bytes>) {
        let here = PartitionId { topic: "".into(), topic_id: TopicId::default(), group: "".into(), partition: -1 };
        let now = self.shared.clock.now().wall;
        for payload in tasks {
            match self.shared.codec.decode(&Record { payload, ..Record::default() }, &here, now) {
                Ok(activation) => self.shared.step(|ledger, now| ledger.admit_own(activation, now)),
                Err(error) => error!(%error, "a task of the broker's own is no activation"),
            }
        }
    }

    /// Puts rules in force, for what comes in and for what is here.
    pub fn set_rules(&self, rules: Rules) {
        self.shared.rules.set(rules);
    }

    /// A way to put rules in force after the broker itself has been moved elsewhere.
    pub fn rules_setter(&self) -> impl Fn(Rules) + Send + Sync + use<> {
        let shared = self.shared.clone();
        move |rules| shared.rules.set(rules)
    }

    /// Brings the gauges of the ledger up to date; can be called after the broker itself has been moved elsewhere, and does nothing
    /// once it is gone.
    pub fn refresh_gauges(&self) -> impl Fn() + Send + Sync + 'static {
        let shared = Arc::downgrade(&self.shared);
        move || {
            if let Some(shared) = shared.upgrade() {
                meters::refresh(&shared);
            }
        }
    }

    /// A picture of the ledger.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// A picture of the ledger that can be asked for after the broker itself has been moved elsewhere.
    pub fn stats_probe(&self) -> impl Fn() -> Stats + Send + Sync + Clone + 'static {
        let shared = self.shared.clone();
        move || shared.stats()
    }

    /// Resolves when the store failed, or a loop ended by a bug: nothing can be done but to stop.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Stops taking work in and handing it out. Reports are still taken.
    pub fn stop_intake(&self) {
        self.intake.cancel();
    }

    /// Brings everything into the journal, leaves the group and closes the store; within `limit`, whatever happens.
    pub async fn shut_down(self, limit: Duration) {
        self.stop_intake();
        let orderly = self.shut_down_in_order();
        if tokio::time::timeout(limit, orderly).await.is_err() {
            error!(limit_s = limit.as_secs(), "not closed in time; what was answered is durable all the same");
        }
    }

    async fn shut_down_in_order(&self) {
        self.loops.close();
        self.journal.cancel();
        self.loops.wait().await;
        let closed = match self.failed.is_cancelled() {
            true => false,
            false => committer::close(&self.shared).await,
        };
        // At-most-once tasks in the store may be handed out after the next start if the group has acknowledged this.
        if close_feeds(&self.shared, closed).await && closed {
            committer::close(&self.shared).await;
        }
        self.shared.store.close().await;
        info!(in_flight = self.shared.lock().stats().in_flight, "closed");
    }
}

/// Leaves all groups, each beside the others. Returns whether any had something left to say.
async fn close_feeds(shared: &Arc<Shared>, closed: bool) -> bool {
    let positions = if closed { shared.lock().all_final_positions() } else { Vec::new() };
    let mut closing = JoinSet::new();
    for feed in shared.feeds.iter().cloned() {
        let of_topic = |position: &&GroupCommit| position.partition.topic == feed.topic;
        let positions: Vec<GroupCommit> = positions.iter().filter(of_topic).cloned().collect();
        let shared = Arc::clone(shared);
        closing.spawn(async move {
            feed.source.close(positions).await;
            ingest::last_answers(&shared, feed.source.as_ref()).await
        });
    }
    let mut any = false;
    while let Some(closed) = closing.join_next().await {
        match closed {
            Ok(answered) => any |= answered,
            Err(panic) => error!(%panic, "a topic was left by a bug of the broker, not in order; the others are"),
        }
    }
    any
}

async fn load(ports: &Ports, options: &Options) -> Result<Ledger, StoreError> {
    let mut ledger = Ledger::new(options.policy.clone(), ports.store.identity());
    let state = ports.store.state().await?;
    let closed = state.closed;
    ledger.load(state, ports.clock.now());
    let mut after: Option<Key> = None;
    let mut rows = 0_usize;
    loop {
        let page = ports.store.rows(after, LOAD_PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.key);
        rows += page.len();
        let now = ports.clock.now();
        for row in page {
            ledger.load_row(row, now);
        }
    }
    // What is due already is done before anything is handed out or forwarded.
    ledger.tick(ports.clock.now());
    info!(rows, closed_in_order = closed, "store loaded");
    Ok(ledger)
}
