//! DogStatsD over UDP, under the names that dashboards of existing deployments know.
//!
//! On the way of a task a mapped metric costs one more atomic operation. Once a second a task of its own ([`Sender`]) turns what changed into
//! lines: counters as differences, gauges as they are, histograms as samples. Nothing waits for the agent: it is UDP.

#[cfg(test)]
mod earlier;
mod lines;
mod names;
mod recorder;
mod series;
mod socket;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

pub(crate) use self::recorder::{Fanout, Series};
use self::{lines::Lines, series::Snapshot, socket::Socket};

/// Where metrics are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsdOptions {
    /// `host:port` (`statsd_addr`); the host may be a name, which is resolved again now and then.
    pub address: String,
    /// Tags that every metric carries (`default_metrics_tags`).
    pub tags: BTreeMap<String, String>,
    /// How often. 1 s: agents add up over 10 s, so that none of their intervals goes without.
    pub interval: Duration,
}

impl StatsdOptions {
    /// To this address, without tags of its own, once a second.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), tags: BTreeMap::new(), interval: Duration::from_secs(1) }
    }
}

/// Sends what was recorded.
pub(crate) struct Sender {
    options: StatsdOptions,
    series: Arc<Series>,
}

impl Sender {
    pub(crate) fn new(options: StatsdOptions, series: Arc<Series>) -> Self {
        Self { options, series }
    }

    /// Sends until `shutdown` is cancelled, and then once more. `refresh` brings gauges up to date.
    pub(crate) async fn run(&self, refresh: impl Fn(), shutdown: CancellationToken) {
        let mut socket = Socket::new(self.options.address.clone());
        let mut snapshot = Snapshot::default();
        let mut ticks = interval(self.options.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let last = tokio::select! {
                () = shutdown.cancelled() => true,
                _ = ticks.tick() => false,
            };
            refresh();
            let mut lines = Lines::new(&self.options.tags);
            snapshot.collect(&self.series, &mut lines);
            socket.send(lines.datagrams()).await;
            if last {
                return;
            }
        }
    }
}
