//! What existing clients are answered: codes and texts.

use std::time::Duration;

use anyhow::Result;
use taskbroker_proto::pb::{
    FetchNextTask, GetTaskRequest, SetBatchActivationStatusRequest, SetTaskStatusRequest, TaskActivationStatus,
};
use taskbroker_support::kafka::Kafka;
use tonic::Code;

use super::{broker, crew::assert_empty, produce, tasks};

fn report(id: &str, status: i32) -> SetTaskStatusRequest {
    SetTaskStatusRequest { id: id.to_owned(), status, ..SetTaskStatusRequest::default() }
}

#[tokio::test]
async fn existing_clients_get_the_codes_and_texts_that_they_know() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let (_, broker) = broker(&kafka, 1).await?;
    let mut worker = broker.worker()?;
    let client = worker.client();

    let nothing = client.get_task(GetTaskRequest::default()).await.unwrap_err();
    assert_eq!((nothing.code(), nothing.message()), (Code::NotFound, "No pending activations"));
    let of_no_application = GetTaskRequest { namespace: Some("space".to_owned()), application: None };
    assert_eq!(client.get_task(of_no_application).await.unwrap_err().code(), Code::NotFound);

    let unknown = client.set_task_status(report("nobody", TaskActivationStatus::Complete.into())).await?;
    assert_eq!(unknown.into_inner().task, None);
    let pending = client.set_task_status(report("nobody", TaskActivationStatus::Pending.into())).await.unwrap_err();
    assert_eq!(pending.code(), Code::InvalidArgument);
    let expected = "Invalid status, expects 3 (Failure), 4 (Retry), or 5 (Complete), but got: Pending";
    assert_eq!(pending.message(), expected);
    let foreign = client.set_task_status(report("nobody", 77)).await.unwrap_err();
    assert_eq!(foreign.code(), Code::InvalidArgument);
    assert!(foreign.message().starts_with("Unable to deserialize status: "), "{}", foreign.message());
    Ok(())
}

#[tokio::test]
async fn a_report_brings_the_next_task_and_an_empty_answer_when_there_is_none() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let (setup, broker) = broker(&kafka, 1).await?;
    let ids = produce(&kafka, &setup.topic, tasks(4)).await?;
    let mut worker = broker.worker()?;

    let first = worker.fetch_within(Duration::from_secs(15)).await?.unwrap();
    assert_eq!(first.id, ids[0], "the oldest comes first");
    let second = worker.report_and_fetch(&first.id, TaskActivationStatus::Complete).await?.unwrap();
    assert_eq!(second.id, ids[1]);
    let third = worker.fetch().await?.unwrap();
    let batch = [&second.id, &third.id].map(|id| report(id, TaskActivationStatus::Complete.into())).to_vec();
    worker.client().set_batch_activation_status(SetBatchActivationStatusRequest { updates: batch }).await?;
    let last = worker.fetch().await?.unwrap();
    assert_eq!(last.id, ids[3]);
    let next = FetchNextTask { namespace: None, application: Some("tests".to_owned()) };
    let request =
        SetTaskStatusRequest { fetch_next_task: Some(next), ..report(&last.id, TaskActivationStatus::Complete.into()) };
    assert_eq!(worker.client().set_task_status(request).await?.into_inner().task, None);
    assert_empty(&broker, Duration::from_secs(5)).await
}
