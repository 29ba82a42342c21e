//! A broker's HTTP port: probes and metrics.

use std::{str::FromStr, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const WITHIN: Duration = Duration::from_secs(5);

/// What `/metrics` said.
#[derive(Clone, Debug)]
pub struct Metrics(Vec<(String, f64)>);

impl Metrics {
    /// Of the broker whose HTTP port on this machine is this.
    pub async fn of(port: u16) -> Result<Self> {
        let (_, body) = get(port, "/metrics").await?;
        Ok(Self::parse(&body))
    }

    fn parse(text: &str) -> Self {
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), f64::from_str(value).ok()?))
        };
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// The sum over all label sets of a metric; 0 where there is none.
    pub fn sum(&self, name: &str) -> f64 {
        self.of_labels(name, &[])
    }

    /// The sum over the label sets of a metric that hold all of these `key="value"`.
    pub fn of_labels(&self, name: &str, labels: &[&str]) -> f64 {
        let fits = |sample: &str| match sample.split_once('{') {
            Some((found, rest)) => found == name && labels.iter().all(|label| rest.contains(label)),
            None => sample == name && labels.is_empty(),
        };
        self.0.iter().filter(|(sample, _)| fits(sample)).map(|(_, value)| value).sum()
    }

    /// How many activations are in flight.
    pub fn in_flight(&self) -> f64 {
        self.sum("taskbroker_in_flight")
    }

    /// How many activations this has happened to: `completed`, `expired` and so on.
    pub fn activations(&self, event: &str) -> f64 {
        self.of_labels("taskbroker_activations_total", &[&format!("event=\"{event}\"")])
    }

    /// How many activations stand in this state: `pending`, `failed` and so on.
    pub fn depth(&self, state: &str) -> f64 {
        self.of_labels("taskbroker_depth", &[&format!("state=\"{state}\"")])
    }

    /// What conservation misses: 0 unless something was lost or made up.
    pub fn imbalance(&self) -> f64 {
        self.sum("taskbroker_conservation_imbalance")
    }
}

/// Asks an HTTP port on this machine for a path. A status and a body.
pub async fn get(port: u16, path: &str) -> Result<(u16, String)> {
    timeout(WITHIN, exchange(port, path)).await.with_context(|| format!("{path} was not answered in {WITHIN:?}"))?
}

async fn exchange(port: u16, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).context("no HTTP status")?.parse()?;
    Ok((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_labels() {
        let text = "# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{x=\"2\"} 4\nab 9\nb 5\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.sum("a"), 7.0);
        assert_eq!(metrics.of_labels("a", &["x=\"1\""]), 3.0);
        assert_eq!(metrics.sum("b"), 5.0);
        assert_eq!(metrics.sum("c"), 0.0);
    }
}
