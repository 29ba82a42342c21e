//! Certificates and keys: read from files at start, so that what is wrong with them is told then.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

/// How long a handshake may take before the connection is closed. 10 s, as browsers allow.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// How the server shows who it is, and whether clients must. PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// Our certificate, with those between it and its authority (`grpc_tls_certificate`).
    pub certificate: PathBuf,
    /// Its key (`grpc_tls_key`).
    pub key: PathBuf,
    /// The authorities of clients; with them every client must show a certificate (`grpc_tls_client_ca`).
    pub client_ca: Option<PathBuf>,
}

/// Whom connections to workers trust, and how they show who we are. PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// The authorities of workers (`push.tls_ca`); none: the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key (`push.tls_certificate`, `push.tls_key`), where workers ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Certificates or keys cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{key}: cannot read {}: {reason}", path.display())]
    Unreadable {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// What they hold does not serve.
    #[error("{keys}: no PEM file, or certificate and key do not belong together: {reason}")]
    Unusable {
        /// The settings.
        keys: &'static str,
        /// Why.
        reason: String,
    },
}

impl ServerTls {
    pub(crate) const KEYS: &str = "grpc_tls_certificate, grpc_tls_key, grpc_tls_client_ca";

    pub(crate) fn read(&self) -> Result<ServerTlsConfig, TlsError> {
        let certificate = read("grpc_tls_certificate", &self.certificate)?;
        let key = read("grpc_tls_key", &self.key)?;
        let config = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key)).timeout(HANDSHAKE_TIME_MAX);
        match &self.client_ca {
            Some(path) => Ok(config.client_ca_root(Certificate::from_pem(read("grpc_tls_client_ca", path)?))),
            None => Ok(config),
        }
    }
}

impl ClientTls {
    pub(crate) const KEYS: &str = "push.tls_ca, push.tls_certificate, push.tls_key";

    pub(crate) fn read(&self) -> Result<ClientTlsConfig, TlsError> {
        let config = ClientTlsConfig::new().timeout(HANDSHAKE_TIME_MAX);
        let config = match &self.ca {
            Some(path) => config.ca_certificate(authorities("push.tls_ca", path)?),
            None => config.with_native_roots(),
        };
        let Some((certificate, key)) = &self.identity else { return Ok(config) };
        let (certificate, key) = (read("push.tls_certificate", certificate)?, read("push.tls_key", key)?);
        Ok(config.identity(Identity::from_pem(certificate, key)))
    }
}

/// A client accepts a file without a single certificate, and would then trust nobody.
fn authorities(key: &'static str, path: &Path) -> Result<Certificate, TlsError> {
    let pem = read(key, path)?;
    match pem.windows(BEGIN.len()).any(|window| window == BEGIN) {
        true => Ok(Certificate::from_pem(pem)),
        false => Err(TlsError::Unreadable { key, path: path.into(), reason: "it holds no PEM certificate".into() }),
    }
}

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Unreadable { key, path: path.into(), reason: error.to_string() })
}

/// Why tonic cannot use them: its own message says only where.
pub(crate) fn unusable(keys: &'static str, error: &tonic::transport::Error) -> TlsError {
    TlsError::Unusable { keys, reason: root_cause(error) }
}

/// The innermost reason of an error.
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}
