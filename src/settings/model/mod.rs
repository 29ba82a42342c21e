//! The settings as the program uses them: typed, within bounds, checked against each other. What each means and why it has
//! its default stands in `config/default.yaml`.

mod delivery;
mod grpc;
mod kafka;
mod store;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

pub use delivery::*;
pub use grpc::*;
pub use kafka::*;
pub use store::*;

use super::value::words;

/// All settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Logs.
    pub log: Log,
    /// Where workers reach the broker; `None`: nowhere.
    pub grpc_listen: Option<SocketAddr>,
    /// Who may call there, and how.
    pub grpc: Grpc,
    /// Where metrics and probes are served; `None`: nowhere.
    pub http_listen: Option<SocketAddr>,
    /// Metrics that are sent.
    pub metrics: Metrics,
    /// Traces of tasks.
    pub traces: Traces,
    /// Health says that all is well, whatever is.
    pub health_forced: bool,
    /// Kafka.
    pub kafka: Kafka,
    /// How tasks reach workers.
    pub delivery: Delivery,
    /// The longest delay of a task that is honoured.
    pub max_delay: Duration,
    /// What an activation without an application belongs to; `None`: to nobody.
    pub default_application: Option<String>,
    /// The file of rules that are reloaded while the broker runs.
    pub rules: Option<PathBuf>,
    /// How long after a start no deadline of a task found in the store counts as missed.
    pub quiet_after_start: Duration,
    /// How many canary tasks each application of the worker map gets at start.
    pub canary_tasks: u32,
    /// The store and its limits.
    pub store: Store,
    /// How long an orderly stop may take; at most 10 s.
    pub shutdown_timeout: Duration,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Directives of tracing's `EnvFilter`; not yet parsed.
    pub filter: String,
    /// How.
    pub format: LogFormat,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

words!(LogFormat { "text" => Text, "json" => Json });

/// Metrics that are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// `host:port` of a DogStatsD agent, by UDP; `None`: nothing is sent.
    pub statsd_address: Option<String>,
    /// Tags that every metric carries.
    pub default_tags: BTreeMap<String, String>,
}

/// Traces of tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct Traces {
    /// The OpenTelemetry collector, by OTLP over gRPC; `None`: there are none.
    pub endpoint: Option<Endpoint>,
    /// Of which share of the tasks, 0 to 1.
    pub sample_rate: f64,
}
