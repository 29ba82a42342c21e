//! Settings through their public door: what is read from where, what is refused and how it is said.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "settings/checks.rs"]
mod checks;
#[path = "settings/delivery_and_store.rs"]
mod delivery_and_store;
#[path = "settings/deployments.rs"]
mod deployments;
#[path = "settings/errors.rs"]
mod errors;
#[path = "settings/existing.rs"]
mod existing;
#[path = "settings/kafka.rs"]
mod kafka;
#[path = "settings/keys.rs"]
mod keys;
#[path = "settings/properties.rs"]
mod properties;
#[path = "settings/sources.rs"]
mod sources;

use taskbroker::settings::{Loaded, Sources, WarningKind, load};

/// Loads YAML alone.
fn yaml(text: &str) -> Loaded {
    load(&Sources::defaults().with_yaml("test.yaml", text)).unwrap_or_else(|error| panic!("{error}"))
}

/// Loads environment variables alone.
fn environment(variables: &[(&str, &str)]) -> Loaded {
    let sources = Sources::defaults().with_environment(variables.iter().copied());
    load(&sources).unwrap_or_else(|error| panic!("{error}"))
}

/// What is wrong with this YAML, a line each.
fn yaml_problems(text: &str) -> Vec<String> {
    problems(&Sources::defaults().with_yaml("test.yaml", text))
}

/// What is wrong with these variables, a line each.
fn environment_problems(variables: &[(&str, &str)]) -> Vec<String> {
    problems(&Sources::defaults().with_environment(variables.iter().copied()))
}

fn problems(sources: &Sources) -> Vec<String> {
    let error = load(sources).expect_err("these settings are to be refused");
    error.problems.iter().map(ToString::to_string).collect()
}

/// The warnings of one kind, a line each.
fn warnings(loaded: &Loaded, kind: WarningKind) -> Vec<String> {
    loaded.warnings.iter().filter(|warning| warning.kind == kind).map(ToString::to_string).collect()
}

/// Both maps, with room for more lines in each: the topic `tasks` and the cluster `main`.
const MAPS: &str = "
kafka_clusters: {main: {address: 'kafka:9092'}}
kafka_topics:
  taskworker-dlq: {cluster: main, produce_only: true}
  tasks: {cluster: main, consumer_group: workers}
";
