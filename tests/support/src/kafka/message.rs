//! Messages in and out, and how they are produced and consumed.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, anyhow, bail};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{BorrowedMessage, Header, Headers, OwnedHeaders},
    producer::{FutureRecord, future_producer::DeliveryFuture},
    types::RDKafkaErrorCode,
};

use super::{ANSWER_WITHIN, Kafka, blocking};

/// A message to be produced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub(super) payload: Option<Vec<u8>>,
    pub(super) key: Option<Vec<u8>>,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) partition: Option<i32>,
    pub(super) timestamp_ms: Option<i64>,
}

impl Message {
    /// A message with this value.
    pub fn new(payload: impl Into<Vec<u8>>) -> Self {
        Self { payload: Some(payload.into()), ..Self::default() }
    }

    /// A message without a value.
    pub fn without_value() -> Self {
        Self::default()
    }

    /// With a key.
    #[must_use]
    pub fn key(self, key: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// To this partition.
    #[must_use]
    pub fn partition(self, partition: i32) -> Self {
        Self { partition: Some(partition), ..self }
    }

    /// With this timestamp, in milliseconds since the epoch.
    #[must_use]
    pub fn timestamp_ms(self, timestamp_ms: i64) -> Self {
        Self { timestamp_ms: Some(timestamp_ms), ..self }
    }

    pub(super) fn owned_headers(&self) -> OwnedHeaders {
        let new = OwnedHeaders::new_with_capacity(self.headers.len());
        let add = |headers: OwnedHeaders, (key, value): &(String, Vec<u8>)| {
            headers.insert(Header { key, value: Some(value) })
        };
        self.headers.iter().fold(new, add)
    }

    fn record<'a>(&'a self, topic: &'a str) -> FutureRecord<'a, [u8], [u8]> {
        let mut record = FutureRecord::to(topic).headers(self.owned_headers());
        record.payload = self.payload.as_deref();
        record.key = self.key.as_deref();
        record.partition = self.partition;
        record.timestamp = self.timestamp_ms;
        record
    }
}

/// A message as it was consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumed {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its value; empty when there is none.
    pub payload: Vec<u8>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Consumed {
    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice())
    }
}

impl From<&BorrowedMessage<'_>> for Consumed {
    fn from(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers.iter().map(|one| (one.key.to_owned(), one.value.unwrap_or_default().to_vec())).collect()
        });
        Self {
            partition: message.partition(),
            offset: message.offset(),
            payload: message.payload().unwrap_or_default().to_vec(),
            key: message.key().map(<[u8]>::to_vec),
            headers,
        }
    }
}

impl Kafka {
    /// Produces messages and waits until all are durable. Returns their partitions and offsets, in the same order.
    pub async fn produce(&self, topic: &str, messages: impl IntoIterator<Item = Message>) -> Result<Vec<(i32, i64)>> {
        let mut deliveries = Vec::new();
        for message in messages {
            deliveries.push(self.enqueue(topic, &message).await?);
        }
        let mut places = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let delivery = delivery.await?.map_err(|(error, _)| anyhow!("not delivered to {topic}: {error}"))?;
            places.push((delivery.partition, delivery.offset));
        }
        Ok(places)
    }

    async fn enqueue(&self, topic: &str, message: &Message) -> Result<DeliveryFuture> {
        loop {
            match self.clients.producer.send_result(message.record(topic)) {
                Ok(delivery) => return Ok(delivery),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err((error, _)) => bail!("not sent to {topic}: {error}"),
            }
        }
    }

    /// Everything that is in a topic, partition by partition. What transactions took back is left out.
    pub async fn consume_all(&self, topic: &str) -> Result<Vec<Consumed>> {
        let consumer: BaseConsumer =
            self.config().set("enable.partition.eof", "true").set("group.id", Self::unique("reader")).create()?;
        let topic = topic.to_owned();
        blocking(move || read_to_the_end(&consumer, &topic)).await
    }
}

fn read_to_the_end(consumer: &BaseConsumer, topic: &str) -> Result<Vec<Consumed>> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_WITHIN)?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::try_from(partitions)? {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let mut ended = 0;
    let mut consumed: BTreeMap<(i32, i64), Consumed> = BTreeMap::new();
    while ended < partitions {
        match consumer.poll(ANSWER_WITHIN) {
            Some(Ok(message)) => {
                consumed.insert((message.partition(), message.offset()), Consumed::from(&message));
            }
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => return Err(error.into()),
            None => bail!("{topic} was not read to its end in {ANSWER_WITHIN:?}"),
        }
    }
    Ok(consumed.into_values().collect())
}
