//! How fast a broker takes in a topic, told by what its group has committed: a position is committed when all below it is
//! durable.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};

use crate::process::{self, Reading, Stretch};

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What is watched.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Kafka's address.
    pub(crate) kafka: String,
    pub(crate) topic: String,
    /// The broker's group.
    pub(crate) group: String,
    /// Until so many records are durable; what comes before a tenth of them and after nine tenths is not measured, since
    /// positions are committed every now and then.
    pub(crate) count: u64,
    /// It is given up when nothing is committed for so long.
    pub(crate) patience: Duration,
    /// The broker's process.
    pub(crate) pid: u32,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ingested {
    /// How many records were measured.
    pub(crate) records: u64,
    pub(crate) stretch: Stretch,
}

/// Watches until all is durable.
pub(crate) fn run(plan: &Plan) -> Result<Ingested> {
    let watch = Watch::of(plan)?;
    let mut begun: Option<(u64, Reading)> = None;
    let mut ended = None;
    let (mut durable, mut since) = (0, Instant::now());
    while durable < plan.count {
        std::thread::sleep(LOOK_EVERY);
        let now = watch.durable()?;
        if now > durable {
            (durable, since) = (now, Instant::now());
            if now >= plan.count / 10 && begun.is_none() {
                begun = Some((now, process::read(plan.pid)?));
            }
            if now <= plan.count / 10 * 9 || ended.is_none() {
                ended = Some((now, process::read(plan.pid)?));
            }
        }
        let waited = since.elapsed();
        ensure!(waited < plan.patience, "{durable} of {} were durable, then nothing for {waited:?}", plan.count);
    }
    let (from, before) = begun.context("nothing was measured")?;
    let (until, after) = ended.context("nothing was measured")?;
    ensure!(until > from, "it was over before it could be measured: more records are needed");
    Ok(Ingested { records: until - from, stretch: Stretch::between(&before, &after) })
}

/// A client that names the group and does not join it.
struct Watch {
    client: BaseConsumer,
    partitions: TopicPartitionList,
}

impl Watch {
    fn of(plan: &Plan) -> Result<Self> {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &plan.kafka)
            .set("group.id", &plan.group)
            .set("enable.auto.commit", "false")
            .set("enable.metrics.push", "false")
            .create()?;
        let metadata = client.fetch_metadata(Some(&plan.topic), ANSWER_WITHIN)?;
        let mut partitions = TopicPartitionList::new();
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            partitions.add_partition(&plan.topic, partition.id());
        }
        Ok(Self { client, partitions })
    }

    /// How many records lie below what is committed, in a topic that was never cut.
    fn durable(&self) -> Result<u64> {
        let committed = self.client.committed_offsets(self.partitions.clone(), ANSWER_WITHIN)?;
        let offset = |offset: Offset| match offset {
            Offset::Offset(offset) => u64::try_from(offset).unwrap_or(0),
            _ => 0,
        };
        Ok(committed.elements().iter().map(|entry| offset(entry.offset())).sum())
    }
}

impl Ingested {
    /// Records per second.
    pub(crate) fn rate(&self) -> f64 {
        self.records as f64 / self.stretch.took_s
    }

    /// Milliseconds of the broker's CPU per 1,000 records.
    pub(crate) fn cpu_ms(&self) -> f64 {
        self.stretch.cpu_ms * 1e3 / self.records.max(1) as f64
    }

    /// Bytes the broker wrote per record, in KB.
    pub(crate) fn written_kb(&self) -> f64 {
        self.stretch.written / 1e3 / self.records.max(1) as f64
    }
}

impl std::fmt::Display for Ingested {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} records in {:.2} s: {:.0}/s, {:.1} ms CPU per 1,000, {:.2} KB written per record",
            self.records,
            self.stretch.took_s,
            self.rate(),
            self.cpu_ms(),
            self.written_kb()
        )
    }
}
