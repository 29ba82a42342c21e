//! What can be set, and how it becomes librdkafka's configuration.

use std::{collections::BTreeMap, num::NonZeroUsize, str::FromStr, time::Duration};

use rdkafka::ClientConfig;
use secrecy::{ExposeSecret, SecretString};

/// A setting that cannot be used: which key, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct OptionsError {
    /// The name of the setting.
    pub key: String,
    /// What is wrong with its value.
    pub reason: String,
}

impl OptionsError {
    fn new(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { key: key.into(), reason: reason.into() }
    }
}

/// How to reach a cluster and prove who one is.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// `host:port`, several separated by commas.
    pub address: String,
    /// `PLAINTEXT` (the default), `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
    pub security_protocol: Option<String>,
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub sasl_mechanism: Option<String>,
    /// The SASL user.
    pub sasl_username: Option<String>,
    /// The SASL password. Never shown.
    pub sasl_password: Option<SecretString>,
    /// A file or directory of certificate authorities. With none, the system's usual places are tried.
    pub ssl_ca_location: Option<String>,
    /// The client's certificate (PEM).
    pub ssl_certificate_location: Option<String>,
    /// The client's private key (PEM).
    pub ssl_key_location: Option<String>,
}

impl ClusterOptions {
    /// A cluster without authentication.
    pub fn plaintext(address: impl Into<String>) -> Self {
        Self { address: address.into(), ..Self::default() }
    }

    /// Checks what can be checked without the cluster.
    pub fn validate(&self) -> Result<(), OptionsError> {
        if self.address.trim().is_empty() {
            return Err(OptionsError::new("address", "is empty: give host:port, several separated by commas"));
        }
        self.validate_protocol()?;
        self.validate_mechanism()
    }

    fn validate_protocol(&self) -> Result<(), OptionsError> {
        const KNOWN: [&str; 4] = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];
        match &self.security_protocol {
            Some(protocol) if !KNOWN.contains(&protocol.to_ascii_uppercase().as_str()) => Err(OptionsError::new(
                "security_protocol",
                format!("{protocol:?} is unknown: use one of {}", KNOWN.join(", ")),
            )),
            _ => Ok(()),
        }
    }

    fn validate_mechanism(&self) -> Result<(), OptionsError> {
        const KNOWN: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
        let Some(mechanism) = &self.sasl_mechanism else {
            return Ok(());
        };
        let reason = match mechanism.to_ascii_uppercase().as_str() {
            known if KNOWN.contains(&known) => return Ok(()),
            "GSSAPI" => "GSSAPI (Kerberos) is not built in".to_owned(),
            "OAUTHBEARER" => "OAUTHBEARER (OIDC) is not built in".to_owned(),
            _ => format!("{mechanism:?} is unknown"),
        };
        Err(OptionsError::new("sasl_mechanism", format!("{reason}: use one of {}", KNOWN.join(", "))))
    }

    fn encrypted(&self) -> bool {
        self.security_protocol.as_deref().is_some_and(|protocol| protocol.to_ascii_uppercase().ends_with("SSL"))
    }

    fn apply(&self, config: &mut ClientConfig) {
        config.set("bootstrap.servers", &self.address).set("client.id", "taskbroker");
        let plain = [
            ("security.protocol", &self.security_protocol),
            ("sasl.mechanism", &self.sasl_mechanism),
            ("sasl.username", &self.sasl_username),
            ("ssl.ca.location", &self.ssl_ca_location),
            ("ssl.certificate.location", &self.ssl_certificate_location),
            ("ssl.key.location", &self.ssl_key_location),
        ];
        for (key, value) in plain {
            if let Some(value) = value {
                config.set(key, value);
            }
        }
        if self.encrypted() && self.ssl_ca_location.is_none() {
            config.set("ssl.ca.location", "probe");
        }
        if let Some(password) = &self.sasl_password {
            config.set("sasl.password", password.expose_secret());
        }
    }
}

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
    /// How long the group waits for a silent member before it gives its partitions away. Not used by
    /// [`GroupProtocol::Consumer`], where the cluster decides.
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
                    .set("heartbeat.interval.ms", (session_ms / 3).clamp(1, 3000).to_string());
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

/// What an outbox needs to know.
#[derive(Clone, Debug)]
pub struct KafkaOutboxOptions {
    /// The cluster; often another one than the source's.
    pub cluster: ClusterOptions,
    /// Where retries go.
    pub retry_topic: String,
    /// Where dead letters go.
    pub dead_letter_topic: String,
    /// How long a message may take to become durable. Afterwards its outcome is unknown.
    pub delivery_limit: Duration,
    /// How long messages wait for company before they are sent.
    pub linger: Duration,
    /// `none` (the default), `gzip`, `lz4`, `snappy` or `zstd`.
    pub compression: String,
    /// How many bytes may wait to be sent.
    pub queue_bytes: usize,
    /// Further librdkafka properties, by name.
    pub properties: BTreeMap<String, String>,
}

