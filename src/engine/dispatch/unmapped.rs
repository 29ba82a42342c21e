//! Names the applications that have tasks and no worker to push them to. Nothing of theirs is lost; it waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use metrics::gauge;
use taskbroker_domain::time::{Steady, Timestamp};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::engine::shared::Shared;

/// How often it is looked for.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often it is warned of, for each application.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// How many applications are named at once: names come from outside.
const NAMED_MAX: usize = 32;

/// Looks until it is stopped.
pub(super) async fn run(shared: Arc<Shared>, served: BTreeSet<String>, stop: CancellationToken) {
    let mut warned = BTreeMap::new();
    loop {
        let waiting = waiting(&shared, &served);
        show(&shared, &waiting, &mut warned);
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Since when the oldest task of each waits.
fn waiting(shared: &Shared, served: &BTreeSet<String>) -> BTreeMap<String, Timestamp> {
    let mut waiting: BTreeMap<String, Timestamp> = BTreeMap::new();
    for namespace in shared.stats().namespaces {
        let Some(oldest) = namespace.oldest_ready.filter(|_| !served.contains(&*namespace.application)) else {
            continue;
        };
        if waiting.len() < NAMED_MAX || waiting.contains_key(&*namespace.application) {
            let since = waiting.entry(namespace.application.into()).or_insert(oldest);
            *since = (*since).min(oldest);
        }
    }
    waiting
}

fn show(shared: &Shared, waiting: &BTreeMap<String, Timestamp>, warned: &mut BTreeMap<String, Steady>) {
    let now = shared.clock.now();
    let age = |application: &str, seconds: f64| {
        gauge!("taskbroker_push_unmapped_seconds", "application" => application.to_owned()).set(seconds);
    };
    warned.retain(|application, _| {
        let still = waiting.contains_key(application);
        if !still {
            age(application, 0.0);
        }
        still
    });
    for (application, oldest) in waiting {
        let waited = now.wall.since(*oldest);
        age(application, waited.as_secs_f64());
        if warned.get(application).is_some_and(|at| now.steady.since(*at) < WARN_EVERY) {
            continue;
        }
        warned.insert(application.clone(), now.steady);
        warn!(
            application,
            oldest_s = waited.as_secs(),
            "tasks wait for a worker, but worker_map has no entry for their application"
        );
    }
}
