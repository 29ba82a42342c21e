//! What a broker is started with.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::kafka::Kafka;

/// A configuration: topics, a group, and settings. A clone of it, started, is another member of the same group.
#[derive(Clone, Debug)]
pub struct Setup {
    pub(super) binary: PathBuf,
    address: String,
    /// The topic that is consumed; retries go there, too.
    pub topic: String,
    /// Where dead letters go.
    pub dead_letters: String,
    /// The consumer group.
    pub group: String,
    settings: BTreeMap<String, Value>,
    pub(super) environment: BTreeMap<String, String>,
}

impl Setup {
    /// Topics and a group of its own on this Kafka.
    pub async fn on(kafka: &Kafka, binary: impl AsRef<Path>, partitions: i32) -> Result<Self> {
        let setup = Self::without_topics(kafka.address(), binary);
        setup.create_topics(kafka, partitions).await?;
        Ok(setup)
    }

    /// Creates the topics again, on a Kafka that lost them.
    pub async fn create_topics(&self, kafka: &Kafka, partitions: i32) -> Result<()> {
        kafka.create_topic(&self.topic, partitions, &[]).await?;
        kafka.create_topic(&self.dead_letters, 1, &[]).await
    }

    /// Names of its own at this address; nothing is created, nothing need be there.
    pub fn without_topics(address: &str, binary: impl AsRef<Path>) -> Self {
        let setup = Self {
            binary: binary.as_ref().to_path_buf(),
            address: address.to_owned(),
            topic: Kafka::unique("tasks"),
            dead_letters: Kafka::unique("dead"),
            group: Kafka::unique("brokers"),
            settings: BTreeMap::new(),
            environment: BTreeMap::new(),
        };
        setup
            .with("kafka_auto_offset_reset", "earliest")
            .with("upkeep_deadline_reset_skip_after_startup_sec", "0")
            .with("log_filter", "info,taskbroker=debug,librdkafka=warn,h2=off")
    }

    /// With a setting, by its path: `store.linger`.
    #[must_use]
    pub fn with(mut self, path: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(path.to_owned(), value.into());
        self
    }

    /// With a variable of the environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// The configuration file's content. JSON is YAML.
    pub(super) fn render(&self, store: &Path, grpc_port: u16, http_port: u16) -> Value {
        let mut all = json!({
            "grpc_addr": "127.0.0.1", "grpc_port": grpc_port, "http_addr": "127.0.0.1", "http_port": http_port,
            "kafka_clusters": { "test": { "address": self.address } },
            "kafka_topics": {
                &self.topic: { "cluster": "test", "consumer_group": self.group },
                &self.dead_letters: { "cluster": "test", "produce_only": true },
            },
            "kafka_deadletter_topic": self.dead_letters,
            "store": { "sqlite": { "path": store } },
        });
        for (path, value) in &self.settings {
            put(&mut all, path, value.clone());
        }
        all
    }
}

fn put(tree: &mut Value, path: &str, value: Value) {
    match (path.split_once('.'), tree) {
        (Some((first, rest)), Value::Object(map)) => {
            put(map.entry(first).or_insert_with(|| Value::Object(Map::new())), rest, value);
        }
        (None, Value::Object(map)) => {
            map.insert(path.to_owned(), value);
        }
        (_, tree) => *tree = value,
    }
}
