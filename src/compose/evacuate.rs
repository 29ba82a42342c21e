//! Everything that a broker holds goes to Kafka: it will not come back, and nobody else has it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use taskbroker_domain::{
    ledger::{Counts, Stats},
    policy::Policy,
    ports::outbox::Outbox,
    rules::Rules,
};
use taskbroker_kafka::KafkaOutbox;

use super::{clock, codec, engine_options, kafka, store};
use crate::{
    engine::{Broker, Options, Ports},
    settings::{Settings, StoreAdapter},
};

/// How often it is looked whether a lease has ended meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What became of the tasks.
#[derive(Clone, Copy, Debug)]
pub struct Evacuated {
    /// How many left, and as what.
    pub counts: Counts,
    /// How many Kafka refused for good: they are still there.
    pub parked: usize,
}

/// Publishes everything in the configured store, each removed once Kafka has it: what waits goes to the retry topic under its own
/// id, retries and dead letters where they were to go. What a worker had waits for its lease to end; to be run at most once
/// it fails then, as does what another broker may have read. Killed at any moment it can be started again.
pub async fn evacuate(settings: &Settings, progress: &dyn Fn(&Stats)) -> Result<Evacuated> {
    let path = &settings.store.sqlite_path;
    ensure!(settings.store.adapter == StoreAdapter::Sqlite, "store.adapter is memory: there is nothing to evacuate");
    ensure!(path.is_file(), "there is no store at {}", path.display());
    let outbox = Arc::new(KafkaOutbox::new(kafka::outbox_options(settings))?);
    let back = &settings.kafka.outbox.retry;
    outbox.set_forward(&back.topic, &kafka::cluster(&back.cluster)).context("the retry topic cannot be produced to")?;
    let ports = Ports {
        store: store::open_whole(settings, clock().as_ref()).await?,
        feeds: Vec::new(),
        outbox: Arc::clone(&outbox) as Arc<dyn Outbox>,
        codec: codec(settings),
        clock: clock(),
    };
    let broker = Broker::start(ports, options(settings)).await.context("the store cannot be loaded")?;
    let evacuated = empty(&broker, progress).await;
    broker.shut_down(settings.shutdown_timeout).await;
    outbox.close(settings.shutdown_timeout).await;
    evacuated
}

/// Nothing is read, so that no partition is waited for.
fn options(settings: &Settings) -> Options {
    let options = engine_options(settings);
    let policy = Policy { absent_partition_limit: Duration::ZERO, ..options.policy };
    Options { policy, ..options }
}

async fn empty(broker: &Broker, progress: &dyn Fn(&Stats)) -> Result<Evacuated> {
    loop {
        let stats = broker.stats();
        progress(&stats);
        if stats.in_flight == stats.depths.parked {
            return Ok(Evacuated { counts: stats.totals, parked: stats.depths.parked });
        }
        broker.set_rules(forward_all(&stats));
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = broker.failed() => anyhow::bail!("the store failed: what was not published is still in it"),
        }
    }
}

/// Whatever namespace there is leaves.
fn forward_all(stats: &Stats) -> Rules {
    let demoted: BTreeSet<Box<str>> = stats.namespaces.iter().map(|namespace| namespace.namespace.clone()).collect();
    Rules { demoted, ..Rules::default() }
}
