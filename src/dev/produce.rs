//! Sends sample tasks at a steady rate.

use std::{sync::Arc, time::Duration};

use taskbroker_domain::{
    ports::{
        clock::Clock,
        outbox::{Destination, Message, Outbox},
    },
    time::Steady,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    sample::{self, Tag},
    tally::Tally,
};

/// How often it is looked how many are due.
const STEP: Duration = Duration::from_millis(10);
/// How many may be on their way to Kafka; beyond that the rate is not kept.
const UNDER_WAY_MAX: usize = 10_000;

pub(super) struct Producer {
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) tally: Arc<Tally>,
    pub(super) clock: Arc<dyn Clock>,
    /// Tasks a second.
    pub(super) rate: u32,
}

impl Producer {
    /// Produces until it is stopped, then waits until Kafka has answered for all.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut under_way = JoinSet::new();
        let mut pace = Pace::new(self.clock.now().steady, self.rate);
        while !stop.is_cancelled() {
            let now = self.clock.now().steady;
            let room = UNDER_WAY_MAX.saturating_sub(under_way.len());
            for _ in 0..pace.due(now).min(room as u64) {
                under_way.spawn(self.send(now));
            }
            while under_way.try_join_next().is_some() {}
            stop.run_until_cancelled(tokio::time::sleep(STEP)).await;
        }
        while under_way.join_next().await.is_some() {}
    }

    fn send(&self, now: Steady) -> impl Future<Output = ()> + Send + 'static {
        let (outbox, tally) = (self.outbox.clone(), self.tally.clone());
        let (tag, kind) = tally.produce(now);
        async move {
            let Some(payload) = sample::encode(&tag, kind) else { return };
            // What goes to the retry topic is read by the broker like everything else there.
            let message = Message { destination: Destination::Retry, key: None, payload, headers: Vec::new() };
            if let Err(error) = outbox.publish(message).await {
                not_acknowledged(&tally, &tag, &error.to_string());
            }
        }
    }
}

fn not_acknowledged(tally: &Tally, tag: &Tag, reason: &str) {
    warn!(number = tag.number, reason, "Kafka did not acknowledge a sample task");
    tally.not_acknowledged(tag);
}

/// How many tasks are due. What could not be sent in time is not made up for beyond a second's worth.
struct Pace {
    rate: u32,
    /// When the last of those that were due came due.
    at: Steady,
}

impl Pace {
    fn new(now: Steady, rate: u32) -> Self {
        Self { rate, at: now }
    }

    fn due(&mut self, now: Steady) -> u64 {
        let rate = u64::from(self.rate);
        let passed_ms = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        let due = passed_ms.saturating_mul(rate) / 1000;
        if due > rate {
            self.at = now;
            return rate;
        }
        if let Some(took_ms) = (due * 1000).checked_div(rate) {
            self.at = self.at.saturating_add(Duration::from_millis(took_ms));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent_in(rate: u32, steps: impl Iterator<Item = u64>) -> u64 {
        let mut pace = Pace::new(Steady::from_millis(0), rate);
        steps.map(|ms| pace.due(Steady::from_millis(ms))).sum()
    }

    #[test]
    fn the_rate_is_kept_whatever_the_steps() {
        for rate in [1, 7, 50, 333, 1000, 20_000] {
            let sent = sent_in(rate, (0..=1000).map(|step| step * 10));
            let wanted = u64::from(rate) * 10;
            assert!(sent.abs_diff(wanted) <= wanted / 50, "{sent} instead of {wanted}");
        }
    }

    #[test]
    fn a_rate_of_zero_sends_nothing() {
        assert_eq!(sent_in(0, (0..100).map(|second| second * 1000)), 0);
    }

    #[test]
    fn after_a_pause_no_more_than_a_seconds_worth_is_made_up_for() {
        assert_eq!(sent_in(100, [60_000, 60_010].into_iter()), 101);
    }
}
