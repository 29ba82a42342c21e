//! Sample workers: ask for tasks over gRPC, as real ones do, and do what the kind of task says.

use std::{sync::Arc, time::Duration};

use taskbroker_domain::ports::clock::Clock;
use taskbroker_proto::pb::{
    FetchNextTask, GetTaskRequest, SetTaskStatusRequest, TaskActivation, TaskActivationStatus as Status,
    consumer_service_client::ConsumerServiceClient,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Channel};
use tracing::warn;

use super::{
    sample::{self, APPLICATION, Kind},
    tally::Tally,
};

/// How long to wait when there is nothing to do.
const IDLE: Duration = Duration::from_millis(20);
/// How long to wait when the broker cannot be asked just now.
const TROUBLE: Duration = Duration::from_millis(200);

#[derive(Clone)]
pub(super) struct Worker {
    pub(super) broker: ConsumerServiceClient<Channel>,
    pub(super) tally: Arc<Tally>,
    pub(super) clock: Arc<dyn Clock>,
}

/// What a worker does with a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It reports this.
    Report(Status),
    /// It never says anything.
    Silence,
}

impl Worker {
    /// Works until it is stopped; a task that was begun is finished.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut task = None;
        while !stop.is_cancelled() || task.is_some() {
            task = match task {
                Some(task) => self.work(task, &stop).await,
                None => self.fetch(&stop).await,
            };
        }
    }

    async fn fetch(&mut self, stop: &CancellationToken) -> Option<TaskActivation> {
        let request = GetTaskRequest { application: Some(APPLICATION.to_owned()), namespace: None };
        let wait = match self.broker.get_task(request).await {
            Ok(response) => return response.into_inner().task,
            Err(status) if status.code() == Code::NotFound => IDLE,
            Err(status) => {
                warn!(code = ?status.code(), reason = status.message(), "a sample worker got no task");
                TROUBLE
            }
        };
        stop.run_until_cancelled(tokio::time::sleep(wait)).await;
        None
    }

    /// Does the task, reports on it, and takes the next one along.
    async fn work(&mut self, task: TaskActivation, stop: &CancellationToken) -> Option<TaskActivation> {
        let (Some(tag), Some(kind)) = (sample::tag(&task), Kind::named(&task.taskname)) else {
            return self.report(&task.id, Status::Failure, stop).await;
        };
        let times = self.tally.begin(&tag, kind, self.clock.now().steady);
        tokio::time::sleep(kind.duration(tag.number)).await;
        let attempt = task.retry_state.map_or(0, |state| state.attempts);
        let Verdict::Report(status) = verdict(kind, attempt, times) else { return None };
        let next = self.report(&task.id, status, stop).await;
        if status != Status::Retry {
            self.tally.finish(&tag, kind);
        }
        next
    }

    /// Reports until the broker has taken it: a report that gets no answer may be lost, and may be repeated.
    async fn report(&mut self, id: &str, status: Status, stop: &CancellationToken) -> Option<TaskActivation> {
        let next = FetchNextTask { application: Some(APPLICATION.to_owned()), namespace: None };
        loop {
            let request = SetTaskStatusRequest {
                id: id.to_owned(),
                status: status.into(),
                fetch_next_task: (!stop.is_cancelled()).then(|| next.clone()),
                ..SetTaskStatusRequest::default()
            };
            match self.broker.set_task_status(request).await {
                Ok(response) => return response.into_inner().task,
                Err(status) => {
                    warn!(code = ?status.code(), reason = status.message(), "a sample worker's report was not taken yet");
                    tokio::time::sleep(TROUBLE).await;
                }
            }
        }
    }
}

/// `times`: how often workers had this task or its retries, as far as that is known.
fn verdict(kind: Kind, attempt: u32, times: Option<u32>) -> Verdict {
    match kind {
        Kind::Quick | Kind::Slow | Kind::Delayed => Verdict::Report(Status::Complete),
        Kind::Flaky if attempt == 0 => Verdict::Report(Status::Retry),
        Kind::Flaky => Verdict::Report(Status::Complete),
        Kind::Failing | Kind::Hopeless => Verdict::Report(Status::Failure),
        Kind::Forgotten if times == Some(1) => Verdict::Silence,
        Kind::Forgotten => Verdict::Report(Status::Complete),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_to_an_end() {
        for kind in sample::KINDS {
            let last = verdict(kind, 1, Some(2));
            assert!(matches!(last, Verdict::Report(Status::Complete | Status::Failure)), "{kind:?}: {last:?}");
        }
    }

    #[test]
    fn a_flaky_task_asks_for_one_retry_and_a_forgotten_one_is_forgotten_once() {
        assert_eq!(verdict(Kind::Flaky, 0, Some(1)), Verdict::Report(Status::Retry));
        assert_eq!(verdict(Kind::Flaky, 1, Some(2)), Verdict::Report(Status::Complete));
        assert_eq!(verdict(Kind::Forgotten, 0, Some(1)), Verdict::Silence);
        assert_eq!(verdict(Kind::Forgotten, 0, Some(2)), Verdict::Report(Status::Complete));
        assert_eq!(verdict(Kind::Forgotten, 0, None), Verdict::Report(Status::Complete));
    }
}
