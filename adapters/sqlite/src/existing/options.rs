//! How a file is taken over.

use std::{fmt, sync::Arc, time::Duration};

use taskbroker_domain::{activation::Route, ports::codec::ActivationCodec};

/// How the existing system's file is taken over when the store is opened on one.
#[derive(Clone)]
pub struct TakeOver {
    /// Reads what its columns leave out: the attempt.
    pub codec: Arc<dyn ActivationCodec>,
    /// The log to which its partitions and offsets belong; none where that cannot be said. Then what it had stored and not
    /// committed is read again, and dropped only where its row is still here.
    pub log: Option<TakeOverLog>,
    /// What workers have stays with them for at least so long, so that their reports still count.
    pub report_grace: Duration,
    /// The file is kept beside the new one, under another name.
    pub keep_original: bool,
}

/// The log to which partitions and offsets belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakeOverLog {
    /// The topic that the existing system consumed.
    pub topic: Arc<str>,
    /// As a member of this group.
    pub group: Arc<str>,
    /// Rows of these routes may be of other (raw) topics, and say nothing about this one.
    pub except: Vec<Route>,
}

impl TakeOver {
    /// The existing system waits for a minute after its start before it looks at leases.
    pub const REPORT_GRACE: Duration = Duration::from_secs(60);

    /// The usual: leases hold for another minute, and the original is kept.
    pub fn new(codec: Arc<dyn ActivationCodec>, log: Option<TakeOverLog>) -> Self {
        Self { codec, log, report_grace: Self::REPORT_GRACE, keep_original: true }
    }
}

impl fmt::Debug for TakeOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TakeOver").field("log", &self.log).finish_non_exhaustive()
    }
}
