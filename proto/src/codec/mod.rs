//! What the broker reads from an activation's bytes, and the retry it composes of them. Arguments are never looked into;
//! everything else is checked as strictly as the strictest worker would, so that what is admitted can also be read.
//!
//! # What is refused
//! Empty payloads; bytes that are not protobuf, also within headers, retry state and timestamp; text that is not UTF-8;
//! known fields of another wire type; ids that are missing; ids and names longer than their limit or with a NUL (which
//! text columns cannot hold); an unknown `on_attempts_exceeded`.
//!
//! # What is taken as it is
//! An empty or missing application, namespace or task name; a missing `retry_state`, `headers` or arguments; unknown
//! fields. Absurd numbers are cut: see [`RUN_LIMIT_MAX`] and [`Codec::new`].

mod envelope;
mod raw;
mod retry;
mod terms;

use std::time::Duration;

use bytes::Bytes;
use taskbroker_domain::{
    activation::{Activation, ActivationId, ID_MAX_BYTES, PartitionId, RetryWish},
    ports::{
        codec::{ActivationCodec, Retry, Undecodable},
        source::Record,
    },
    rules::Selector,
    time::Timestamp,
};

use self::envelope::Envelope;
pub use self::raw::{RawCodec, RawTask};
pub(crate) use self::retry::proto_timestamp;
use crate::{
    MARK_HEADER, arguments,
    routes::{Names, Routes},
};

/// The longest run limit. The existing system wraps beyond 68 years; a lease that outlives a month is a mistake in the
/// unit, and its task would come back from a lost worker no sooner.
pub const RUN_LIMIT_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// The longest application, namespace or task name, in bytes. Module paths are far shorter.
pub const NAME_MAX_BYTES: usize = 1024;

/// The default of [`Codec::new`]'s argument, the existing system's.
pub const DELAY_MAX_DEFAULT: Duration = Duration::from_secs(3600);

/// Reads and composes activations.
#[derive(Debug)]
pub struct Codec {
    delay_max: Duration,
    routes: Routes,
}

impl Codec {
    /// A codec that cuts delays to `delay_max`, counted from `received_at` and, should that lie in the future, from now.
    pub fn new(delay_max: Duration) -> Self {
        Self { delay_max, routes: Routes::default() }
    }

    /// The activation with what a worker wished for its retry written into it, as the existing system keeps it.
    pub fn with_wish(payload: &Bytes, wish: RetryWish) -> Result<Bytes, Undecodable> {
        retry::with_wish(payload, wish)
    }
}

impl Default for Codec {
    fn default() -> Self {
        Self::new(DELAY_MAX_DEFAULT)
    }
}

impl ActivationCodec for Codec {
    fn decode(&self, record: &Record, _: &PartitionId, now: Timestamp) -> Result<Activation, Undecodable> {
        let envelope = Envelope::read(&record.payload)?;
        let received_at = terms::received_at(&envelope).or(record.timestamp).unwrap_or(now);
        Ok(Activation {
            id: ActivationId::new(envelope.id),
            route: self.routes.get(Names {
                application: envelope.application,
                namespace: envelope.namespace,
                task_name: envelope.task_name,
            }),
            terms: terms::terms(&envelope, received_at, now, self.delay_max),
            received_at,
            marked: record.headers.iter().any(|(name, _)| name == MARK_HEADER),
            payload: record.payload.clone(),
        })
    }

    fn selects(&self, payload: &Bytes, selector: &Selector) -> bool {
        arguments::match_any(payload, selector)
    }

    fn retry(&self, payload: &Bytes, retry: &Retry) -> Result<Bytes, Undecodable> {
        retry::compose(payload, retry)
    }
}

/// Whether an activation can have this id. A report for any other is a report for an unknown task.
pub fn is_possible_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= ID_MAX_BYTES && !id.contains('\0')
}
