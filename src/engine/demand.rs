//! Says which tasks nobody asks for.

use std::collections::HashMap;

use metrics::gauge;
use taskbroker_domain::{ledger::Unserved, time::Steady};
use tracing::{info, warn};

/// An application and a namespace of it.
type Name = (Box<str>, Box<str>);

/// Remembers what was said, so that it is said once.
#[derive(Default)]
pub(super) struct Announcer {
    named: HashMap<Name, Steady>,
}

impl Announcer {
    /// Shows what is unserved now, and says what changed.
    pub(super) fn show(&mut self, unserved: &[Unserved], now: Steady) {
        let mut served = std::mem::take(&mut self.named);
        for Unserved { application, namespace, since, waiting } in unserved {
            let name = (application.clone(), namespace.clone());
            let seconds = now.since(*since).as_secs();
            if served.remove(&name).is_none() {
                warn!(%application, %namespace, waiting, for_s = seconds, "no worker asks for these tasks");
            }
            set(&name, *waiting as f64, seconds as f64);
            self.named.insert(name, *since);
        }
        for (name, _) in served {
            info!(application = %name.0, namespace = %name.1, "these tasks are asked for again, or gone");
            set(&name, 0.0, 0.0);
        }
    }
}

fn set((application, namespace): &Name, waiting: f64, seconds: f64) {
    let labels = [("application", application.to_string()), ("namespace", namespace.to_string())];
    gauge!("taskbroker_unserved", &labels).set(waiting);
    gauge!("taskbroker_unserved_seconds", &labels).set(seconds);
}
