//! Says which tasks nobody asks for.

use std::collections::{HashMap, HashSet};

use metrics::gauge;
use taskbroker_domain::{ledger::Unserved, time::Steady};
use tracing::{info, warn};

/// An application and a namespace of it.
type Name = (Box<str>, Box<str>);

/// Remembers what was said, so that it is said once.
#[derive(Default)]
pub(super) struct Announcer {
    named: HashMap<Name, Steady>,
    /// Those that have series: names come from outside, and a series stays.
    shown: HashSet<Name>,
}

/// How many namespaces have series here. Further ones are named in the log only.
const SHOWN_MAX: usize = 500;

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
            self.set(&name, *waiting as f64, seconds as f64);
            self.named.insert(name, *since);
        }
        for (name, _) in served {
            info!(application = %name.0, namespace = %name.1, "these tasks are asked for again, or gone");
            self.set(&name, 0.0, 0.0);
        }
    }

    fn set(&mut self, name: &Name, waiting: f64, seconds: f64) {
        if !self.shown.contains(name) {
            if self.shown.len() >= SHOWN_MAX {
                return;
            }
            self.shown.insert(name.clone());
        }
        let labels = [("application", name.0.to_string()), ("namespace", name.1.to_string())];
        gauge!("taskbroker_unserved", &labels).set(waiting);
        gauge!("taskbroker_unserved_seconds", &labels).set(seconds);
    }
}
