//! The recorder of metrics, in Prometheus's form.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// Access to what was recorded; clones share it.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

/// The recorder could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be recorded: {0}")]
pub struct MetricsError(String);

impl Metrics {
    /// Installs the recorder for the whole process. To be called once, before anything asks for a metric's handle:
    /// handles that were made earlier record nothing.
    pub fn install(version: &'static str) -> Result<Self, MetricsError> {
        let recorder = recorder().map_err(|e| MetricsError(e.to_string()))?;
        let handle = recorder.handle();
        ::metrics::set_global_recorder(recorder).map_err(|e| MetricsError(e.to_string()))?;
        ::metrics::describe_gauge!(BUILD_INFO, "Always 1; the label says which version runs");
        ::metrics::gauge!(BUILD_INFO, "version" => version).set(1.0);
        Ok(Self(handle))
    }

    /// The metrics as text for a scraper.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds recorded samples together. To be called every few seconds, scraped or not: samples take memory until then.
    /// [`HttpServer`](crate::HttpServer) does so while it serves.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
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
        let rendered = Metrics(recorder.handle()).render();
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
    fn the_version_is_a_metric_and_the_recorder_is_installed_once() {
        let metrics = Metrics::install("1.2.3").unwrap();
        assert!(metrics.render().contains(r#"taskbroker_build_info{version="1.2.3"} 1"#));
        metrics.upkeep();
        assert!(Metrics::install("1.2.3").is_err());
    }
}
