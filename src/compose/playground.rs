//! Everything that trying out needs, in one process: a Kafka-protocol broker in memory, the whole daemon, and a way to
//! produce tasks.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use taskbroker_domain::ports::{clock::Clock, outbox::Outbox};
use taskbroker_kafka::{KafkaOutbox, embedded::EmbeddedKafka};
use taskbroker_telemetry::Metrics;

use super::{
    Daemon,
    kafka::{outbox_options, source_options},
};
use crate::settings::{self, Settings, Sources};

/// The topic that tasks are produced to.
pub const TOPIC: &str = "taskworker";
/// Where dead letters go.
pub const DEAD_LETTER_TOPIC: &str = "taskworker-dlq";
/// How many partitions the topic has: enough to see that they are shared out, few enough to print.
const PARTITIONS: i32 = 4;
/// How long Kafka may keep a request for records when there are none, in milliseconds. The embedded one answers no sooner when
/// some come in, unlike a real one: so this is what a task waits for.
const FETCH_WAIT_MS: u32 = 5;
/// Where workers look by default.
const USUAL_GRPC_PORT: u16 = 50051;
/// How long messages of the producer may wait at the end. They were acknowledged long before.
const PRODUCER_CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// What is chosen of a playground.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// The file of the store.
    pub store: PathBuf,
    /// The gRPC port; none: the usual one, or a free one where that is taken.
    pub grpc_port: Option<u16>,
    /// The port of metrics and probes; none: the usual one, or a free one where that is taken.
    pub http_port: Option<u16>,
    /// How many tasks may wait for a worker or be with one.
    pub tasks_max: NonZeroUsize,
}

/// A running playground.
pub struct Playground {
    /// The broker.
    pub daemon: Daemon,
    /// Kafka's address, for one's own producer.
    pub kafka_address: String,
    kafka: EmbeddedKafka,
    producer: Arc<KafkaOutbox>,
}

impl Playground {
    /// Starts Kafka, then the daemon on it.
    pub async fn start(wishes: &Wishes, clock: Arc<dyn Clock>, metrics: Metrics) -> Result<Self> {
        let kafka = EmbeddedKafka::start(&[(TOPIC, PARTITIONS), (DEAD_LETTER_TOPIC, 1)])?;
        let kafka_address = kafka.address().to_owned();
        let settings = settings(wishes, &kafka_address)?;
        let mut sources = source_options(&settings);
        for source in &mut sources {
            source.properties.insert("fetch.wait.max.ms".to_owned(), FETCH_WAIT_MS.to_string());
        }
        let daemon = Daemon::start_with(&settings, sources, clock, metrics, None).await?;
        // The daemon's retry topic is the topic it consumes: what publishes retries can produce tasks as well.
        let producer = Arc::new(KafkaOutbox::new(outbox_options(&settings))?);
        Ok(Self { daemon, kafka_address, kafka, producer })
    }

    /// Produces tasks: what goes to the retry topic is read by the daemon.
    pub fn producer(&self) -> Arc<dyn Outbox> {
        Arc::clone(&self.producer) as Arc<dyn Outbox>
    }

    /// Stops the daemon in order, then Kafka, which forgets what it held.
    pub async fn stop(self) {
        self.producer.close(PRODUCER_CLOSE_LIMIT).await;
        self.daemon.stop().await;
        // Ending it waits for its threads.
        tokio::task::spawn_blocking(move || drop(self.kafka)).await.ok();
    }
}

fn settings(wishes: &Wishes, kafka: &str) -> Result<Settings> {
    let yaml = format!(
        "kafka_clusters: {{ embedded: {{ address: \"{kafka}\" }} }}
kafka_topics:
  {TOPIC}: {{ cluster: embedded, consumer_group: {TOPIC} }}
  {DEAD_LETTER_TOPIC}: {{ cluster: embedded, produce_only: true }}
kafka_auto_offset_reset: earliest
store: {{ processing_deadline_grace_sec: 1 }}
"
    );
    let mut settings = settings::load(&Sources::defaults().with_yaml("the playground", &yaml))?.settings;
    settings.store.sqlite_path.clone_from(&wishes.store);
    settings.store.max_pending = wishes.tasks_max;
    settings.store.max_processing = wishes.tasks_max;
    settings.grpc_listen = Some(address("--grpc-port", wishes.grpc_port, USUAL_GRPC_PORT)?);
    let usual_http_port = settings.http_listen.map_or(0, |address| address.port());
    settings.http_listen = Some(address("--http-port", wishes.http_port, usual_http_port)?);
    Ok(settings)
}

/// The address to listen on. A port that was asked for must be free; the usual one need not.
fn address(option: &str, asked: Option<u16>, usual: u16) -> Result<SocketAddr> {
    let at = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    match asked {
        Some(0) => bail!("{option} 0 is no port; leave it out to have one chosen"),
        Some(port) => {
            is_free(at(port)).with_context(|| format!("{option} {port}: choose another, or leave it out"))?;
            Ok(at(port))
        }
        None if is_free(at(usual)).is_ok() => Ok(at(usual)),
        None => Ok(at(0)),
    }
}

fn is_free(address: SocketAddr) -> std::io::Result<()> {
    TcpListener::bind(address).map(drop)
}
