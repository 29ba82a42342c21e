//! What a source can be told.

use std::{collections::BTreeMap, num::NonZeroUsize, str::FromStr, time::Duration};

use rdkafka::ClientConfig;

use super::{
    OptionsError,
    cluster::{ClusterOptions, connection_config},
};

/// How the group shares out partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupProtocol {
    /// The classic protocol with these assignors, in order of preference. All eager, or all cooperative.
    Classic(String),
    /// Kafka 4's protocol (KIP-848): the group's coordinator assigns, and sets the session time-out.
    Consumer,
}

impl Default for GroupProtocol {
    /// Eager, as the brokers that already run in such a group are: librdkafka cannot mix the two kinds.
    fn default() -> Self {
        Self::Classic("range,roundrobin".to_owned())
    }
}

impl FromStr for GroupProtocol {
    type Err = OptionsError;

    /// `consumer`, or a comma-separated list of `range`, `roundrobin` and `cooperative-sticky`.
    fn from_str(text: &str) -> Result<Self, OptionsError> {
        const KEY: &str = "assignment_strategy";
        let names: Vec<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        if names == ["consumer"] {
            return Ok(Self::Consumer);
        }
        if let Some(unknown) = names.iter().find(|name| !["range", "roundrobin", "cooperative-sticky"].contains(name)) {
            let known = "use consumer alone, or a list of range, roundrobin, cooperative-sticky";
            return Err(OptionsError::new(KEY, format!("{unknown:?} is unknown here: {known}")));
        }
        let cooperative = names.iter().filter(|name| **name == "cooperative-sticky").count();
        match names.len() {
            0 => Err(OptionsError::new(KEY, "is empty: leave it out for range,roundrobin")),
            all if cooperative == 0 || cooperative == all => Ok(Self::Classic(names.join(","))),
            _ => Err(OptionsError::new(
                KEY,
                "cooperative-sticky cannot be mixed with range and roundrobin, which are eager",
            )),
        }
    }
}

/// What a source needs to know.
#[derive(Clone, Debug)]
pub struct KafkaSourceOptions {
    /// The cluster.
    pub cluster: ClusterOptions,
    /// The consumer group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// How partitions are shared out.
    pub protocol: GroupProtocol,
    /// How long the group waits for a silent member before it gives its partitions away. With [`GroupProtocol::Consumer`] the
    /// cluster decides that. In both cases, a process that stood still for longer gives its partitions up by itself.
    pub session_timeout: Duration,
    /// A name that survives restarts (`group.instance.id`): a member that comes back under it within the session time-out
    /// keeps its partitions. Two members of one name fence each other.
    pub static_member: Option<String>,
    /// How many bytes are fetched ahead, per partition.
    pub prefetch_bytes: usize,
    /// How many records are handed over at once, and how many more wait in the adapter.
    pub batch_max: NonZeroUsize,
    /// How long an orderly revocation waits for its barrier.
    pub barrier_limit: Duration,
    /// How long the commit that follows it may take.
    pub commit_limit: Duration,
    /// How long `close` takes at most.
    pub close_limit: Duration,
    /// How often the cluster is asked for the topic: notices one that is created, grown, or deleted and created again.
    pub topic_check_interval: Duration,
    /// Further librdkafka properties, by name. Those that the source depends on cannot be set.
    pub properties: BTreeMap<String, String>,
}

/// What the source's guarantees rest on; not to be overridden.
const FIXED: [(&str, &str); 7] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // Every start is explicit: nothing is skipped or repeated because a position was unknown.
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "true"),
    ("allow.auto.create.topics", "false"),
    // What a producer's transaction took back must not run. This is librdkafka's default too.
    ("isolation.level", "read_committed"),
    ("log.queue", "true"),
];

impl KafkaSourceOptions {
    /// Defaults for everything else.
    pub fn new(cluster: ClusterOptions, group: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            cluster,
            group: group.into(),
            topic: topic.into(),
            protocol: GroupProtocol::default(),
            session_timeout: Duration::from_secs(6),
            static_member: None,
            prefetch_bytes: 4 << 20,
            batch_max: NonZeroUsize::new(1000).unwrap_or(NonZeroUsize::MIN),
            barrier_limit: Duration::from_secs(4),
            commit_limit: Duration::from_secs(3),
            close_limit: Duration::from_secs(4),
            topic_check_interval: Duration::from_secs(5),
            properties: BTreeMap::new(),
        }
    }

    /// Checks what can be checked without the cluster.
    pub fn validate(&self) -> Result<(), OptionsError> {
        self.cluster.validate()?;
        for (key, value) in [("consumer_group", &self.group), ("topic", &self.topic)] {
            if value.is_empty() || value.contains('\0') {
                return Err(OptionsError::new(key, "must be a name"));
            }
        }
        match self.properties.keys().find(|key| FIXED.iter().any(|(fixed, _)| fixed == key)) {
            Some(key) => Err(OptionsError::new(key, "cannot be set: the source depends on its own value")),
            None => Ok(()),
        }
    }

    pub(crate) fn member_config(&self) -> ClientConfig {
        let mut config = self.connection_config();
        let fetch_bytes = self.prefetch_bytes.clamp(1 << 16, 1 << 20);
        config
            .set("group.id", &self.group)
            .set("queued.max.messages.kbytes", (self.prefetch_bytes / 1024).clamp(64, 2_097_151).to_string())
            .set("queued.min.messages", "100000")
            .set("fetch.message.max.bytes", fetch_bytes.to_string())
            .set("fetch.queue.backoff.ms", "20")
            .set("fetch.error.backoff.ms", "200")
            .set("fetch.wait.max.ms", "100")
            .set("topic.metadata.refresh.interval.ms", self.topic_check_interval.as_millis().max(100).to_string());
        self.apply_protocol(&mut config);
        if let Some(name) = &self.static_member {
            config.set("group.instance.id", name);
        }
        for (key, value) in &self.properties {
            config.set(key, value);
        }
        for (key, value) in FIXED {
            config.set(key, value);
        }
        config
    }

    fn apply_protocol(&self, config: &mut ClientConfig) {
        match &self.protocol {
            GroupProtocol::Consumer => {
                config.set("group.protocol", "consumer");
            }
            GroupProtocol::Classic(assignors) => {
                let session_ms = self.session_timeout.as_millis().max(2);
                config
                    .set("partition.assignment.strategy", assignors)
                    .set("session.timeout.ms", session_ms.to_string())
                    // A member hears of a rebalance by its heartbeat, and the others wait for it.
                    .set("heartbeat.interval.ms", (session_ms / 3).clamp(1, 1000).to_string());
            }
        }
    }

    /// The configuration of a client that joins no group.
    pub(crate) fn connection_config(&self) -> ClientConfig {
        let mut config = connection_config(&self.cluster);
        config.set("allow.auto.create.topics", "false");
        config
    }
}
