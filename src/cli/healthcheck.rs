//! `taskbroker healthcheck`: asks a running broker whether it lives, for images without a shell or a web client.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{FAILED, complain};

/// A broker that takes longer has no time for probes.
const WITHIN: Duration = Duration::from_secs(3);
/// More than any answer is long.
const ANSWER_MAX: u64 = 65_536;

/// Ends with 0 if `/healthz` at this address answers 200, else with 1 and the reasons.
pub(super) fn healthcheck(address: SocketAddr) -> ExitCode {
    match ask(address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(FAILED)
        }
    }
}

/// Where the broker beside this process serves probes: on loopback, at the port that the environment names, else the default.
/// A value that is no port (Kubernetes makes such for a Service named `taskbroker-http`) counts as none.
pub(super) fn default_address(http_port: Option<&str>) -> SocketAddr {
    let port = http_port.and_then(|port| port.trim().parse().ok()).unwrap_or(DEFAULT_PORT);
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// `http_port` in `config/default.yaml`.
const DEFAULT_PORT: u16 = 9464;

fn ask(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, WITHIN)
        .with_context(|| format!("no broker serves probes at {address} (http_addr, http_port)"))?;
    stream.set_read_timeout(Some(WITHIN))?;
    stream.set_write_timeout(Some(WITHIN))?;
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).with_context(|| format!("{address} does not answer"))?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{address} speaks no HTTP"))?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(()),
        code => bail!("{address} answers {}: {}", code.unwrap_or("nothing"), body.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_the_environments_or_the_default() {
        let defaults = include_str!("../../config/default.yaml");
        assert!(defaults.contains(&format!("\nhttp_port: {DEFAULT_PORT}\n")));
        assert_eq!(default_address(None).port(), DEFAULT_PORT);
        assert_eq!(default_address(Some("9000")).port(), 9000);
        assert_eq!(default_address(Some("tcp://10.0.0.1:9464")).port(), DEFAULT_PORT);
    }
}
