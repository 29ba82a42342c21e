//! Reads every setting, section by section.

mod delivery;
mod grpc;
mod store;

use std::{
    net::{IpAddr, SocketAddr},
    num::{NonZeroU64, NonZeroUsize},
    time::Duration,
};

use super::{
    kafka,
    model::{Log, Metrics, Settings, Traces},
    reader::Reader,
};

/// A message has at most this many bytes: gRPC counts them in 32 bits.
const MESSAGE_BYTES_MOST: usize = (1 << 31) - 1;

/// Reads all of them. `None` where Kafka's do not fit together; the findings say why.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Settings> {
    const SHUTDOWN_LEAST: Duration = Duration::from_millis(100);
    const SHUTDOWN_MOST: Duration = Duration::from_secs(10);
    // Ten years, which is as good as any.
    const DELAY_MOST_S: u64 = 10 * 366 * 86_400;
    let log = Log { filter: reader.read("log_filter"), format: reader.read("log_format") };
    let grpc_listen = listen(reader, "grpc_addr", "grpc_port");
    let grpc = grpc::read(reader);
    let http_listen = listen(reader, "http_addr", "http_port");
    let metrics = metrics(reader);
    let traces = traces(reader);
    let delivery = delivery::read(reader);
    let store = store::read(reader);
    let max_delay = Duration::from_secs(reader.read_within("max_delayed_task_allowed_sec", 0..=DELAY_MOST_S));
    let default_application = reader.optional("default_application");
    let rules = reader.optional("runtime_config_path");
    let quiet_after_start =
        Duration::from_secs(reader.read_within("upkeep_deadline_reset_skip_after_startup_sec", 0..=86_400));
    let canary_tasks = reader.read_within("canary_tasks", 0..=100_000);
    let health_forced = reader.read("health_check_killswitched");
    let shutdown_timeout = reader.read_within("shutdown_timeout", SHUTDOWN_LEAST..=SHUTDOWN_MOST);
    let kafka = kafka::read(reader)?;
    Some(Settings {
        log,
        grpc_listen,
        grpc,
        http_listen,
        metrics,
        traces,
        health_forced,
        kafka,
        delivery,
        max_delay,
        default_application,
        rules,
        quiet_after_start,
        canary_tasks,
        store,
        shutdown_timeout,
    })
}

fn listen(reader: &mut Reader<'_>, address: &str, port: &str) -> Option<SocketAddr> {
    let address: IpAddr = reader.read(address);
    let port: u16 = reader.read(port);
    (port != 0).then_some(SocketAddr::new(address, port))
}

fn metrics(reader: &mut Reader<'_>) -> Metrics {
    let statsd: Option<StatsdAddress> = reader.optional("statsd_addr");
    Metrics { statsd_address: statsd.map(|address| address.0), default_tags: reader.map("default_metrics_tags") }
}

fn traces(reader: &mut Reader<'_>) -> Traces {
    let rate: Option<Share> = reader.optional("traces_sample_rate");
    Traces { endpoint: reader.optional("traces_endpoint"), sample_rate: rate.map_or(0.0, |Share(rate)| rate) }
}

/// A part of a whole.
struct Share(f64);

impl super::value::Setting for Share {
    fn read(written: &super::value::Written) -> Result<Self, String> {
        let share = written.number().filter(|share| (0.0..=1.0).contains(share));
        share.map(Self).ok_or_else(|| "expected a number from 0 (none) to 1 (all), such as 0.01".to_owned())
    }

    fn placeholder() -> Self {
        Self(0.0)
    }

    fn write(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// `host:port`; the host may be a name.
struct StatsdAddress(String);

impl super::value::Setting for StatsdAddress {
    fn read(written: &super::value::Written) -> Result<Self, String> {
        let text = String::read(written)?;
        let port: Option<u16> =
            text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse().ok());
        match port {
            Some(port) if port > 0 => Ok(Self(text)),
            _ => Err("expected host:port such as 127.0.0.1:8126, or null to send nothing".to_owned()),
        }
    }

    fn placeholder() -> Self {
        Self(String::new())
    }

    fn write(&self) -> String {
        super::value::quoted_if_needed(&self.0)
    }
}

/// From 1 to `most`.
const fn up_to(most: usize) -> std::ops::RangeInclusive<NonZeroUsize> {
    NonZeroUsize::MIN..=NonZeroUsize::MIN.saturating_add(most - 1)
}

/// At least this many bytes.
const fn bytes_from(least: u32) -> std::ops::RangeInclusive<NonZeroU64> {
    NonZeroU64::MIN.saturating_add(least as u64 - 1)..=NonZeroU64::MAX
}
