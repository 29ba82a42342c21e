//! Produces activations.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};

use crate::activation::Template;

/// What is produced.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Kafka's address.
    pub(crate) kafka: String,
    pub(crate) topic: String,
    pub(crate) count: u64,
    /// Per second; as fast as possible without one.
    pub(crate) rate: Option<f64>,
    pub(crate) template: Template,
}

/// Produces all of it and waits until Kafka has it. Returns how many seconds that took.
pub(crate) fn run(mut plan: Plan) -> Result<f64> {
    let producer = producer(&plan.kafka, plan.rate.is_some())?;
    let began = Instant::now();
    for number in 0..plan.count {
        if let Some(rate) = plan.rate {
            let due = Duration::from_secs_f64(number as f64 / rate);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        send(&producer, &plan.topic, &plan.template.encode(number))?;
    }
    producer.flush(Duration::from_secs(60))?;
    Ok(began.elapsed().as_secs_f64())
}

/// With a rate each message is sent at once, as a producer that waits for its acknowledgement would; else in large batches.
fn producer(kafka: &str, at_once: bool) -> Result<ThreadedProducer<DefaultProducerContext>> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("linger.ms", if at_once { "0" } else { "20" })
        .set("queue.buffering.max.messages", "1000000")
        .set("sticky.partitioning.linger.ms", "10")
        .set("enable.metrics.push", "false")
        .create()?)
}

fn send(producer: &ThreadedProducer<DefaultProducerContext>, topic: &str, payload: &[u8]) -> Result<()> {
    loop {
        match producer.send(BaseRecord::<(), [u8]>::to(topic).payload(payload)) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err((error, _)) => bail!(error),
        }
    }
}
