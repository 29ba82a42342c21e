//! Where workers are, and how they are called.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use http::Uri;
use tonic::transport::{self, ClientTlsConfig};

use super::endpoint::Endpoint;
use crate::{
    signature::Secrets,
    tls::{ClientTls, TlsError, root_cause, unusable},
};

/// How long connecting by TCP may take: less than a call or a probe, so that the one that wanted it can say what is wrong. A
/// handshake has a limit of its own, and what is not done when a call gives up goes on for the next.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(4);
/// What of a call's time may pass in silence before a sign of life is asked for, and how long that may take: so a connection to
/// a host that vanished is given up before the call is, and the next one makes another. Not sooner, and not without a call:
/// servers take frequent signs for an attack.
const SILENCE: (u32, Duration) = (2, Duration::from_secs(10));
const SIGN_OF_LIFE: u32 = 4;

/// Where workers are, and how they are called.
#[derive(Clone, Debug)]
pub struct PushOptions {
    /// The address of each application's workers, `http://host:port` or `https://host:port` (`worker_map`).
    pub workers: BTreeMap<String, String>,
    /// How many connections are made to each address (`push.threads`): behind a balancer each may lead to another worker.
    pub connections: usize,
    /// How long a call may take, connecting included (`push.timeout`).
    pub timeout: Duration,
    /// The largest request, in bytes (`grpc_max_message_size`).
    pub message_bytes_max: usize,
    /// The first one signs (`grpc_shared_secret`).
    pub secrets: Secrets,
    /// For `https` addresses.
    pub tls: ClientTls,
}

/// The workers cannot be called as configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// An address is none.
    #[error("worker_map.{application}: {address:?} is no address like http://host:port: {reason}")]
    Address {
        /// Whose.
        application: String,
        /// As configured.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificates or keys cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl PushOptions {
    /// The endpoint of each application.
    pub(super) fn endpoints(&self) -> Result<HashMap<String, Arc<Endpoint>>, PushError> {
        let secure = self.workers.values().any(|address| is_secure(address));
        let tls = if secure { Some(self.tls.read()?) } else { None };
        let mut by_address: HashMap<&str, Arc<Endpoint>> = HashMap::new();
        let mut by_application = HashMap::new();
        for (application, address) in &self.workers {
            let endpoint = match by_address.get(address.as_str()) {
                Some(known) => Arc::clone(known),
                None => Arc::new(self.endpoint(application, address, tls.as_ref())?),
            };
            by_address.insert(address, Arc::clone(&endpoint));
            by_application.insert(application.clone(), endpoint);
        }
        Ok(by_application)
    }

    fn endpoint(&self, application: &str, address: &str, tls: Option<&ClientTlsConfig>) -> Result<Endpoint, PushError> {
        let wrong = |reason: String| PushError::Address {
            application: application.to_owned(),
            address: address.to_owned(),
            reason,
        };
        let target = transport::Endpoint::from_shared(address.to_owned()).map_err(|error| wrong(root_cause(&error)))?;
        if !is_address(target.uri()) {
            return Err(wrong("scheme, host or port is missing or wrong".to_owned()));
        }
        let target = target
            .http2_keep_alive_interval((self.timeout / SILENCE.0).max(SILENCE.1))
            .keep_alive_timeout(self.timeout / SIGN_OF_LIFE);
        let target = match tls.filter(|_| is_secure(address)) {
            Some(tls) => target.tls_config(tls.clone()).map_err(|error| unusable(ClientTls::KEYS, &error))?,
            None => target,
        };
        let connect_time_max = CONNECT_TIME_MAX.min(self.timeout / 2);
        Ok(Endpoint::new(&target, self.connections, connect_time_max, self.secrets.clone()))
    }
}

fn is_address(uri: &Uri) -> bool {
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else { return false };
    let port = uri.port().is_some() || authority.as_str().ends_with(host);
    known && !host.is_empty() && port
}

fn is_secure(address: &str) -> bool {
    address.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
}
