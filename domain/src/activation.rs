//! What a task is: its identity, its route, its terms and where it came from. The payload itself is opaque bytes.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use uuid::Uuid;

use crate::time::Timestamp;

/// The longest id that is accepted, in bytes. Clients send 32 hex digits or a hyphenated UUID.
pub const ID_MAX_BYTES: usize = 255;

/// The name a producer gave an activation. Opaque; usually a UUID.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActivationId(Box<str>);

impl ActivationId {
    /// An id from its text.
    pub fn new(id: impl Into<Box<str>>) -> Self {
        Self(id.into())
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the retry of this activation with the given attempt number: UUIDv5 of parent id and attempt, hyphenated,
    /// so that a retry published twice is one task.
    #[must_use]
    pub fn retry(&self, attempt: u32) -> Self {
        let name = format!("{}:{attempt}", self.0);
        Self::new(Uuid::new_v5(&RETRY_NAMESPACE, name.as_bytes()).hyphenated().to_string())
    }

    /// The bucket of the existing system: the last byte of the UUID, or 0 when the id is none.
    pub fn bucket(&self) -> u8 {
        Uuid::try_parse(&self.0).map_or(0, |uuid| uuid.as_bytes()[15])
    }
}

/// The UUIDv5 namespace of derived retry ids; arbitrary, fixed for ever.
const RETRY_NAMESPACE: Uuid = Uuid::from_u128(0x7a5b_1c3e_90d4_4f6b_8e21_5d0c_a97f_3b64);

impl fmt::Display for ActivationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ActivationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

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
