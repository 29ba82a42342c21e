//! The limits of the gRPC port.

use std::time::Duration;

use crate::{signature::Secrets, tls::ServerTls};

/// How tasks reach workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// They ask for them.
    #[default]
    Pull,
    /// They are given them: asking is refused, reporting is not.
    Push,
}

/// Where to listen, and how much clients may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcOptions {
    /// The host name or IP address to listen on (`grpc_addr`).
    pub host: String,
    /// The port to listen on (`grpc_port`); 0 lets the system choose.
    pub port: u16,
    /// How tasks reach workers (`delivery_mode`).
    pub delivery: Delivery,
    /// Calls must be signed by one of these (`grpc_shared_secret`); none: by nobody.
    pub secrets: Secrets,
    /// Encrypts connections; none: they are in the clear.
    pub tls: Option<ServerTls>,
    /// The largest request, in bytes (`grpc_max_request_size`); a larger one is answered `OUT_OF_RANGE`, or, where calls
    /// are signed, `RESOURCE_EXHAUSTED`. 4 MiB, as in the existing system: requests hold ids and statuses, no payloads.
    pub request_bytes_max: usize,
    /// What the bodies of calls that are not verified yet may take together, in bytes, and a connection a quarter of it;
    /// four of the largest requests, if that is more. Those that come slowest give way first. 64 MiB: far more than signed
    /// calls have on their way, and a bound on what strangers can take.
    pub unverified_bytes_max: usize,
    /// How many connections are open at once; further ones wait to be accepted. 4096: a few workers on each of many hosts.
    pub connections_max: usize,
    /// How many calls a connection may have under way; further ones wait at the client. 256: a worker has a few.
    pub calls_per_connection_max: u32,
    /// How many calls are worked on at once over all connections; further ones wait. 4096.
    pub calls_max: usize,
    /// How long a call may take, waiting included; after that it is answered `UNAVAILABLE`. 30 s, far beyond a slow disk.
    pub call_time_max: Duration,
    /// How long a connection may be silent before it is asked for a sign of life. 60 s.
    pub keepalive_interval: Duration,
    /// How long the sign of life may take before the connection is closed. 20 s.
    pub keepalive_timeout: Duration,
    /// After this long a connection is closed in good order, so that clients behind a balancer spread anew. Not by default.
    pub connection_age_max: Option<Duration>,
    /// How long calls under way may take to finish at shutdown before their connections are cut. 5 s, half of the
    /// time a shutdown may take.
    pub drain_time_max: Duration,
}

impl Default for GrpcOptions {
    fn default() -> Self {
        Self {
            host: "0.0.0.0".to_owned(),
            port: 50051,
            delivery: Delivery::default(),
            secrets: Secrets::default(),
            tls: None,
            request_bytes_max: 4 * 1024 * 1024,
            unverified_bytes_max: 64 * 1024 * 1024,
            connections_max: 4096,
            calls_per_connection_max: 256,
            calls_max: 4096,
            call_time_max: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(60),
            keepalive_timeout: Duration::from_secs(20),
            connection_age_max: None,
            drain_time_max: Duration::from_secs(5),
        }
    }
}
