//! The recorder of metrics, in Prometheus's form.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::statsd::{Fanout, Sender, Series, StatsdOptions};

/// Access to what was recorded; clones share it.
#[derive(Clone)]
pub struct Metrics {
    prometheus: PrometheusHandle,
    statsd: Option<Arc<Sender>>,
    refresh: Arc<OnceLock<Refresh>>,
}

type Refresh = Box<dyn Fn() + Send + Sync>;

/// The recorder could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be recorded: {0}")]
pub struct MetricsError(String);

/// How often recorded samples are folded together, scraped or not: they take memory until then.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

impl Metrics {
    /// Installs the recorder for the whole process. To be called once, before anything asks for a metric's handle:
    /// handles that were made earlier record nothing. With `statsd`, metrics are sent as well, while [`Metrics::run`] runs.
    pub fn install(version: &'static str, statsd: Option<StatsdOptions>) -> Result<Self, MetricsError> {
        let recorder = recorder().map_err(|e| MetricsError(e.to_string()))?;
        let prometheus = recorder.handle();
        let statsd = match statsd {
            None => {
                ::metrics::set_global_recorder(recorder).map_err(|e| MetricsError(e.to_string()))?;
                None
            }
            Some(options) => {
                let series = Arc::new(Series::atomic());
                let both = Fanout::new(recorder, Arc::clone(&series));
                ::metrics::set_global_recorder(both).map_err(|e| MetricsError(e.to_string()))?;
                Some(Arc::new(Sender::new(options, series)))
            }
        };
        ::metrics::describe_gauge!(BUILD_INFO, "Always 1; the label says which version runs");
        ::metrics::gauge!(BUILD_INFO, "version" => version).set(1.0);
        Ok(Self { prometheus, statsd, refresh: Arc::default() })
    }

    /// Calls this before each scrape, so that gauges are those of the moment. It must be quick. The first one given stays.
    pub fn refresh_with(&self, refresh: impl Fn() + Send + Sync + 'static) {
        self.refresh.set(Box::new(refresh)).ok();
    }

    /// The metrics as text for a scraper.
    pub fn render(&self) -> String {
        self.refresh();
        self.prometheus.render()
    }

    /// Keeps what was recorded small, watches the runtime, and sends metrics where that is wanted; until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        match &self.statsd {
            Some(statsd) => {
                tokio::join!(self.upkeep(&shutdown), statsd.run(|| self.refresh(), shutdown.clone()));
            }
            None => self.upkeep(&shutdown).await,
        }
    }

    fn refresh(&self) {
        show_runtime();
        if let Some(refresh) = self.refresh.get() {
            refresh();
        }
    }

    async fn upkeep(&self, shutdown: &CancellationToken) {
        let mut ticks = interval(UPKEEP_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            self.prometheus.run_upkeep();
        }
    }
}

/// How busy the asynchronous runtime is; nothing where there is none.
#[expect(clippy::cast_precision_loss, reason = "no runtime has 2^53 tasks")]
fn show_runtime() {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let runtime = runtime.metrics();
    ::metrics::gauge!("taskbroker_runtime_workers").set(runtime.num_workers() as f64);
    ::metrics::gauge!("taskbroker_runtime_tasks").set(runtime.num_alive_tasks() as f64);
    ::metrics::gauge!("taskbroker_runtime_queue_depth").set(runtime.global_queue_depth() as f64);
}

const BUILD_INFO: &str = "taskbroker_build_info";

/// From a claim in memory to a time-out.
const SECONDS: [f64; 19] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0, 60.0,
];

/// From an empty task to the largest Kafka message anybody allows.
const BYTES: [f64; 10] =
    [256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0];

/// Everything else is a number of things: from one to a full batch.
const COUNTS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16_384.0];

fn recorder() -> Result<PrometheusRecorder, BuildError> {
    let builder = PrometheusBuilder::new()
        .set_buckets(&COUNTS)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES)?;
    Ok(builder.build_recorder())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_have_buckets_that_suit_their_unit() {
        let recorder = recorder().unwrap();
        ::metrics::with_local_recorder(&recorder, || {
            ::metrics::histogram!("a_seconds").record(0.0003);
            ::metrics::histogram!("a_bytes").record(500.0);
            ::metrics::histogram!("a_rows").record(3.0);
        });
        let rendered = recorder.handle().render();
        for line in [
            r#"a_seconds_bucket{le="0.00025"} 0"#,
            r#"a_seconds_bucket{le="0.0005"} 1"#,
            r#"a_bytes_bucket{le="1024"} 1"#,
            r#"a_rows_bucket{le="2"} 0"#,
            r#"a_rows_bucket{le="4"} 1"#,
        ] {
            assert!(rendered.contains(line), "{line} is missing in:\n{rendered}");
        }
    }

    #[test]
    fn the_version_is_a_metric_the_recorder_is_installed_once_and_a_scrape_refreshes() {
        let metrics = Metrics::install("1.2.3", None).unwrap();
        assert!(metrics.render().contains(r#"taskbroker_build_info{version="1.2.3"} 1"#));
        assert!(Metrics::install("1.2.3", None).is_err());
        let scrapes = std::sync::atomic::AtomicU32::new(0);
        metrics.refresh_with(move || {
            let scrape = scrapes.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            ::metrics::gauge!("a_scrape").set(scrape);
        });
        assert!(metrics.render().contains("a_scrape 1"));
        assert!(metrics.render().contains("a_scrape 2"));
    }
}
