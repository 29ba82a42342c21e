//! How tasks reach workers.

use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use crate::settings::value::{Setting, Written, quoted_if_needed, words};

/// How tasks reach workers.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Who begins.
    pub mode: DeliveryMode,
    /// Where the workers of each application are pushed to; never empty.
    pub worker_map: BTreeMap<String, Endpoint>,
    /// How tasks are pushed.
    pub push: Push,
    /// How the existing system takes tasks from the store to be pushed.
    pub fetch: Fetch,
}

/// Who begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryMode {
    /// Workers ask.
    Pull,
    /// The broker calls.
    Push,
}

words!(DeliveryMode { "pull" => Pull, "push" => Push });

/// Where the workers of an application are: `http://` or `https://`, a host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl Setting for Endpoint {
    fn read(written: &Written) -> Result<Self, String> {
        const EXPECTED: &str =
            "expected http://host:port or https://host:port, without a user's name and without a path";
        let text = String::read(written)?;
        let authority = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let authority = authority.ok_or(EXPECTED)?.trim_end_matches('/');
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                port.parse::<u16>().ok().filter(|port| *port > 0).ok_or(EXPECTED)?;
                host
            }
            _ => authority,
        };
        let wrong = |c: char| c.is_whitespace() || c.is_control() || "@/?#\\".contains(c);
        if host.is_empty() || host.contains(wrong) { Err(EXPECTED.to_owned()) } else { Ok(Self(text)) }
    }

    fn placeholder() -> Self {
        Self("http://127.0.0.1:50052".to_owned())
    }

    fn write(&self) -> String {
        quoted_if_needed(&self.0)
    }
}

/// How tasks are pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// How many connections are made to each address; with the queue, how many pushes to one application may be under way.
    pub threads: NonZeroUsize,
    /// How long one may take; not zero.
    pub timeout: Duration,
    /// How many more may be under way than there are threads.
    pub queue_size: NonZeroUsize,
    /// Not zero; has no effect.
    pub queue_timeout: Duration,
    /// Has no effect, and neither have the three below: that a worker has taken a task is written together with others anyway.
    pub update_batched: bool,
    /// At least one.
    pub update_batch_length: NonZeroUsize,
    /// At least one; has no effect in the existing system either.
    pub update_batch_size: NonZeroUsize,
    /// May be zero.
    pub update_batch_interval: Duration,
    /// The largest message to or from a worker.
    pub max_message_bytes: NonZeroUsize,
    /// PEM file of the authorities that sign workers' certificates; `None`: the system's.
    pub tls_ca: Option<PathBuf>,
    /// Who we are to workers.
    pub tls_client: Option<PushCertificate>,
}

/// A certificate of ours that we show to workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushCertificate {
    /// PEM file of the certificate.
    pub certificate: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
}

/// How the existing system takes tasks from the store to be pushed. Without effect here: a task is offered as soon as there is
/// room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// A power of two, at most 256.
    pub threads: NonZeroU32,
    /// How long to wait when there was nothing.
    pub backoff: Duration,
    /// How many at once.
    pub batch_length: NonZeroUsize,
}
