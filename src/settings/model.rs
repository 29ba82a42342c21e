//! The settings as the program uses them: typed, within bounds, checked against each other. What each means and why it has
//! its default stands in `config/default.yaml`.

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use secrecy::SecretString;

use super::value::words;

/// All settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Logs.
    pub log: Log,
    /// Where workers reach the broker; `None`: nowhere.
    pub grpc_listen: Option<SocketAddr>,
    /// Where metrics and probes are served; `None`: nowhere.
    pub http_listen: Option<SocketAddr>,
    /// Kafka.
    pub kafka: Kafka,
    /// The longest delay of a task that is honoured.
    pub max_delay: Duration,
    /// The store and its limits.
    pub store: Store,
    /// How long an orderly stop may take; at most 10 s.
    pub shutdown_timeout: Duration,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Directives of tracing's `EnvFilter`; not yet parsed.
    pub filter: String,
    /// How.
    pub format: LogFormat,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

words!(LogFormat { "text" => Text, "json" => Json });

/// Where tasks come from, and where retries and dead letters go.
#[derive(Clone, Debug)]
pub struct Kafka {
    /// What is consumed, and how.
    pub source: KafkaSource,
    /// What is produced, and how.
    pub outbox: KafkaOutbox,
}

/// The topic that is consumed.
#[derive(Clone, Debug)]
pub struct KafkaSource {
    /// Its cluster.
    pub cluster: KafkaCluster,
    /// Its name.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// The static name in the group (`group.instance.id`).
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
}

/// The topics that are produced to, by one producer.
#[derive(Clone, Debug)]
pub struct KafkaOutbox {
    /// Their cluster.
    pub cluster: KafkaCluster,
    /// Where dead letters and undecodable messages go.
    pub dead_letter_topic: String,
    /// Where retries go; often the consumed topic.
    pub retry_topic: String,
    /// How long to wait for room in the producer's queue.
    pub send_timeout: Duration,
    /// How long Kafka may take to acknowledge (`delivery.timeout.ms`).
    pub delivery_timeout: Duration,
    /// The largest message (`message.max.bytes`).
    pub max_message_bytes: NonZeroU32,
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
impl super::value::Setting for OffsetReset {
    fn read(written: &super::value::Written) -> Result<Self, String> {
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

/// The store and its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Which.
    pub adapter: StoreAdapter,
    /// SQLite's file.
    pub sqlite_path: PathBuf,
    /// How long a task may live without a row; zero: every task becomes one with the next commit.
    pub linger: Duration,
    /// The file may grow to this; `None`: no limit of its own.
    pub max_bytes: Option<NonZeroU64>,
    /// Tasks that wait for a worker.
    pub max_pending: NonZeroUsize,
    /// Tasks that wait for their delay.
    pub max_delayed: NonZeroUsize,
    /// Tasks that workers have.
    pub max_processing: NonZeroUsize,
    /// Retries and dead letters that wait to be published.
    pub max_outbox: NonZeroUsize,
    /// How often a lease may be lost before the task fails.
    pub max_lost_leases: NonZeroU32,
    /// What is added to a task's own deadline.
    pub deadline_grace: Duration,
    /// What the payloads kept in memory may take.
    pub payload_memory_bytes: NonZeroUsize,
    /// Remembered completions.
    pub early_reports_max: usize,
    /// How long a removed retry is remembered; at least the delivery time-out.
    pub tombstones_keep: Duration,
    /// How long to hold back what may have been handed out before an unclean stop; zero: not at all.
    pub hold_after_crash: Duration,
    /// How long at-most-once tasks wait for their partition.
    pub absent_partition_limit: Duration,
}

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreAdapter {
    /// A SQLite file.
    Sqlite,
    /// Nothing that outlives the process.
    Memory,
}

words!(StoreAdapter { "sqlite" => Sqlite, "memory" => Memory } refused {
    "postgres" => "the postgres adapter is not supported yet: use sqlite",
});

/// How tasks reach workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryMode {
    /// Workers ask.
    Pull,
}

words!(DeliveryMode { "pull" => Pull } refused {
    "push" => "push delivery is not supported yet: use pull, and start workers in pull mode",
});
