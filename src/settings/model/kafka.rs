//! Topics and clusters.

use std::{
    num::{NonZeroU16, NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use secrecy::SecretString;

use crate::settings::value::{Setting, Written, words};

/// Where tasks come from, and where retries, dead letters and forwarded tasks go.
#[derive(Clone, Debug)]
pub struct Kafka {
    /// What is consumed, and how; in the order of the topics' names. May be empty: then only what is here is served.
    pub sources: Vec<KafkaSource>,
    /// What is declared to be consumed and is switched off (`consumer_disabled`).
    pub disabled: Vec<KafkaSource>,
    /// What is produced, and how.
    pub outbox: KafkaOutbox,
    /// Every declared topic, produced and consumed, with its cluster.
    pub topics: Vec<KafkaTarget>,
    /// How declared topics that do not exist are made; `None`: they are waited for.
    pub create: Option<TopicCreation>,
}

/// A topic that is consumed.
#[derive(Clone, Debug)]
pub struct KafkaSource {
    /// Its cluster.
    pub cluster: KafkaCluster,
    /// Its name.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// The static name in the group (`group.instance.id`); differs between topics that share a group.
    pub group_instance_id: Option<String>,
    /// Whole milliseconds. Not to be given to librdkafka with [`AssignmentStrategy::Consumer`], which refuses it.
    pub session_timeout: Duration,
    /// Where a group without a position starts.
    pub offset_reset: OffsetReset,
    /// How partitions are shared out.
    pub assignment_strategy: AssignmentStrategy,
    /// How much may be read ahead, for each partition.
    pub prefetch_bytes: NonZeroUsize,
    /// How soon positions are committed to the group; 1 to 100 ms.
    pub commit_interval: Duration,
    /// What its messages are turned into; `None`: they are activations.
    pub raw: Option<Raw>,
}

/// What each message of a raw topic is turned into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// The activation's namespace.
    pub namespace: String,
    /// Its application.
    pub application: String,
    /// Its task.
    pub taskname: String,
    /// How long it may run; whole seconds, up to 65,535.
    pub processing_deadline: Duration,
    /// zstd's level; `None`: the parameters are not compressed.
    pub compression_level: Option<i32>,
}

/// The topics that are produced to. Each has a cluster of its own; those with the same name of a cluster share a producer.
#[derive(Clone, Debug)]
pub struct KafkaOutbox {
    /// Where retries go; often the consumed topic.
    pub retry: KafkaTarget,
    /// Where dead letters and undecodable messages go.
    pub dead_letter: KafkaTarget,
    /// Where tasks of demoted namespaces go, unless the rules name another topic.
    pub forward: KafkaTarget,
    /// How long to wait for room in the producer's queue.
    pub send_timeout: Duration,
    /// How long Kafka may take to acknowledge (`delivery.timeout.ms`).
    pub delivery_timeout: Duration,
    /// The largest message (`message.max.bytes`).
    pub max_message_bytes: NonZeroU32,
}

/// A topic on its cluster.
#[derive(Clone, Debug)]
pub struct KafkaTarget {
    /// Its cluster.
    pub cluster: KafkaCluster,
    /// Its name.
    pub topic: String,
}

/// How topics are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicCreation {
    /// How many partitions; at most 2,147,483,647, as Kafka counts them.
    pub partitions: NonZeroU32,
    /// On how many brokers each is; `None`: as the cluster has it (`default.replication.factor`). At most 32,767.
    pub replication: Option<NonZeroU16>,
}

/// How a Kafka cluster is reached.
#[derive(Clone, Debug)]
pub struct KafkaCluster {
    /// Its name in the settings.
    pub name: String,
    /// `bootstrap.servers`.
    pub address: String,
    /// How the connection is protected.
    pub security_protocol: SecurityProtocol,
    /// Who we say we are; there with the `sasl_` protocols only.
    pub sasl: Option<Sasl>,
    /// PEM file of trusted authorities; `None`: the system's.
    pub ssl_ca_location: Option<PathBuf>,
    /// Our certificate and its key, both PEM files.
    pub ssl_client: Option<ClientCertificate>,
}

