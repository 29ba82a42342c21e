//! Many workers at one broker, each on a connection of its own: all are served, and none is starved.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use taskbroker_support::{broker::BrokerProcess, kafka::Kafka};

use super::{
    broker,
    crew::{Crew, assert_empty, produce},
    scale,
    witness::{Kind, Witness},
};

const CONNECTED_WITHIN: Duration = Duration::from_secs(60);
/// What a worker makes of a task, in milliseconds at most.
const WORK: u64 = 40;

/// The other ends of the connections to the broker's port that stand, as the system sees them.
///
/// While other connections come and go, the system's list has some twice, and may leave one out.
fn connections(broker: &BrokerProcess) -> Result<BTreeSet<String>> {
    const ESTABLISHED: &str = "01";
    let local = format!(":{:04X}", broker.grpc_port());
    let other_end = |line: &str| {
        let mut columns = line.split_whitespace().skip(1);
        let here = columns.next()?.ends_with(&local);
        let other = columns.next()?;
        (here && columns.next() == Some(ESTABLISHED)).then(|| other.to_owned())
    };
    Ok(std::fs::read_to_string("/proc/net/tcp")?.lines().filter_map(other_end).collect())
}

/// Waits until so many connections stand.
async fn await_connections(broker: &BrokerProcess, count: usize) -> Result<BTreeSet<String>> {
    let deadline = Instant::now() + CONNECTED_WITHIN;
    loop {
        let standing = connections(broker)?;
        if standing.len() == count {
            return Ok(standing);
        }
        assert!(Instant::now() < deadline, "{} of {count} connections stand", standing.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Those of these connections that do not stand. One that the system's list leaves out is looked for again.
async fn cut_off(broker: &BrokerProcess, mut connected: BTreeSet<String>) -> Result<BTreeSet<String>> {
    for _ in 0..20 {
        let standing = connections(broker)?;
        connected.retain(|other_end| !standing.contains(other_end));
        if connected.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(connected)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_workers_on_one_broker_are_served_and_none_is_starved() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let (setup, broker) = broker(&kafka, 4).await?;
    let witness = Arc::new(Witness::default());
    let mut crew = Crew::new(&witness, WORK);
    crew.serve(&broker, scale::crowd())?;
    let workers = usize::try_from(scale::crowd())?;
    let connected = await_connections(&broker, workers).await?;

    let began = Instant::now();
    produce(&kafka, &setup, &witness, &[Kind::Plain], scale::crowd_tasks()).await?;
    witness.await_all(Duration::from_secs(20)).await;
    let took = began.elapsed();
    assert_eq!(cut_off(&broker, connected).await?, BTreeSet::new(), "nobody is cut off");
    let mut shares = crew.dismiss().await;
    shares.sort_unstable();

    let tally = witness.vindicate();
    assert_eq!(witness.not_exactly_once(), Vec::<String>::new());
    assert_eq!((shares.len(), shares.iter().sum::<usize>()), (workers, tally.produced));
    let (least, mean, most) = (shares[0], tally.produced / workers, shares[workers - 1]);
    eprintln!(
        "crowd: {workers} workers on as many connections, {tally}; {took:.1?}, {:.0} a second; \
         a worker had {least} to {most} tasks, {mean} on average",
        tally.produced as f64 / took.as_secs_f64()
    );
    assert!(least * 5 >= mean, "the worker that had least had {least} tasks, {mean} is the average: {shares:?}");
    assert_empty(&broker, Duration::from_secs(20)).await?;
    kafka.await_no_lag(&setup.group, &setup.topic, Duration::from_secs(20)).await?;
    assert_eq!(broker.log().errors(), Vec::<String>::new());
    Ok(())
}
