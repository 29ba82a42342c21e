//! A store that fails for good under a running broker. Nothing that was not written is answered, and the program ends, with a code
//! that a supervisor takes for a failure: half a broker would look healthy and stand still.

use std::time::Duration;

use anyhow::Result;
use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
use taskbroker_support::{
    broker::{BrokerProcess, Ended},
    kafka::Kafka,
};

use super::{broker, produce, tasks};

const WITHIN: Duration = Duration::from_secs(20);

/// Has somebody else than the broker change its store.
async fn meddle(broker: &BrokerProcess, statement: &'static str) -> Result<()> {
    let options = SqliteConnectOptions::new().filename(broker.store_path()).busy_timeout(WITHIN);
    let mut connection = options.connect().await?;
    sqlx::raw_sql(statement).execute(&mut connection).await?;
    Ok(connection.close().await?)
}

/// It ended by itself, as a failure, and said once why.
fn failed(broker: &BrokerProcess, ended: Ended) {
    let log = broker.log();
    assert_eq!(ended.status.code(), Some(1), "{}", log.tail(30));
    let said = log.with("the store failed; the broker stops");
    assert!(said.len() == 1 && said[0].contains(" ERROR ") && said[0].contains("as the test wished"), "{said:?}");
    assert_eq!(log.with("panicked at"), Vec::<String>::new());
}

#[tokio::test]
async fn a_store_that_fails_for_good_ends_the_program_with_1_and_what_it_did_not_take_is_not_answered() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let (setup, mut broker) = broker(&kafka, 1).await?;
    let mut worker = broker.worker()?;
    let ids = produce(&kafka, &setup.topic, tasks(2)).await?;
    for id in &ids {
        assert_eq!(worker.fetch_within(WITHIN).await?.map(|task| task.id), Some(id.clone()));
    }
    worker.complete(&ids[0]).await?;
    meddle(
        &broker,
        "CREATE TRIGGER meddled BEFORE INSERT ON position BEGIN SELECT RAISE(FAIL, 'as the test wished'); END",
    )
    .await?;
    assert!(worker.complete(&ids[1]).await.is_err(), "a report is answered that is not durable");
    let ended = broker.ended(WITHIN).await?;
    failed(&broker, ended);

    // Whoever starts it again, once the store is mended, finds what was not answered.
    meddle(&broker, "DROP TRIGGER meddled").await?;
    broker.start_again().await?;
    worker.complete(&ids[1]).await?;
    super::crew::assert_empty(&broker, WITHIN).await?;
    assert_eq!(broker.stop().await?.status.code(), Some(0));
    Ok(())
}
