//! Produces activations.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use bytes::Bytes;
use clap::Args;
use prost::Message;
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};
use taskbroker_proto::pb::{RetryState, TaskActivation};

#[derive(Debug, Args)]
pub(crate) struct Produce {
    /// Kafka's address.
    #[arg(long)]
    kafka: String,
    #[arg(long, default_value = "taskworker")]
    topic: String,
    #[arg(long)]
    count: u64,
    /// Bytes of arguments.
    #[arg(long, default_value_t = 250)]
    bytes: usize,
    /// Tasks per second; as fast as possible if not given.
    #[arg(long)]
    rate: Option<f64>,
    /// Stands in the ids.
    #[arg(long, default_value = "0")]
    run: String,
    #[arg(long, default_value = "app")]
    application: String,
    #[arg(long, default_value = "ns")]
    namespace: String,
}

pub(crate) fn run(args: &Produce) -> Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", &args.kafka)
        .set("linger.ms", if args.rate.is_some() { "1" } else { "20" })
        .set("queue.buffering.max.messages", "1000000")
        .set("sticky.partitioning.linger.ms", "10")
        .create()?;
    let began = Instant::now();
    for number in 0..args.count {
        if let Some(rate) = args.rate {
            let due = Duration::from_secs_f64(number as f64 / rate);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        send(&producer, &args.topic, &activation(args, number))?;
    }
    producer.flush(Duration::from_secs(60))?;
    let took = began.elapsed().as_secs_f64();
    println!("produced {} in {took:.2} s ({:.0}/s)", args.count, args.count as f64 / took);
    Ok(())
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

fn activation(args: &Produce, number: u64) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TaskActivation {
        id: format!("load-{}-{number:012}", args.run),
        application: Some(args.application.clone()),
        namespace: args.namespace.clone(),
        taskname: "load.task".to_owned(),
        received_at: Some(prost_types_timestamp(now)),
        processing_deadline_duration: 60,
        retry_state: Some(RetryState { max_attempts: 1, ..Default::default() }),
        parameters_bytes: Bytes::from(vec![b'x'; args.bytes]),
        ..Default::default()
    }
    .encode_to_vec()
}

fn prost_types_timestamp(now: Duration) -> taskbroker_proto::Timestamp {
    taskbroker_proto::Timestamp {
        seconds: i64::try_from(now.as_secs()).unwrap_or(0),
        nanos: i32::try_from(now.subsec_nanos()).unwrap_or(0),
    }
}