impl KafkaOutboxOptions {
    /// Defaults for everything else.
    pub fn new(cluster: ClusterOptions, retry_topic: impl Into<String>, dead_letter_topic: impl Into<String>) -> Self {
        Self {
            cluster,
            retry_topic: retry_topic.into(),
            dead_letter_topic: dead_letter_topic.into(),
            delivery_limit: Duration::from_secs(10),
            linger: Duration::from_millis(2),
            compression: "none".to_owned(),
            queue_bytes: 64 << 20,
            properties: BTreeMap::new(),
        }
    }

    /// Checks what can be checked without the cluster.
    pub fn validate(&self) -> Result<(), OptionsError> {
        self.cluster.validate()?;
        for (key, topic) in [("retry_topic", &self.retry_topic), ("deadletter_topic", &self.dead_letter_topic)] {
            if topic.is_empty() || topic.contains('\0') {
                return Err(OptionsError::new(key, "must be a topic's name"));
            }
        }
        Ok(())
    }

    pub(crate) fn producer_config(&self) -> ClientConfig {
        let mut config = connection_config(&self.cluster);
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", self.delivery_limit.as_millis().max(1).to_string())
            .set("linger.ms", self.linger.as_millis().to_string())
            .set("compression.type", &self.compression)
            .set("queue.buffering.max.kbytes", (self.queue_bytes / 1024).clamp(1, 2_147_483_647).to_string())
            // The cluster decides what is too large, not the client.
            .set("message.max.bytes", "1000000000")
            // A batch stays below the smallest usual limit of a topic, so that no message fails for its company's sake.
            .set("batch.size", "500000")
            // One fixed partitioner, the Java client's: copies of one key meet in one partition.
            .set("partitioner", "murmur2_random")
            .set("topic.metadata.propagation.max.ms", "2000");
        for (key, value) in &self.properties {
            config.set(key, value);
        }
        config
    }
}

/// What every client of ours has in common: who one is, and no waiting of 10 s between attempts to connect.
fn connection_config(cluster: &ClusterOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    cluster.apply(&mut config);
    config
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        .set("socket.connection.setup.timeout.ms", "5000")
        .set("socket.keepalive.enable", "true")
        // Lines about the connections of idle brokers that the cluster itself closes say nothing.
        .set("log.connection.close", "false");
    config
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn cluster(protocol: &str, mechanism: &str) -> ClusterOptions {
        ClusterOptions {
            security_protocol: Some(protocol.to_owned()),
            sasl_mechanism: Some(mechanism.to_owned()),
            ..ClusterOptions::plaintext("kafka:9092")
        }
    }

    #[test]
    fn mechanisms_that_are_not_built_in_are_refused_by_name() {
        for mechanism in ["GSSAPI", "gssapi", "OAUTHBEARER"] {
            let error = cluster("SASL_SSL", mechanism).validate().unwrap_err();
            assert_eq!(error.key, "sasl_mechanism");
            assert!(error.to_string().contains("not built in"), "{error}");
        }
        cluster("SASL_SSL", "SCRAM-SHA-512").validate().unwrap();
    }

    #[test]
    fn an_unknown_security_protocol_is_refused_by_name() {
        assert_eq!(cluster("TLS", "PLAIN").validate().unwrap_err().key, "security_protocol");
    }

    #[test]
    fn certificate_authorities_are_looked_for_where_none_are_named() {
        let mut options = KafkaSourceOptions::new(cluster("sasl_ssl", "PLAIN"), "group", "topic");
        assert_eq!(options.member_config().get("ssl.ca.location"), Some("probe"));
        options.cluster.ssl_ca_location = Some("/etc/ca.pem".to_owned());
        assert_eq!(options.member_config().get("ssl.ca.location"), Some("/etc/ca.pem"));
        options.cluster = ClusterOptions::plaintext("kafka:9092");
        assert_eq!(options.member_config().get("ssl.ca.location"), None);
    }

    #[test]
    fn a_password_is_never_shown() {
        let mut cluster = cluster("SASL_SSL", "PLAIN");
        cluster.sasl_password = Some("hunter2".to_owned().into());
        let options = KafkaSourceOptions::new(cluster.clone(), "group", "topic");
        assert!(!format!("{options:?}").contains("hunter2"));
        assert_eq!(options.member_config().get("sasl.password"), Some("hunter2"));
    }

    #[test]
    fn eager_and_cooperative_assignors_do_not_mix() {
        assert_eq!("consumer".parse(), Ok(GroupProtocol::Consumer));
        assert_eq!("range, roundrobin".parse(), Ok(GroupProtocol::default()));
        let cooperative = GroupProtocol::Classic("cooperative-sticky".to_owned());
        assert_eq!("cooperative-sticky".parse(), Ok(cooperative));
        for wrong in ["", "range,cooperative-sticky", "sticky", "consumer,range"] {
            assert_eq!(wrong.parse::<GroupProtocol>().unwrap_err().key, "assignment_strategy");
        }
    }

    #[test]
    fn what_the_guarantees_rest_on_cannot_be_set() {
        let mut options = KafkaSourceOptions::new(ClusterOptions::plaintext("kafka:9092"), "group", "topic");
        options.properties.insert("enable.auto.commit".to_owned(), "true".to_owned());
        assert_eq!(options.validate().unwrap_err().key, "enable.auto.commit");
    }
}
