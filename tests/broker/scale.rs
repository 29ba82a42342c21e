//! How large the tests are.

use std::{env, str::FromStr, time::Duration};

/// `TASKBROKER_TEST_DRAIN`: how many activations are drained.
pub(crate) fn drain() -> usize {
    number("TASKBROKER_TEST_DRAIN", 5_000)
}

/// `TASKBROKER_TEST_KILLS`: how often a broker under load is killed.
pub(crate) fn kills() -> usize {
    number("TASKBROKER_TEST_KILLS", 3)
}

/// `TASKBROKER_TEST_OUTAGE_S`: how long Kafka is away, in seconds.
pub(crate) fn outage() -> Duration {
    Duration::from_secs(number("TASKBROKER_TEST_OUTAGE_S", 5))
}

/// `TASKBROKER_TEST_STORM_BROKERS`: how many brokers come and go.
pub(crate) fn storm_brokers() -> u64 {
    number("TASKBROKER_TEST_STORM_BROKERS", 3)
}

/// `TASKBROKER_TEST_STORM_TASKS`: how many messages come meanwhile.
pub(crate) fn storm_tasks() -> usize {
    number("TASKBROKER_TEST_STORM_TASKS", 12_000)
}

/// `TASKBROKER_TEST_STORM_S`: for how long, in seconds.
pub(crate) fn storm() -> Duration {
    Duration::from_secs(number("TASKBROKER_TEST_STORM_S", 15))
}

/// `TASKBROKER_TEST_TASKS`: how many tasks of a temper there are.
pub(crate) fn tasks() -> usize {
    number("TASKBROKER_TEST_TASKS", 1_000)
}

/// `TASKBROKER_TEST_CROWD`: how many workers one broker has at once.
pub(crate) fn crowd() -> u64 {
    number("TASKBROKER_TEST_CROWD", 500)
}

/// `TASKBROKER_TEST_CROWD_TASKS`: how many tasks they share.
pub(crate) fn crowd_tasks() -> usize {
    number("TASKBROKER_TEST_CROWD_TASKS", 10_000)
}

/// `TASKBROKER_TEST_DEAD_CLUSTER_S`: how long the cluster of the dead letters is away, in seconds.
pub(crate) fn dead_cluster() -> Duration {
    Duration::from_secs(number("TASKBROKER_TEST_DEAD_CLUSTER_S", 4))
}

/// `TASKBROKER_TEST_SEED`: what chance begins with. By default another one each time; it is said.
pub(crate) fn seed() -> u64 {
    number("TASKBROKER_TEST_SEED", u64::from(std::process::id()))
}

fn number<T: FromStr>(name: &str, default: T) -> T {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}
