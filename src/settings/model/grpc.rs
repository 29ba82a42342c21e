//! Who may call the broker, and how.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use secrecy::SecretString;

/// What holds for the port that workers call.
#[derive(Clone, Debug)]
pub struct Grpc {
    /// The secrets that a caller may have signed with; none: nobody needs to sign. The first one signs what is pushed.
    pub shared_secrets: Vec<SecretString>,
    /// TLS; `None`: callers speak plainly.
    pub tls: Option<ServerTls>,
    /// The largest request that is read.
    pub max_request_bytes: NonZeroUsize,
    /// Has no effect: every report is durable before it is answered, many by one commit.
    pub batch_status_updates: bool,
    /// How many such reports the existing system writes at once.
    pub status_update_batch_size: NonZeroUsize,
    /// How long it lets them wait; at least a millisecond.
    pub status_update_interval: Duration,
}

/// Who we are to callers, and who they must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// PEM file of our certificate, its chain after it.
    pub certificate: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
    /// PEM file of the authorities one of which must have signed a caller's certificate; `None`: callers need none.
    pub client_ca: Option<PathBuf>,
}
