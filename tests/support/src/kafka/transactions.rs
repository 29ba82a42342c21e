//! Transactions, for the control markers that they leave in the log.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use rdkafka::{
    consumer::{BaseConsumer, Consumer},
    producer::{BaseProducer, BaseRecord, Producer},
};

use super::{ANSWER_WITHIN, Kafka, Message, blocking};

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its messages count. One marker follows them in each partition.
    Commit,
    /// Its messages do not count. They stay in the log, and one marker follows them in each partition.
    Abort,
}

impl Kafka {
    /// Produces messages in one transaction, and waits until its markers are in the log: Kafka writes them after it has
    /// answered. (So no other transaction may be open in the topic.)
    pub async fn transaction(
        &self,
        topic: &str,
        messages: impl IntoIterator<Item = Message>,
        ending: Ending,
    ) -> Result<()> {
        let producer: BaseProducer = self.config().set("transactional.id", Self::unique("transaction")).create()?;
        let (topic, messages) = (topic.to_owned(), messages.into_iter().collect::<Vec<_>>());
        let (clients, reader) = (Arc::clone(&self.clients), self.config().create::<BaseConsumer>()?);
        blocking(move || {
            run(&producer, &topic, &messages, ending)?;
            await_markers(&clients.asker, &reader, &topic)
        })
        .await
    }
}

/// Waits until nothing in the topic is undecided: what a reader of decided records calls the end is the end of the log.
fn await_markers(asker: &BaseConsumer, reader: &BaseConsumer, topic: &str) -> Result<()> {
    let metadata = asker.fetch_metadata(Some(topic), ANSWER_WITHIN)?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    let deadline = Instant::now() + ANSWER_WITHIN;
    for partition in 0..i32::try_from(partitions)? {
        let (_, end) = asker.fetch_watermarks(topic, partition, ANSWER_WITHIN)?;
        while reader.fetch_watermarks(topic, partition, ANSWER_WITHIN)?.1 < end {
            if Instant::now() > deadline {
                bail!("a transaction in {topic} is still undecided");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}

fn run(producer: &BaseProducer, topic: &str, messages: &[Message], ending: Ending) -> Result<()> {
    producer.init_transactions(ANSWER_WITHIN)?;
    producer.begin_transaction()?;
    for message in messages {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).headers(message.owned_headers());
        record.payload = message.payload.as_deref();
        record.key = message.key.as_deref();
        record.partition = message.partition;
        record.timestamp = message.timestamp_ms;
        if let Err((error, _)) = producer.send(record) {
            bail!("not sent to {topic}: {error}");
        }
    }
    producer.flush(ANSWER_WITHIN)?;
    match ending {
        Ending::Commit => producer.commit_transaction(ANSWER_WITHIN)?,
        Ending::Abort => producer.abort_transaction(ANSWER_WITHIN)?,
    }
    Ok(())
}
