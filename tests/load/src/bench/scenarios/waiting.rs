//! A million tasks: taken in, waiting, worked on, and there after a crash.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::{
    activation::{APPLICATION, SIZE},
    bench::{
        samples::Samples,
        stage::{Running, Stage},
    },
    client::{Call, Connection, OK, framed},
    floors::sqlite,
    ingest,
    meter::Range,
    process, pull,
};
use taskbroker_proto::pb::GetTaskRequest;

/// `store.payload_memory_bytes` by default, in KiB.
const PAYLOADS_KIB: u64 = 128 * 1024;

const BATCH: u32 = 256;

pub(super) async fn run(stage: &mut Stage, samples: &mut Samples) -> Result<()> {
    let waiting = stage.sizes.waiting;
    // While they wait more comes in for each that leaves, as with a small backlog.
    let range = Range::amid(stage.sizes.tasks.min(waiting / 4));
    let setup = stage.on_filled_topic(waiting + range.total).await?.with("store.max_pending_count", waiting);
    let before = at_start(stage).await?;
    let mut broker = Running::on(&setup).await?;
    let watched = ingest::Plan {
        kafka: stage.kafka().address().to_owned(),
        topic: setup.topic.clone(),
        group: setup.group.clone(),
        count: waiting,
        patience: Duration::from_secs(60),
        pid: broker.pid,
    };
    let ingested = tokio::task::spawn_blocking(move || ingest::run(&watched)).await??;
    samples.add("ingest.rate", ingested.rate());
    samples.add("ingest.cpu", ingested.cpu_ms());
    samples.add("ingest.written", ingested.written_kb());
    memory(&broker, before, samples).await?;
    let plan = pull::Plan { pid: Some(broker.pid), ..pull::Plan::new(broker.address.clone(), 64, 4, range) };
    let figures = pull::run(plan).await?.figures;
    figures.tally.none_twice()?;
    samples.add("waiting.cpu", figures.cpu_ms());
    samples.add("waiting.rate", figures.rate());
    broker.process.kill().await?;
    samples.add("start.first", first_task(&mut broker).await?);
    broker.process.kill().await?;
    samples.add("sqlite.rate", sqlite_alone(u32::try_from(waiting / 2)?).await?);
    Ok(())
}

/// What a broker takes that has nothing, in KiB.
async fn at_start(stage: &Stage) -> Result<u64> {
    let mut broker = Running::on(&stage.on_empty_topics().await?).await?;
    let resident = process::read(broker.pid)?.resident_kib;
    broker.process.stop().await?;
    Ok(resident)
}

async fn memory(broker: &Running, before_kib: u64, samples: &mut Samples) -> Result<()> {
    let in_flight = broker.process.metrics().await?.in_flight();
    let reading = process::read(broker.pid)?;
    let more_kib = reading.resident_kib.saturating_sub(before_kib + PAYLOADS_KIB);
    ensure!(in_flight > 0.0, "nothing waits");
    samples.add("memory.waiting", more_kib as f64 * 1024.0 / in_flight);
    samples.add("memory.peak", reading.peak_kib as f64 * 1024.0 / 1e6);
    Ok(())
}

/// Starts it again. Returns after how many seconds it gave out a task.
async fn first_task(broker: &mut Running) -> Result<f64> {
    let frame = framed(&GetTaskRequest { namespace: None, application: Some(APPLICATION.to_owned()) });
    let call = Call::to(&broker.address, "ConsumerService/GetTask")?;
    let began = Instant::now();
    broker.process.spawn()?;
    loop {
        ensure!(began.elapsed() < Duration::from_secs(120), "no task was given out after a start");
        tokio::time::sleep(Duration::from_millis(5)).await;
        let Ok(connection) = Connection::to(&broker.address).await else { continue };
        if connection.call(&call, frame.clone()).await.is_ok_and(|answer| answer.code == OK) {
            return Ok(began.elapsed().as_secs_f64());
        }
    }
}

async fn sqlite_alone(rows: u32) -> Result<f64> {
    let directory = tempfile::tempdir()?;
    tokio::task::spawn_blocking(move || sqlite::insert(directory.path(), rows, BATCH, SIZE)).await?
}
