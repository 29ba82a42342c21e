//! What the outbox on Kafka says of a message that is not acknowledged, in simulated time: the cluster is one that nobody is at.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use taskbroker_domain::ports::outbox::{Destination, Message, Outbox, PublishError};
use taskbroker_kafka::{ClusterOptions, KafkaOutbox, KafkaOutboxOptions};
use tokio::time::Instant;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:1";
const SAID: &str = "Kafka has not acknowledged a message yet; it is still waited for";

/// What is said at WARN or louder on this thread, and when.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<(Instant, String)>>>);

impl Said {
    fn of(&self, text: &str) -> Vec<(Instant, String)> {
        self.0.lock().unwrap().iter().filter(|(_, line)| line.contains(text)).cloned().collect()
    }
}

impl Subscriber for Said {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push((Instant::now(), line.0));
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}
    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}
    fn enter(&self, _span: &span::Id) {}
    fn exit(&self, _span: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!(" {field}={value:?}");
    }
}

/// Publishes to nowhere with this much patience. Returns what was said, and how long it took.
async fn publish_within(delivery_limit: Duration) -> (Said, Instant, Duration) {
    let options = KafkaOutboxOptions {
        delivery_limit,
        ..KafkaOutboxOptions::on(&ClusterOptions::plaintext(NOWHERE), "retries", "letters")
    };
    let outbox = KafkaOutbox::new(options).unwrap();
    let said = Said::default();
    let listening = tracing::subscriber::set_default(said.clone());
    let message =
        Message { destination: Destination::DeadLetter, key: None, payload: "letter".into(), headers: Vec::new() };
    let began = Instant::now();
    let outcome = outbox.publish(message).await;
    drop(listening);
    assert!(matches!(outcome, Err(PublishError::Unavailable(_))), "{outcome:?}");
    (said, began, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_not_acknowledged_for_30_s_is_spoken_of_once_and_still_waited_for() {
    let (said, began, took) = publish_within(Duration::from_secs(120)).await;
    let lines = said.of(SAID);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let (at, line) = &lines[0];
    assert!(line.starts_with("WARN ") && line.contains("\"letters\"") && line.contains(NOWHERE), "{line}");
    assert_eq!((*at - began).as_secs(), 30);
    assert_eq!(took.as_secs(), 121, "the delivery limit, and a second for the report");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_given_up_sooner_is_only_given_up() {
    let (said, _, took) = publish_within(Duration::from_secs(20)).await;
    assert_eq!((said.of(SAID).len(), took.as_secs()), (0, 21));
    assert_eq!(said.of("publishing to the topic fails").len(), 1);
}
