//! Transactions, for the control markers that they leave in the log.

use anyhow::{Result, bail};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

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
    /// Produces messages in one transaction.
    pub async fn transaction(
        &self,
        topic: &str,
        messages: impl IntoIterator<Item = Message>,
        ending: Ending,
    ) -> Result<()> {
        let producer: BaseProducer = self.config().set("transactional.id", Self::unique("transaction")).create()?;
        let (topic, messages) = (topic.to_owned(), messages.into_iter().collect::<Vec<_>>());
        blocking(move || run(&producer, &topic, &messages, ending)).await
    }
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