/// `security.protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityProtocol {
    /// Neither encrypted nor authenticated.
    Plaintext,
    /// Encrypted.
    Ssl,
    /// Authenticated.
    SaslPlaintext,
    /// Both.
    SaslSsl,
}

words!(SecurityProtocol {
    "plaintext" => Plaintext, "ssl" => Ssl, "sasl_plaintext" => SaslPlaintext, "sasl_ssl" => SaslSsl,
});

impl SecurityProtocol {
    /// As librdkafka spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }

    /// Whether it authenticates by SASL.
    pub fn is_sasl(self) -> bool {
        match self {
            Self::SaslPlaintext | Self::SaslSsl => true,
            Self::Plaintext | Self::Ssl => false,
        }
    }

    /// Whether it encrypts.
    pub fn is_tls(self) -> bool {
        match self {
            Self::Ssl | Self::SaslSsl => true,
            Self::Plaintext | Self::SaslPlaintext => false,
        }
    }
}

/// Who we say we are.
#[derive(Clone, Debug)]
pub struct Sasl {
    /// How.
    pub mechanism: SaslMechanism,
    /// Our name.
    pub username: String,
    /// Our password.
    pub password: SecretString,
}

/// `sasl.mechanism`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    /// `PLAIN`
    Plain,
    /// `SCRAM-SHA-256`
    ScramSha256,
    /// `SCRAM-SHA-512`
    ScramSha512,
}

words!(SaslMechanism {
    "PLAIN" => Plain, "SCRAM-SHA-256" => ScramSha256, "SCRAM-SHA-512" => ScramSha512,
} refused {
    "GSSAPI" => "Kerberos is not in this build: use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
    "OAUTHBEARER" => "OAUTHBEARER is not in this build: use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
});

impl SaslMechanism {
    /// As librdkafka spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// A certificate of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// PEM file of the certificate.
    pub certificate_location: PathBuf,
    /// PEM file of its key.
    pub key_location: PathBuf,
}

/// Where a group without a position starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the log's start.
    Earliest,
    /// At the log's end.
    Latest,
}

/// What librdkafka also calls them comes with it.
impl Setting for OffsetReset {
    fn read(written: &Written) -> Result<Self, String> {
        match String::read(written)?.as_str() {
            "earliest" | "beginning" | "smallest" => Ok(Self::Earliest),
            "latest" | "end" | "largest" => Ok(Self::Latest),
            _ => Err("expected one of: earliest | latest".to_owned()),
        }
    }

    fn placeholder() -> Self {
        Self::Latest
    }

    fn write(&self) -> String {
        match self {
            Self::Earliest => "earliest".to_owned(),
            Self::Latest => "latest".to_owned(),
        }
    }
}

/// How partitions are shared out in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignmentStrategy {
    /// `range,roundrobin`: eager, the first that all members know.
    RangeRoundRobin,
    /// `range`: eager.
    Range,
    /// `roundrobin`: eager.
    RoundRobin,
    /// `cooperative-sticky`: incremental.
    CooperativeSticky,
    /// Kafka 4's protocol (`group.protocol=consumer`), in which the brokers assign.
    Consumer,
}

words!(AssignmentStrategy {
    "range,roundrobin" => RangeRoundRobin, "range" => Range, "roundrobin" => RoundRobin,
    "cooperative-sticky" => CooperativeSticky, "consumer" => Consumer,
});

impl AssignmentStrategy {
    /// What `partition.assignment.strategy` is to be; `None` with [`AssignmentStrategy::Consumer`], for which
    /// `group.protocol` is to be `consumer`.
    pub fn partition_assignment_strategy(self) -> Option<&'static str> {
        match self {
            Self::RangeRoundRobin => Some("range,roundrobin"),
            Self::Range => Some("range"),
            Self::RoundRobin => Some("roundrobin"),
            Self::CooperativeSticky => Some("cooperative-sticky"),
            Self::Consumer => None,
        }
    }
}
