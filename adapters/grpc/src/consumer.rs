//! `ConsumerService` over the broker's [`TaskService`]. Codes and texts are those that existing clients rely on.

use std::sync::Arc;

use taskbroker_domain::ports::service::{Offer, Report, TaskService, Unavailable, Wanted};
use taskbroker_proto::{
    pb::{
        FetchNextTask, GetTaskRequest, SetBatchActivationStatusRequest, SetBatchActivationStatusResponse,
        SetTaskStatusRequest,
    },
    raw::{ConsumerService, GetTaskResponse, SetTaskStatusResponse},
};
use tonic::{Request, Response, Status};
use tracing::debug;

use crate::{
    options::Delivery,
    request::{report, wanted},
};

/// How many reports of a batch go to the service at once. Push workers send as many as they have slots.
const REPORTS_AT_ONCE: usize = 1024;

/// Translates between workers and the broker.
pub(crate) struct Consumer {
    tasks: Arc<dyn TaskService>,
    delivery: Delivery,
}

impl Consumer {
    pub(crate) fn new(tasks: Arc<dyn TaskService>, delivery: Delivery) -> Self {
        Self { tasks, delivery }
    }

    async fn fetch(&self, wanted: Option<Wanted>) -> Result<Option<Offer>, Unavailable> {
        match wanted {
            Some(wanted) => self.tasks.fetch(wanted).await,
            None => Ok(None),
        }
    }

    /// The task that a report asked for. Trouble is answered like nothing to do: the report is written, and an error would
    /// make the worker send it again.
    async fn next(&self, next: FetchNextTask) -> Option<Offer> {
        self.fetch(wanted(next.namespace, next.application)).await.unwrap_or_else(|unavailable| {
            debug!(reason = unavailable.reason, "no next task with a report");
            None
        })
    }
}

#[tonic::async_trait]
impl ConsumerService for Consumer {
    /// With nothing to do it is `NOT_FOUND`: that makes clients turn to another broker. Who is given tasks need not ask.
    async fn get_task(&self, request: Request<GetTaskRequest>) -> Result<Response<GetTaskResponse>, Status> {
        if self.delivery == Delivery::Push {
            return Err(Status::permission_denied("Cannot call while broker is in PUSH mode"));
        }
        let GetTaskRequest { namespace, application } = request.into_inner();
        let offer = self.fetch(wanted(namespace, application)).await.map_err(unavailable)?;
        let offer = offer.ok_or_else(|| Status::not_found("No pending activations"))?;
        Ok(Response::new(GetTaskResponse { task: Some(offer) }))
    }

    /// The next task is claimed only after the report is durable; where tasks are pushed there is none. Unknown and refused reports are answered OK.
    async fn set_task_status(
        &self,
        request: Request<SetTaskStatusRequest>,
    ) -> Result<Response<SetTaskStatusResponse>, Status> {
        let mut request = request.into_inner();
        let next = request.fetch_next_task.take();
        if let Some(report) = report(request)? {
            self.tasks.report(report).await.map_err(unavailable)?;
        }
        let task = match next {
            Some(next) if self.delivery == Delivery::Pull => self.next(next).await,
            Some(_) | None => None,
        };
        Ok(Response::new(SetTaskStatusResponse { task }))
    }

    /// All reports are checked before the first is taken.
    async fn set_batch_activation_status(
        &self,
        request: Request<SetBatchActivationStatusRequest>,
    ) -> Result<Response<SetBatchActivationStatusResponse>, Status> {
        let reports = request.into_inner().updates.into_iter().filter_map(|update| report(update).transpose());
        let mut reports: Vec<Report> = reports.collect::<Result<_, _>>()?;
        while !reports.is_empty() {
            let later = reports.split_off(reports.len().min(REPORTS_AT_ONCE));
            self.tasks.report_all(reports).await.map_err(unavailable)?;
            reports = later;
        }
        Ok(Response::new(SetBatchActivationStatusResponse {}))
    }
}

fn unavailable(unavailable: Unavailable) -> Status {
    Status::unavailable(unavailable.reason)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use async_trait::async_trait;
    use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
    use http::Response as HttpResponse;
    use taskbroker_domain::ports::service::Reported;
    use taskbroker_proto::raw::ConsumerServiceServer;
    use tonic::body::Body;
    use tower::Service;

    use super::*;

    /// Has one task for everybody, and tells when it is put back.
    struct OneTask {
        put_back: UnboundedSender<()>,
    }

    #[async_trait]
    impl TaskService for OneTask {
        async fn fetch(&self, _: Wanted) -> Result<Option<Offer>, Unavailable> {
            let put_back = self.put_back.clone();
            Ok(Some(Offer::new((&b"\x0a\x011"[..]).into(), move || put_back.unbounded_send(()).unwrap_or(()))))
        }

        async fn report(&self, _: Report) -> Result<Reported, Unavailable> {
            Ok(Reported::Settled)
        }

        async fn report_all(&self, reports: Vec<Report>) -> Result<Vec<Reported>, Unavailable> {
            Ok(vec![Reported::Settled; reports.len()])
        }
    }

    /// Calls `GetTask` without a connection: the answer is in our hands.
    async fn get_task() -> (HttpResponse<Body>, UnboundedReceiver<()>) {
        let (put_back, was_put_back) = unbounded();
        let mut server = ConsumerServiceServer::new(Consumer::new(Arc::new(OneTask { put_back }), Delivery::Pull));
        let empty_message = tonic::codegen::http::Request::post("/sentry_protos.taskbroker.v1.ConsumerService/GetTask")
            .body(Body::new(String::from("\0\0\0\0\0")))
            .expect("a valid request");
        let answer: Result<_, Infallible> = server.call(empty_message).await;
        (answer.expect("it cannot fail"), was_put_back)
    }

    #[tokio::test]
    async fn an_answer_that_the_connection_does_not_take_puts_the_task_back() {
        let (answer, mut was_put_back) = get_task().await;
        assert!(was_put_back.try_recv().is_err(), "the answer still holds the task");
        drop(answer);
        assert_eq!(was_put_back.try_recv(), Ok(()));
    }

    #[tokio::test]
    async fn an_answer_that_the_connection_takes_keeps_the_claim() {
        use http_body::Body as _;

        let (mut answer, mut was_put_back) = get_task().await;
        let mut body = std::pin::pin!(answer.body_mut());
        let frame = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await;
        let data = frame.and_then(Result::ok).and_then(|frame| frame.into_data().ok());
        assert_eq!(data.as_deref(), Some(&b"\0\0\0\0\x05\x0a\x03\x0a\x011"[..]));
        drop(answer);
        assert!(was_put_back.try_recv().is_err());
    }
}
