//! What people and their tools see of the broker: logs ([`init_logs`], [`init_logs_to_file`]), metrics ([`Metrics`]), sent as well where that is wanted
//! ([`StatsdOptions`]), and the HTTP port ([`HttpServer`]) with `/metrics`, `/healthz` and `/readyz`, fed by a [`HealthState`].

mod health;
mod http;
mod logs;
mod metrics;
mod statsd;

pub use crate::{
    health::{Condition, HealthState},
    http::{HttpBindError, HttpOptions, HttpServer},
    logs::{LogError, LogFormat, LogGuard, LogOptions, RecentWarnings, Spans, init_logs, init_logs_to_file},
    metrics::{Metrics, MetricsError},
    statsd::StatsdOptions,
};
