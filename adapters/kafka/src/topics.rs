//! Topics that do not exist yet: they are created, or named.

use std::{collections::BTreeSet, sync::Arc, thread, time::Duration};

use rdkafka::{
    ClientContext,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    error::KafkaError,
    types::RDKafkaErrorCode,
};
use tokio::{
    task::{self, JoinHandle},
    time::sleep,
};

use crate::{
    native::{self, TopicSight},
    options::{ClusterOptions, OptionsError, connection_config},
};

/// How long the cluster may take for each question.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How soon to try again what may pass: the cluster is away, or has too few brokers for the moment.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How soon to look again for a topic that somebody else is to create.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// How topics are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicShape {
    /// How many partitions.
    pub partitions: i32,
    /// On how many brokers each is; none: as the cluster has it.
    pub replication: Option<i32>,
}

/// Creates topics on one cluster in the background, or names those that are missing, until all exist. It stops when it is
/// dropped.
#[derive(Debug)]
pub struct TopicMaker(JoinHandle<()>);

/// Why no topics can be created.
#[derive(Debug, thiserror::Error)]
pub enum TopicMakerError {
    /// A setting cannot be used.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// librdkafka refuses the configuration as a whole.
    #[error("the Kafka client cannot be made: {0}")]
    Client(String),
}

impl TopicMaker {
    /// Begins, in the background of the present tokio runtime. The cluster need not be there: it is waited for. `cluster` is
    /// its name in the log. A topic that exists is left as it is.
    pub fn start(
        cluster: &str,
        options: &ClusterOptions,
        topics: Vec<String>,
        shape: TopicShape,
    ) -> Result<Self, TopicMakerError> {
        Self::begin(cluster, options, topics, Some(shape))
    }

    /// Creates nothing: says once of each topic that it does not exist, and when it does. For topics that nobody reads here, whose
    /// absence would show only when something has to go there.
    pub fn watch(cluster: &str, options: &ClusterOptions, topics: Vec<String>) -> Result<Self, TopicMakerError> {
        Self::begin(cluster, options, topics, None)
    }

    fn begin(
        cluster: &str,
        options: &ClusterOptions,
        topics: Vec<String>,
        shape: Option<TopicShape>,
    ) -> Result<Self, TopicMakerError> {
        options.validate()?;
        let admin = AdminClient::from_config_and_context(&connection_config(options), Quiet)
            .map_err(|error| TopicMakerError::Client(error.to_string()))?;
        let admin = Arc::new(Admin(Some(admin)));
        let making = Making { cluster: cluster.to_owned(), admin, shape, said: BTreeSet::new() };
        Ok(Self(task::spawn(making.run(topics))))
    }

    /// Resolves when all topics exist.
    pub async fn done(&mut self) {
        // An abort or a panic ends it too; the panic was reported.
        (&mut self.0).await.ok();
    }
}

impl Drop for TopicMaker {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Making {
    cluster: String,
    admin: Arc<Admin>,
    /// None: they are only looked for.
    shape: Option<TopicShape>,
    /// What was said already is not said again and again.
    said: BTreeSet<String>,
}

impl Making {
    async fn run(mut self, mut topics: Vec<String>) {
        loop {
            topics = self.missing(topics).await;
            if topics.is_empty() {
                return;
            }
            let wait = match self.shape {
                Some(shape) => {
                    topics = self.create(topics, shape).await;
                    AGAIN_AFTER
                }
                None => LOOK_AGAIN_AFTER,
            };
            sleep(wait).await;
        }
    }

    /// Those that do not exist, or of which nobody knows. To create one that exists may be refused for want of a right that
    /// is not needed.
    async fn missing(&mut self, topics: Vec<String>) -> Vec<String> {
        let admin = Arc::clone(&self.admin);
        let looked = task::spawn_blocking(move || {
            let sight = |topic: String| (native::sight_topic(admin.client().inner(), &topic, ANSWER_WITHIN), topic);
            topics.into_iter().map(sight).collect::<Vec<_>>()
        });
        let mut missing = Vec::new();
        for (sight, topic) in looked.await.unwrap_or_default() {
            match sight {
                Ok(TopicSight::Present(_)) => self.found(&topic),
                Ok(TopicSight::Missing) => {
                    if self.shape.is_none() {
                        self.say(&topic, "it does not exist: create it");
                    }
                    missing.push(topic);
                }
                Err(failure) => {
                    self.say(&topic, &format!("it cannot be seen whether it exists: {failure}"));
                    missing.push(topic);
                }
            }
        }
        missing
    }

    /// Returns those that may still have to be created.
    async fn create(&mut self, topics: Vec<String>, shape: TopicShape) -> Vec<String> {
        let TopicShape { partitions, replication } = shape;
        let factor = replication.unwrap_or(-1);
        let new: Vec<NewTopic<'_>> =
            topics.iter().map(|topic| NewTopic::new(topic, partitions, TopicReplication::Fixed(factor))).collect();
        let limits = AdminOptions::new().request_timeout(Some(ANSWER_WITHIN)).operation_timeout(Some(ANSWER_WITHIN));
        let outcomes = match self.admin.client().create_topics(&new, &limits).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                topics.iter().for_each(|topic| self.say(topic, &error.to_string()));
                return topics;
            }
        };
        let mut open = Vec::new();
        for outcome in outcomes {
            match outcome {
                Ok(topic) => {
                    tracing::info!(topic, cluster = self.cluster, partitions, "topic created");
                }
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    self.say(&topic, &code.to_string());
                    open.push(topic);
                }
            }
        }
        open
    }

    fn say(&mut self, topic: &str, reason: &str) {
        if !self.said.insert(format!("{topic} {reason}")) {
            return;
        }
        let cluster = &self.cluster;
        match self.shape {
            Some(_) => {
                tracing::warn!(topic, cluster, reason, "topic not created yet (create_missing_topics), trying again");
            }
            None => tracing::warn!(topic, cluster, reason, "a topic that is not read here cannot be found"),
        }
    }

    fn found(&self, topic: &str) {
        let prefix = format!("{topic} ");
        if self.shape.is_none() && self.said.iter().any(|said| said.starts_with(&prefix)) {
            tracing::info!(topic, cluster = self.cluster, "the topic exists");
        }
    }
}

/// The client; dropping it waits for its threads, so that is done in a thread of its own.
struct Admin(Option<AdminClient<Quiet>>);

impl Admin {
    fn client(&self) -> &AdminClient<Quiet> {
        self.0.as_ref().expect("it is taken only when this is dropped")
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        let client = self.0.take();
        if let Err(error) = thread::Builder::new().name("kafka-reaper".to_owned()).spawn(move || drop(client)) {
            tracing::warn!(%error, "no thread to close a Kafka client on");
        }
    }
}

/// Logs at DEBUG: what concerns the topics is said here.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
        crate::context::log(RDKafkaLogLevel::Debug, facility, line);
    }

    fn error(&self, _: KafkaError, _: &str) {}
}
