//! Names and TCP.

use std::{
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::Duration,
};

use super::Report;
use crate::deadline::Deadline;

/// Where Kafka is when an address has no port.
const PORT: u16 = 9092;
/// How long one connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// Resolves the bootstrap servers and connects to each. Returns whether one of them can be reached.
pub(super) fn reach(servers: &str, deadline: Deadline, report: &Report) -> bool {
    let mut reached = false;
    for server in servers.split(',').map(str::trim).filter(|server| !server.is_empty()) {
        let server = server.split_once("://").map_or(server, |(_, server)| server);
        match resolve(server) {
            Err(reason) => report.bad("names", format!("{server} cannot be resolved: {reason}")),
            Ok(addresses) => {
                report.good("names", format!("{server} is {}", list(&addresses)));
                match connect(&addresses, deadline) {
                    Ok(address) => {
                        report.good("TCP", format!("connected to {address}"));
                        reached = true;
                    }
                    Err(reason) => report.bad("TCP", format!("{server} cannot be reached: {reason}")),
                }
            }
        }
    }
    reached
}

/// Whether `host:port`, as a cluster names one of its brokers, can be reached from here.
pub(super) fn is_reachable(host: &str, port: u16, deadline: Deadline) -> Result<(), String> {
    let addresses = (host, port).to_socket_addrs().map_err(|error| error.to_string())?.collect::<Vec<_>>();
    connect(&addresses, deadline).map(drop)
}

fn resolve(server: &str) -> Result<Vec<SocketAddr>, String> {
    let has_port = server.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let resolved = if has_port { server.to_socket_addrs() } else { (server, PORT).to_socket_addrs() };
    match resolved.map(Iterator::collect::<Vec<_>>) {
        Ok(addresses) if addresses.is_empty() => Err("the name has no address".to_owned()),
        Ok(addresses) => Ok(addresses),
        Err(error) => Err(error.to_string()),
    }
}

/// Connects to the first that answers; the error is that of the last.
fn connect(addresses: &[SocketAddr], deadline: Deadline) -> Result<SocketAddr, String> {
    let mut reason = "the name has no address".to_owned();
    for address in addresses {
        let limit = deadline.left_of(CONNECT_LIMIT).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(address, limit) {
            Ok(_) => return Ok(*address),
            Err(error) => reason = format!("{address}: {error}"),
        }
    }
    Err(reason)
}

fn list(addresses: &[SocketAddr]) -> String {
    let mut hosts: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
    hosts.dedup();
    hosts.join(", ")
}
