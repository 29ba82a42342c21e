//! Where it is measured: a Kafka with filled topics, and brokers on new stores.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, Result};
use taskbroker_support::{
    broker::{BrokerProcess, Setup},
    kafka::{Kafka, OwnKafka},
};

use super::{Sizes, perf::Recording};
use crate::{
    activation::{APPLICATION, NAMESPACE, SIZE, Template},
    produce,
};

const PARTITIONS: i32 = 4;

pub(crate) struct Stage {
    kafka: Kafka,
    /// Stopped when the stage is dropped.
    _own: Option<OwnKafka>,
    binary: PathBuf,
    perf: Option<PathBuf>,
    filled: BTreeMap<u64, String>,
    pub(crate) sizes: Sizes,
}

impl Stage {
    /// On the Kafka at this address, or else on one of its own.
    pub(crate) fn new(binary: PathBuf, kafka: Option<&str>, perf: Option<PathBuf>, sizes: Sizes) -> Result<Self> {
        let (kafka, own) = match kafka {
            Some(address) => (Kafka::at(address)?, None),
            None => {
                let own = Kafka::own().context("no Kafka could be started: give one with --kafka")?;
                (own.clone(), Some(own))
            }
        };
        Ok(Self { kafka, _own: own, binary, perf, filled: BTreeMap::new(), sizes })
    }

    /// Records a profile of this process, if one is wanted.
    pub(crate) fn record(&self, pid: u32) -> Result<Option<Recording>> {
        self.perf.as_ref().map(|file| Recording::of(pid, file)).transpose()
    }

    pub(crate) fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    /// Settings at their defaults, but for quiet logs, on topics of its own that are empty.
    pub(crate) async fn on_empty_topics(&self) -> Result<Setup> {
        Ok(quiet(Setup::on(&self.kafka, &self.binary, PARTITIONS).await?))
    }

    /// The same on a topic that holds so many tasks. It is filled once, and read by a new group each time.
    pub(crate) async fn on_filled_topic(&mut self, count: u64) -> Result<Setup> {
        let filled = match self.filled.get(&count) {
            Some(topic) => topic.clone(),
            None => self.fill(count).await?,
        };
        let mut setup = Setup::without_topics(self.kafka.address(), &self.binary);
        self.kafka.create_topic(&setup.dead_letters, 1, &[]).await?;
        setup.topic = filled;
        Ok(quiet(setup))
    }

    async fn fill(&mut self, count: u64) -> Result<String> {
        let topic = self.kafka.new_topic("load", PARTITIONS).await?;
        let plan = self.production(&topic, count, None)?;
        let took = tokio::task::spawn_blocking(move || produce::run(plan)).await??;
        println!("  produced {count} in {took:.1} s");
        self.filled.insert(count, topic.clone());
        Ok(topic)
    }

    /// What fills a topic, at a rate if there is one.
    pub(crate) fn production(&self, topic: &str, count: u64, rate: Option<f64>) -> Result<produce::Plan> {
        Ok(produce::Plan {
            kafka: self.kafka.address().to_owned(),
            topic: topic.to_owned(),
            count,
            rate,
            template: Template::new(0, APPLICATION, NAMESPACE, SIZE)?,
        })
    }
}

/// What tests have logged in detail is not logged here.
fn quiet(setup: Setup) -> Setup {
    setup.with("log_filter", "info,librdkafka=warn,h2=off")
}

/// A broker that runs, with its address and process.
pub(crate) struct Running {
    pub(crate) process: BrokerProcess,
    pub(crate) address: String,
    pub(crate) pid: u32,
}

impl Running {
    /// Starts it and waits until it is ready.
    pub(crate) async fn on(setup: &Setup) -> Result<Self> {
        let process = BrokerProcess::start(setup).await?;
        let pid = process.pid().context("the broker has ended")?;
        Ok(Self { address: format!("127.0.0.1:{}", process.grpc_port()), process, pid })
    }
}
