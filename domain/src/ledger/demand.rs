//! Who asks for what waits. Tasks for which nobody asks are named, and leave the budget of the others.

use std::time::Duration;

use super::{Ledger, ready::Group};
use crate::time::{Now, Steady};

/// How often what waits is compared with who asked.
const REVIEW: Duration = Duration::from_secs(1);

/// A namespace of an application for which nobody asks, although tasks of it wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unserved {
    /// The application.
    pub application: Box<str>,
    /// The namespace.
    pub namespace: Box<str>,
    /// Since when nobody asks.
    pub since: Steady,
    /// How many tasks wait.
    pub waiting: usize,
}

/// Whether anybody asks for a group.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Demand {
    asked: Option<Steady>,
    /// Since when something waits that nobody asked for.
    unheard_since: Option<Steady>,
    unserved: bool,
}

impl Demand {
    /// A worker asked for it.
    pub(super) fn asked(&mut self, now: Steady) {
        *self = Self { asked: Some(now), unheard_since: None, unserved: false };
    }

    pub(super) fn is_unserved(&self) -> bool {
        self.unserved
    }

    fn review(&mut self, waits: bool, asked: Option<Steady>, limit: Duration, now: Steady) {
        let asked = self.asked.max(asked);
        if !waits {
            (self.unheard_since, self.unserved) = (None, false);
            return;
        }
        let since = *self.unheard_since.get_or_insert(now);
        let since = asked.map_or(since, |asked| asked.max(since));
        self.unserved = now.since(since) >= limit;
        self.unheard_since = Some(since);
    }
}

impl Ledger {
    /// Compares what waits with who asked, once a second.
    pub(super) fn review_demand(&mut self, now: Now) {
        if self.demand_reviewed.is_some_and(|last| now.steady.since(last) < REVIEW) {
            return;
        }
        self.demand_reviewed = Some(now.steady);
        let limit = self.policy.unserved_after;
        self.groups.each_with_what_was_asked(|group, asked| {
            let waits = group.waiting_count() > 0;
            group.demand.review(waits, asked, limit, now.steady);
        });
    }

    /// How long until the next comparison; none where nothing waits.
    pub(super) fn next_demand_review(&self, now: Now) -> Option<Duration> {
        let last = self.demand_reviewed;
        self.groups
            .any_waits()
            .then(|| last.map_or(Duration::ZERO, |last| REVIEW.saturating_sub(now.steady.since(last))))
    }

    /// The namespaces for which nobody asks although something of theirs waits.
    pub fn unserved(&self) -> Vec<Unserved> {
        let unserved = self.groups.iter().filter(|group| group.demand.unserved);
        let describe = |group: &Group| Unserved {
            application: group.application.clone(),
            namespace: group.namespace.clone(),
            since: group.demand.unheard_since.unwrap_or_default(),
            waiting: group.waiting_count(),
        };
        unserved.map(describe).filter(|unserved| unserved.waiting > 0).collect()
    }

    /// How many entries wait for which nobody asks.
    pub(super) fn unserved_waiting(&self) -> usize {
        self.groups.iter().filter(|group| group.demand.is_unserved()).map(Group::waiting_count).sum()
    }
}
