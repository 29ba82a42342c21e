//! Starts that do not go as they should.

use std::{
    io::{Seek, SeekFrom, Write},
    time::Duration,
};

use anyhow::Result;
use taskbroker_support::{broker::BrokerProcess, kafka::Kafka};

use super::{broker, crew::assert_empty, produce, setup, tasks};

const WITHIN: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_second_broker_on_the_same_file_is_refused_and_the_first_is_named() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let (setup, first) = broker(&kafka, 1).await?;
    let mut second = first.on_same_store(&setup)?;
    second.spawn()?;
    let ended = second.ended(WITHIN).await?;
    assert_eq!(ended.status.code(), Some(1));
    let name = format!("pid {}", first.pid().unwrap());
    assert!(second.log().tail(3).contains(&name), "it names the owner, {name}:\n{}", second.log().tail(3));
    assert_eq!(first.worker()?.fetch().await?, None, "the first goes on");
    Ok(())
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_that_names_the_key() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let (setup, first) = broker(&kafka, 1).await?;
    for (key, port) in [("grpc_port", first.grpc_port()), ("http_port", first.grpc_port())] {
        let mut second = BrokerProcess::prepare(&setup.clone().with(key, port))?;
        second.spawn()?;
        let ended = second.ended(WITHIN).await?;
        assert_eq!(ended.status.code(), Some(1), "{key}");
        let said = second.log().tail(3);
        assert!(said.contains(key) && said.contains(&port.to_string()), "{key}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_store_that_is_gone_is_made_anew_and_kafka_goes_on_where_it_was() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let (setup, mut broker) = broker(&kafka, 1).await?;
    produce(&kafka, &setup.topic, tasks(5)).await?;
    let mut worker = broker.worker()?;
    assert_eq!(worker.complete_all(Duration::from_secs(3)).await?.len(), 5);
    broker.stop().await?;
    std::fs::remove_file(broker.store_path())?;
    let ids = produce(&kafka, &setup.topic, tasks(3)).await?;
    broker.start_again().await?;
    assert_eq!(worker.complete_all(Duration::from_secs(3)).await?, ids);
    assert_empty(&broker, WITHIN).await
}

#[tokio::test]
async fn a_damaged_store_is_set_aside_and_said() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1).await?.with("store.linger", "0ms");
    let mut broker = BrokerProcess::start(&setup).await?;
    produce(&kafka, &setup.topic, tasks(200)).await?;
    broker.worker()?.fetch_within(WITHIN).await?.unwrap();
    broker.stop().await?;
    let mut file = std::fs::OpenOptions::new().write(true).open(broker.store_path())?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(4096))?;
    file.write_all(&vec![0x5a; usize::try_from(length - 4096)?])?;
    file.sync_all()?;
    drop(file);

    let ids = produce(&kafka, &setup.topic, tasks(3)).await?;
    broker.start_again().await?;
    let said = broker.log().with("was damaged and was set aside").pop().unwrap();
    let beside = std::fs::read_dir(broker.store_path().parent().unwrap())?;
    let aside: Vec<String> = beside
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<_>>()?;
    let aside =
        aside.into_iter().find(|name| name.contains(".damaged-") && name.ends_with(char::is_uppercase)).unwrap();
    assert!(said.contains("ERROR") && said.contains(&aside), "{said}");
    assert_eq!(broker.worker()?.complete_all(Duration::from_secs(3)).await?, ids, "new tasks are served");
    Ok(())
}

#[tokio::test]
async fn a_topic_that_does_not_exist_is_named_and_waited_for_while_the_store_is_served() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1).await?.with("store.linger", "0ms");
    let mut broker = BrokerProcess::start(&setup).await?;
    produce(&kafka, &setup.topic, tasks(3)).await?;
    let mut worker = broker.worker()?;
    let first = worker.fetch_within(WITHIN).await?.unwrap();
    worker.complete(&first.id).await?;
    broker.stop().await?;
    kafka.delete_topic(&setup.topic).await?;

    let mark = broker.log().mark();
    broker.start_again().await?;
    let said = broker.log().await_line(mark, "the topic does not exist", WITHIN).await?;
    assert!(said.contains(&setup.topic), "{said}");
    assert_eq!(worker.complete_all(Duration::from_millis(500)).await?.len(), 2, "the store is served");
    kafka.create_topic(&setup.topic, 1, &[]).await?;
    let ids = produce(&kafka, &setup.topic, tasks(2)).await?;
    assert_eq!(worker.fetch_within(Duration::from_secs(20)).await?.unwrap().id, ids[0]);
    worker.complete(&ids[0]).await?;
    assert_eq!(worker.complete_all(Duration::from_secs(1)).await?, ids[1..]);
    assert_empty(&broker, WITHIN).await
}
