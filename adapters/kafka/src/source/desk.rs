//! What the threads of a source share: its settings, what comes in, what goes out, how it stands.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

use taskbroker_domain::ports::source::{AssignmentId, GroupCommit, Start};
use tokio::sync::oneshot;

use super::{inbox::Inbox, survey::Findings, watch::Sight};
use crate::{
    native::{Failure, Waker},
    options::KafkaSourceOptions,
};

/// What the polling thread is told.
pub(super) enum Command {
    /// Read a partition from here.
    Start(Start),
    /// Commit these.
    Commit(Vec<GroupCommit>),
    /// A revocation's barrier was released.
    Release {
        /// Which.
        revocation: u64,
        /// To be committed before the partitions go.
        positions: Vec<GroupCommit>,
    },
    /// A survey was answered.
    Surveyed(Findings),
    /// The watch has looked.
    Sighted(Sight),
    /// Commit these, leave, and say when it is done.
    Close {
        /// The last positions.
        positions: Vec<GroupCommit>,
        /// To be told.
        done: oneshot::Sender<()>,
    },
    /// Nobody listens any more.
    Abandon,
}

/// How a source stands with Kafka.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceStatus {
    /// Whether Kafka answers; `None` until that is known.
    pub connected: Option<bool>,
    /// Whether the topic exists.
    pub topic: TopicStatus,
    /// The partitions assigned to this member.
    pub assigned: Vec<i32>,
    /// How many records wait in the adapter for room.
    pub waiting_records: usize,
    /// How often an assignment was lost.
    pub assignments_lost: u64,
    /// The last thing that went wrong, in words.
    pub last_trouble: Option<String>,
}

/// Whether a topic exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TopicStatus {
    /// Not known yet.
    #[default]
    Unknown,
    /// It exists.
    Present,
    /// It does not exist: it is waited for.
    Missing,
}

/// What is shared.
pub(super) struct Desk {
    pub(super) options: KafkaSourceOptions,
    pub(super) topic: Arc<str>,
    pub(super) group: Arc<str>,
    pub(super) inbox: Inbox,
    pub(super) waker: Waker,
    commands: Mutex<mpsc::Sender<Command>>,
    numbers: AtomicU64,
    status: Mutex<SourceStatus>,
    /// The rights that were said to be missing.
    lacking: Mutex<BTreeSet<&'static str>>,
}

impl Desk {
    pub(super) fn new(options: KafkaSourceOptions, commands: mpsc::Sender<Command>, waker: Waker) -> Self {
        Self {
            topic: options.topic.as_str().into(),
            group: options.group.as_str().into(),
            inbox: Inbox::new(options.batch_max.get(), waker.clone()),
            options,
            waker,
            commands: Mutex::new(commands),
            numbers: AtomicU64::new(0),
            status: Mutex::default(),
            lacking: Mutex::default(),
        }
    }

    /// Tells the polling thread something. Once that has ended nothing happens any more.
    pub(super) fn post(&self, command: Command) {
        let sent = self.commands.lock().unwrap_or_else(PoisonError::into_inner).send(command);
        drop(sent);
        self.waker.wake();
    }

    /// A number larger than all before.
    pub(super) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A new assignment's number.
    pub(super) fn next_assignment(&self) -> AssignmentId {
        AssignmentId(self.next_number())
    }

    pub(super) fn status(&self) -> SourceStatus {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        SourceStatus { waiting_records: self.inbox.waiting(), ..status }
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut SourceStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Says once which right we lack; it may be granted at any time.
    pub(super) fn refused(&self, failure: &Failure) {
        let Some(lacking) = failure.lacking_right() else { return };
        let reason = failure.to_string();
        if self.lacking.lock().unwrap_or_else(PoisonError::into_inner).insert(lacking) {
            let (topic, group, cluster) = (&self.topic, &self.group, &self.options.cluster.address);
            tracing::warn!(
                %topic,
                %group,
                cluster,
                lacking,
                reason,
                "Kafka refuses the topic: it is not read before that is mended"
            );
        }
        self.update(|status| status.last_trouble = Some(reason));
    }

    /// Positions and log were learned: what is refused from here on is said again.
    pub(super) fn admitted(&self) {
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
