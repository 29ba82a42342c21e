//! What a task is: its identity, its route, its terms and where it came from. The payload itself is opaque bytes.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use uuid::Uuid;

pub use crate::id::{ActivationId, ID_MAX_BYTES, IdText};
use crate::time::Timestamp;

/// Who runs a task: the application and namespace that ask for it, and the task's name. Shared by all activations of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The application whose workers run it; may be empty, as in the existing system.
    pub application: Box<str>,
    /// The namespace within the application.
    pub namespace: Box<str>,
    /// The task's name within the namespace.
    pub task_name: Box<str>,
}

impl Route {
    /// A route from its three names.
    pub fn new(application: &str, namespace: &str, task_name: &str) -> Self {
        Self { application: application.into(), namespace: namespace.into(), task_name: task_name.into() }
    }
}

/// What becomes of an activation that failed for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// It is removed and counted.
    #[default]
    Discard,
    /// It is published to the dead-letter topic, then removed.
    DeadLetter,
}

/// The conditions an activation runs under, fixed when it was produced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// How long one execution may take before it counts as lost (a grace period comes on top).
    pub run_limit: Duration,
    /// Not handed out after this moment.
    pub expires_at: Option<Timestamp>,
    /// Not handed out before this moment.
    pub delayed_until: Option<Timestamp>,
    /// Never handed out twice.
    pub at_most_once: bool,
    /// What becomes of it when it fails for good.
    pub on_failure: OnFailure,
    /// How many retries led to this activation (`retry_state.attempts`).
    pub attempt: u32,
}

/// What a worker asked of a retry, over what the activation itself says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RetryWish {
    /// The new `retry_state.max_attempts`.
    pub max_attempts: Option<u32>,
    /// The new `retry_state.delay_on_retry`, in seconds.
    pub delay_s: Option<u64>,
}

/// An activation as it comes in, decoded once at the edge.
#[derive(Clone, Debug)]
pub struct Activation {
    /// Its name.
    pub id: ActivationId,
    /// Who runs it.
    pub route: Arc<Route>,
    /// Its conditions.
    pub terms: Terms,
    /// When it was produced (its own word, else Kafka's timestamp).
    pub received_at: Timestamp,
    /// Marked by us as a retry or a forwarded copy: a copy of it is not admitted twice (rule 2 of the design).
    pub marked: bool,
    /// The activation as protobuf bytes, exactly as produced.
    pub payload: Bytes,
}

/// Kafka's UUID of a topic: a topic deleted and created again has another one. All zero where the cluster knows none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// Stands in a position until the first assignment says which log it is about: what is taken over from the existing
    /// system knows partitions by number alone. No cluster gives it (it is the last of all UUIDs, and not of version 4).
    pub const UNKNOWN: Self = Self([0xff; 16]);
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Uuid::from_bytes(self.0).hyphenated())
    }
}

/// The identity of a log that positions belong to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The topic's UUID.
    pub topic_id: TopicId,
    /// The consumer group that reads it.
    pub group: Arc<str>,
    /// The partition's number.
    pub partition: i32,
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// The ledger's short name for a [`PartitionId`]; journalled, never reused within a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// Where an activation was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The partition.
    pub slot: Slot,
    /// The offset in it.
    pub offset: i64,
}

/// The integer by which ledger and store know a row. Given by the ledger in order of arrival, never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u64);
