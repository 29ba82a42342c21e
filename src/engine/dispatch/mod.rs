//! Push delivery: offers tasks to workers as soon as there are any, instead of waiting to be asked.
//!
//! Each application has a lane of its own: its own calls under way, its own rests, its own breaker. A worker that is away,
//! full or broken holds up nobody else's tasks.

mod breaker;
mod lane;
mod meters;
mod offer;
mod unmapped;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use taskbroker_domain::ports::worker::WorkerGateway;

use self::lane::Lane;
use super::Broker;

/// What the operator chose for push delivery.
#[derive(Clone, Debug)]
pub struct DispatchOptions {
    /// The applications that are served, and where their workers are (for people: the gateway knows by itself).
    pub workers: BTreeMap<String, String>,
    /// How many offers each application may have under way.
    pub concurrency: usize,
    /// How long an offer may take: the longest that the gateway lets a call last. Leases are that much longer, until the
    /// worker has the task.
    pub offer_limit: Duration,
    /// How long an orderly stop waits for offers under way. What is not answered by then counts as unknown.
    pub finish_within: Duration,
}

impl Broker {
    /// Offers tasks to workers from here on, until intake is stopped.
    pub fn dispatch(&self, gateway: Arc<dyn WorkerGateway>, options: DispatchOptions) {
        let options = Arc::new(options);
        // Set once; a second call would only add lanes.
        self.shared.pushed.set(options.workers.keys().map(|name| name.as_str().into()).collect()).ok();
        for (application, endpoint) in &options.workers {
            let lane =
                Lane::new(self.shared.clone(), gateway.clone(), options.clone(), application.clone(), endpoint.clone());
            self.supervise("dispatch", &self.intake, lane.run(self.intake.clone()));
        }
        let served = options.workers.keys().cloned().collect();
        self.supervise("unmapped", &self.intake, unmapped::run(self.shared.clone(), served, self.intake.clone()));
    }
}
