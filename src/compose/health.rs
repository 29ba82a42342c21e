//! What the broker says of its health: of the ledger's progress, in the words of the ports that are asked.

use std::time::Duration;

use taskbroker_domain::ledger::Unserved;
use taskbroker_telemetry::{Condition, HealthState};
use tokio_util::sync::CancellationToken;

use crate::engine::{Broker, Health};

/// How often health is looked at.
const INTERVAL: Duration = Duration::from_millis(500);

/// Keeps it up to date until it is told to stop. `forced` (`health_check_killswitched`) says that all is well, whatever is.
pub(super) fn watch(
    broker: &Broker,
    state: HealthState,
    forced: bool,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let probe = broker.health_probe();
    async move {
        while !stop.is_cancelled() {
            let judged = judge(&probe(), forced);
            state.set_ready(judged.ready);
            state.set_live(judged.live);
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

struct Judged {
    live: Condition,
    ready: Condition,
}

/// Alive as long as work that could move moves, Kafka being away changes nothing; ready if besides nothing waits that nobody
/// asks for.
fn judge(health: &Health, forced: bool) -> Judged {
    let Health { troubles, unserved } = health;
    if forced {
        return Judged { live: Condition::from_reasons(Vec::new()), ready: Condition::from_reasons(Vec::new()) };
    }
    let troubles: Vec<String> = troubles.iter().map(ToString::to_string).collect();
    let unserved = unserved.iter().map(|Unserved { application, namespace, waiting, .. }| {
        format!("no worker asks for {waiting} tasks of application {application:?}, namespace {namespace:?}")
    });
    let ready = troubles.iter().cloned().chain(unserved).collect();
    Judged { live: Condition::from_reasons(troubles), ready: Condition::from_reasons(ready) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Trouble;

    #[test]
    fn what_stands_still_is_neither_alive_nor_ready() {
        let trouble = Health { troubles: vec![Trouble::CommitStuck(Duration::from_secs(9))], unserved: Vec::new() };
        let judged = judge(&trouble, false);
        assert!(!judged.live.is_good() && !judged.ready.is_good());
        let judged = judge(&Health { troubles: Vec::new(), unserved: Vec::new() }, false);
        assert!(judged.live.is_good() && judged.ready.is_good());
    }

    #[test]
    fn what_nobody_asks_for_is_alive_and_not_ready() {
        let unserved = Unserved {
            application: "lost".into(),
            namespace: "space".into(),
            since: taskbroker_domain::time::Steady::default(),
            waiting: 3,
        };
        let judged = judge(&Health { troubles: Vec::new(), unserved: vec![unserved] }, false);
        assert!(judged.live.is_good());
        let expected = "no worker asks for 3 tasks of application \"lost\", namespace \"space\"";
        assert_eq!(judged.ready, Condition::bad(expected));
    }

    #[test]
    fn forced_health_is_good_whatever_is() {
        let trouble = Health { troubles: vec![Trouble::TimersLate(Duration::from_secs(9))], unserved: Vec::new() };
        let judged = judge(&trouble, true);
        assert!(judged.live.is_good() && judged.ready.is_good());
    }
}
