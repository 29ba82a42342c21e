//! Workers and what they work on.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use prost::Message as _;
use taskbroker_proto::pb::{
    FetchNextTask, GetTaskRequest, OnAttemptsExceeded, RetryState, SetTaskStatusRequest, TaskActivation,
    TaskActivationStatus, consumer_service_client::ConsumerServiceClient,
};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};

use crate::kafka::Kafka;

/// The application that tasks here belong to, unless they say otherwise.
const APPLICATION: &str = "tests";

/// An activation to be produced.
#[derive(Clone, Debug)]
pub struct Task(pub TaskActivation);

impl Task {
    /// A task with an id of its own, a deadline of 60 seconds, and nothing to do when it fails.
    pub fn new() -> Self {
        let id = Kafka::unique("").split_off(1);
        Self(TaskActivation {
            id,
            namespace: "space".to_owned(),
            taskname: "task".to_owned(),
            received_at: Some(SystemTime::now().into()),
            retry_state: Some(RetryState { max_attempts: 1, ..RetryState::default() }),
            processing_deadline_duration: 60,
            application: Some(APPLICATION.to_owned()),
            ..TaskActivation::default()
        })
    }

    /// Its id.
    pub fn id(&self) -> String {
        self.0.id.clone()
    }

    /// With these arguments.
    #[must_use]
    pub fn arguments(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.parameters_bytes = bytes.into().into();
        self
    }

    /// It must never be handed out twice.
    #[must_use]
    pub fn at_most_once(mut self) -> Self {
        self.0.retry_state.get_or_insert_default().at_most_once = Some(true);
        self
    }

    /// It goes to the dead-letter topic when it fails.
    #[must_use]
    pub fn dead_letter(mut self) -> Self {
        let retry = self.0.retry_state.get_or_insert_default();
        retry.on_attempts_exceeded = OnAttemptsExceeded::Deadletter.into();
        self
    }

    /// It waits so long before it may run, in whole seconds.
    #[must_use]
    pub fn delay(mut self, seconds: u64) -> Self {
        self.0.delay = Some(seconds);
        self
    }

    /// A worker has so long for it, in whole seconds.
    #[must_use]
    pub fn deadline(mut self, seconds: u64) -> Self {
        self.0.processing_deadline_duration = seconds;
        self
    }

    /// It may be tried so often.
    #[must_use]
    pub fn attempts(mut self, max: u32) -> Self {
        self.0.retry_state.get_or_insert_default().max_attempts = max;
        self
    }

    /// It must not run any more so long after it was received, in whole seconds.
    #[must_use]
    pub fn expires(mut self, seconds: u64) -> Self {
        self.0.expires = Some(seconds);
        self
    }

    /// It was received, that is produced, at this time: delay and expiry count from it.
    #[must_use]
    pub fn received(mut self, at: SystemTime) -> Self {
        self.0.received_at = Some(at.into());
        self
    }

    /// The message's value.
    pub fn encode(&self) -> Vec<u8> {
        self.0.encode_to_vec()
    }
}

impl Default for Task {
    fn default() -> Self {
        Self::new()
    }
}

/// A worker: asks one broker for tasks and reports on them, as existing clients do.
#[derive(Clone, Debug)]
pub struct Worker {
    client: ConsumerServiceClient<Channel>,
}

/// A call that takes longer fails: the broker is frozen.
const CALL_WITHIN: Duration = Duration::from_secs(20);

impl Worker {
    /// Connects when it is used, and again whenever it was cut off.
    pub fn at(grpc_port: u16) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{grpc_port}"))?;
        let channel = endpoint.connect_timeout(Duration::from_secs(2)).timeout(CALL_WITHIN).connect_lazy();
        Ok(Self { client: ConsumerServiceClient::new(channel).max_decoding_message_size(usize::MAX) })
    }

    /// The client itself.
    pub fn client(&mut self) -> &mut ConsumerServiceClient<Channel> {
        &mut self.client
    }

    /// Asks for a task; none where there is nothing to do.
    pub async fn fetch(&mut self) -> Result<Option<TaskActivation>, Status> {
        let request = GetTaskRequest { namespace: None, application: Some(APPLICATION.to_owned()) };
        match self.client.get_task(request).await {
            Ok(answer) => Ok(answer.into_inner().task),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Asks until there is a task, for at most so long.
    pub async fn fetch_within(&mut self, within: Duration) -> Result<Option<TaskActivation>, Status> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            match self.fetch().await {
                Ok(Some(task)) => return Ok(Some(task)),
                Err(status) if tokio::time::Instant::now() > deadline => return Err(status),
                Ok(None) if tokio::time::Instant::now() > deadline => return Ok(None),
                Ok(None) | Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Reports on a task.
    pub async fn report(&mut self, id: &str, status: TaskActivationStatus) -> Result<(), Status> {
        self.client.set_task_status(report(id, status)).await.map(drop)
    }

    /// Reports on a task and asks for the next.
    pub async fn report_and_fetch(
        &mut self,
        id: &str,
        status: TaskActivationStatus,
    ) -> Result<Option<TaskActivation>, Status> {
        let next = FetchNextTask { namespace: None, application: Some(APPLICATION.to_owned()) };
        let request = SetTaskStatusRequest { fetch_next_task: Some(next), ..report(id, status) };
        Ok(self.client.set_task_status(Request::new(request)).await?.into_inner().task)
    }

    /// Completes a task.
    pub async fn complete(&mut self, id: &str) -> Result<(), Status> {
        self.report(id, TaskActivationStatus::Complete).await
    }

    /// Completes whatever comes, until nothing has come for so long. Returns the ids in the order in which they came.
    pub async fn complete_all(&mut self, quiet_for: Duration) -> Result<Vec<String>, Status> {
        let mut ids = Vec::new();
        while let Some(task) = self.fetch_within(quiet_for).await? {
            self.complete(&task.id).await?;
            ids.push(task.id);
        }
        Ok(ids)
    }
}

fn report(id: &str, status: TaskActivationStatus) -> SetTaskStatusRequest {
    SetTaskStatusRequest { id: id.to_owned(), status: status.into(), ..SetTaskStatusRequest::default() }
}
