//! Metrics of one application's lane. Applications come from the settings, so there are few.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use taskbroker_domain::ports::worker::{Offered, Refused};

pub(super) struct LaneMeters {
    delivered: Counter,
    unreachable: Counter,
    busy: Counter,
    declined: Counter,
    too_large: Counter,
    unknown: Counter,
    seconds: Histogram,
    in_flight: Gauge,
    up: Gauge,
}

impl LaneMeters {
    pub(super) fn new(application: &str) -> Self {
        let name = || application.to_owned();
        let outcome = |outcome: &'static str| counter!("taskbroker_push_offers_total", "application" => name(), "outcome" => outcome);
        let up = gauge!("taskbroker_push_worker_up", "application" => name());
        up.set(1.0);
        Self {
            delivered: outcome("delivered"),
            unreachable: outcome("unreachable"),
            busy: outcome("busy"),
            declined: outcome("declined"),
            too_large: outcome("too_large"),
            unknown: outcome("unknown"),
            seconds: histogram!("taskbroker_push_offer_seconds", "application" => name()),
            in_flight: gauge!("taskbroker_push_offers_in_flight", "application" => name()),
            up,
        }
    }

    pub(super) fn offered(&self, offered: &Offered, took: Duration) {
        self.seconds.record(took.as_secs_f64());
        let counter = match offered {
            Offered::Delivered => &self.delivered,
            Offered::Refused(Refused::Unreachable(_)) => &self.unreachable,
            Offered::Refused(Refused::Busy(_)) => &self.busy,
            Offered::Refused(Refused::Declined(_)) => &self.declined,
            Offered::Refused(Refused::TooLarge(_)) => &self.too_large,
            Offered::Unknown(_) => &self.unknown,
        };
        counter.increment(1);
    }

    pub(super) fn under_way(&self, offers: usize) {
        self.in_flight.set(offers as f64);
    }

    pub(super) fn up(&self, up: bool) {
        self.up.set(if up { 1.0 } else { 0.0 });
    }
}
