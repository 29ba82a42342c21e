//! A producer with a thread that fetches its reports.
//!
//! The bindings' own (`ThreadedProducer`) polls for a tenth of a second at a time and spins through the last millisecond of
//! each, which costs an idle broker about 1 % of a processor. A poll ends with the first report, so it may as well be long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    config::FromClientConfigAndContext,
    error::{KafkaError, KafkaResult},
    producer::{BaseProducer, ProducerContext},
};

/// How long a poll without reports takes, and how long at most a producer outlives its last user.
const POLL: Duration = Duration::from_secs(2);

/// See the module. Usable as the producer that it is.
pub(super) struct PolledProducer<C: ProducerContext + 'static> {
    producer: Arc<BaseProducer<C>>,
    over: Arc<AtomicBool>,
}

impl<C: ProducerContext + 'static> PolledProducer<C> {
    pub(super) fn new(config: &ClientConfig, context: C) -> KafkaResult<Self> {
        let producer = Arc::new(BaseProducer::from_config_and_context(config, context)?);
        let over = Arc::new(AtomicBool::new(false));
        let (polled, is_over) = (Arc::clone(&producer), Arc::clone(&over));
        let poll = move || {
            while !is_over.load(Ordering::Relaxed) {
                polled.poll(POLL);
            }
        };
        let thread = thread::Builder::new().name("kafka-reports".to_owned()).spawn(poll);
        thread.map_err(|error| KafkaError::ClientCreation(format!("no thread for reports: {error}")))?;
        Ok(Self { producer, over })
    }
}

impl<C: ProducerContext + 'static> std::ops::Deref for PolledProducer<C> {
    type Target = BaseProducer<C>;

    fn deref(&self) -> &BaseProducer<C> {
        &self.producer
    }
}

impl<C: ProducerContext + 'static> Drop for PolledProducer<C> {
    /// What is still to be sent is flushed before, if it matters: the thread gives the rest up.
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
