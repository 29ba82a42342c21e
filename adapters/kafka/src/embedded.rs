//! A Kafka-protocol broker in the process: librdkafka's mock cluster. For trying out and for tests only: it keeps what it has
//! in memory, at most 5 MiB or 100,000 messages per partition, and forgets it when it stops.

use std::{
    sync::mpsc::{self, Receiver, SendError, Sender},
    thread::{self, JoinHandle},
};

use rdkafka::{
    ClientConfig, ClientContext,
    error::KafkaError,
    mocking::MockCluster,
    producer::{BaseProducer, DefaultProducerContext, Producer},
};

use crate::native;

/// A running embedded broker; stops when dropped.
#[derive(Debug)]
pub struct EmbeddedKafka {
    address: String,
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

/// Why there is no embedded broker.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// It could not be started, or refused an order.
    #[error("the embedded Kafka failed: {0}")]
    Failed(#[from] KafkaError),
    /// No thread.
    #[error("the embedded Kafka's thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
    /// Its thread ended.
    #[error("the embedded Kafka has stopped")]
    Stopped,
}

/// The cluster's handle stays on the thread that made it; orders are sent there.
enum Order {
    CreateTopic { name: String, partitions: i32, done: Sender<Result<(), KafkaError>> },
    Reachable { reachable: bool, done: Sender<Result<(), KafkaError>> },
}

type Host = BaseProducer<DefaultProducerContext>;
type Address = Result<String, KafkaError>;

impl EmbeddedKafka {
    /// Starts a broker on a free port of the loopback interface, with these topics and their numbers of partitions.
    pub fn start(topics: &[(&str, i32)]) -> Result<Self, EmbeddedError> {
        let (orders, received) = mpsc::channel();
        let (started, start) = mpsc::channel();
        let thread = thread::Builder::new().name("kafka-embedded".to_owned()).spawn(move || {
            // Whoever started it may be gone.
            drop(match host() {
                Ok(host) => serve(&host, &started, received),
                Err(error) => started.send(Err(error)),
            });
        })?;
        let address = start.recv().map_err(|_| EmbeddedError::Stopped)??;
        let embedded = Self { address, orders: Some(orders), thread: Some(thread) };
        topics.iter().try_for_each(|(name, partitions)| embedded.create_topic(name, *partitions))?;
        Ok(embedded)
    }

    /// Where it listens: `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Creates a topic.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), EmbeddedError> {
        self.order(|done| Order::CreateTopic { name: name.to_owned(), partitions, done })
    }

    /// Takes the broker off the network, or puts it back: shows what happens while Kafka is away.
    pub fn set_reachable(&self, reachable: bool) -> Result<(), EmbeddedError> {
        self.order(|done| Order::Reachable { reachable, done })
    }

    fn order(&self, order: impl FnOnce(Sender<Result<(), KafkaError>>) -> Order) -> Result<(), EmbeddedError> {
        let (done, answer) = mpsc::channel();
        let orders = self.orders.as_ref().ok_or(EmbeddedError::Stopped)?;
        orders.send(order(done)).map_err(|_| EmbeddedError::Stopped)?;
        Ok(answer.recv().map_err(|_| EmbeddedError::Stopped)??)
    }
}

/// The client in which the cluster lives.
fn host() -> Result<Host, KafkaError> {
    ClientConfig::new().set("test.mock.num.brokers", "1").create()
}

fn serve(host: &Host, started: &Sender<Address>, orders: Receiver<Order>) -> Result<(), SendError<Address>> {
    let Some(cluster) = host.client().mock_cluster() else {
        return started.send(Err(KafkaError::ClientCreation("no mock cluster in this librdkafka".to_owned())));
    };
    // Else the first member of a group waits three seconds for company.
    native::assign_at_once(host.client());
    started.send(Ok(cluster.bootstrap_servers()))?;
    for order in orders {
        obey(&cluster, order);
    }
    Ok(())
}

fn obey<C: ClientContext>(cluster: &MockCluster<'_, C>, order: Order) {
    let (done, result) = match order {
        Order::CreateTopic { name, partitions, done } => (done, cluster.create_topic(&name, partitions, 1)),
        Order::Reachable { reachable: true, done } => (done, cluster.broker_up(-1)),
        Order::Reachable { reachable: false, done } => (done, cluster.broker_down(-1)),
    };
    // Whoever ordered it may be gone.
    drop(done.send(result));
}

impl Drop for EmbeddedKafka {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported there.
            drop(thread.join());
        }
    }
}
