//! A real Kafka for tests.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use taskbroker_support::kafka::{Kafka, Message};
//!
//! let Some(kafka) = Kafka::shared() else { return Ok(()) };
//! let topic = kafka.new_topic("tasks", 4).await?;
//! kafka.produce(&topic, [Message::new("payload").key("key").partition(0)]).await?;
//! assert_eq!(kafka.log_range(&topic, 0).await?, 0..1);
//! # Ok(()) }
//! ```
//!
//! Taken from the first of these that there is, which is said on standard error:
//! 1. the address in `TASKBROKER_TEST_KAFKA`;
//! 2. a container, if a Docker daemon answers;
//! 3. the jars, through `scripts/kafka`.
//!
//! With none, tests are skipped with the reason; with `TASKBROKER_TEST_REQUIRE_KAFKA=1` they fail. The shared Kafka stays up
//! for the next run (`scripts/kafka down --wipe` stops and clears it), so tests use topics and groups of their own.

mod groups;
mod logs;
mod message;
mod own;
mod provision;
mod rights;
mod secured;
mod topics;
mod transactions;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context, Result};
use rdkafka::{
    ClientConfig, admin::AdminClient, client::DefaultClientContext, consumer::BaseConsumer, producer::FutureProducer,
};
use uuid::Uuid;

pub use self::{
    groups::GroupPosition,
    message::{Consumed, Message},
    own::OwnKafka,
    rights::{Operation, Resource},
    secured::SecuredKafka,
    transactions::Ending,
};

/// How long one question to Kafka may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// A Kafka to test against. Cheap to clone.
#[derive(Clone)]
pub struct Kafka {
    address: Arc<str>,
    clients: Arc<Clients>,
}

struct Clients {
    admin: AdminClient<DefaultClientContext>,
    producer: FutureProducer,
    /// In no group: asks for offsets.
    asker: BaseConsumer,
}

impl Kafka {
    /// The Kafka that all tests share. `None`: there is none, which has been said; skip the test.
    ///
    /// # Panics
    /// When there is none though `TASKBROKER_TEST_REQUIRE_KAFKA` asks for one.
    pub fn shared() -> Option<Self> {
        static SHARED: OnceLock<Option<Kafka>> = OnceLock::new();
        SHARED.get_or_init(|| provision::or_skip(provision::shared().and_then(|address| Self::at(&address)))).clone()
    }

    /// A private Kafka, from the jars, for a test that stops, kills or freezes it. It is gone when dropped. `None` as for
    /// [`Kafka::shared`].
    ///
    /// # Panics
    /// When it cannot be started though `TASKBROKER_TEST_REQUIRE_KAFKA` asks for one.
    pub fn own() -> Option<OwnKafka> {
        provision::or_skip(OwnKafka::start())
    }

    /// A Kafka that is starting: waits, for three minutes at most, until it answers.
    pub fn starting_at(address: &str) -> Result<Self> {
        provision::await_answer(address)?;
        Self::at(address)
    }

    /// A Kafka that runs already.
    pub fn at(address: &str) -> Result<Self> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", address)
            .set("reconnect.backoff.max.ms", "500")
            .set("enable.metrics.push", "false");
        let clients = Clients {
            admin: config.create().context("Kafka admin client")?,
            producer: config
                .clone()
                .set("enable.idempotence", "true")
                .set("linger.ms", "2")
                .set("message.max.bytes", "100000000")
                .create()
                .context("Kafka producer")?,
            asker: config.set("isolation.level", "read_uncommitted").create().context("Kafka client for offsets")?,
        };
        Ok(Self { address: address.into(), clients: Arc::new(clients) })
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A name that no other test uses: for a topic, a group, a member.
    pub fn unique(prefix: &str) -> String {
        format!("{prefix}-{}", Uuid::new_v4().simple())
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &*self.address).set("enable.metrics.push", "false");
        config
    }
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Kafka").field(&self.address).finish()
    }
}

/// Runs something that blocks where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("a helper panicked")?
}
