//! From requests to what the domain understands.

use taskbroker_domain::{
    activation::{ActivationId, RetryWish},
    ports::service::{Report, Verdict, Wanted},
};
use taskbroker_proto::{
    codec::is_possible_id,
    pb::{SetTaskStatusRequest, TaskActivationStatus},
};
use tonic::Status;

/// Which tasks are asked for. `None`: a namespace without its application, which no task fits.
pub(crate) fn wanted(namespace: Option<String>, application: Option<String>) -> Option<Wanted> {
    match (namespace, application) {
        (None, None) => Some(Wanted::Any),
        (None, Some(application)) => Some(Wanted::Application(application)),
        (Some(namespace), Some(application)) => Some(Wanted::Namespace { application, namespace }),
        (Some(_), None) => None,
    }
}

/// The report in a request. `None`: its id is one that no activation can have, so the task is unknown.
pub(crate) fn report(request: SetTaskStatusRequest) -> Result<Option<Report>, Status> {
    let verdict = verdict(&request)?;
    let possible = is_possible_id(&request.id);
    Ok(possible.then(|| Report { id: ActivationId::new(request.id), verdict }))
}

fn verdict(request: &SetTaskStatusRequest) -> Result<Verdict, Status> {
    let status = TaskActivationStatus::try_from(request.status)
        .map_err(|unknown| Status::invalid_argument(format!("Unable to deserialize status: {unknown}")))?;
    match status {
        TaskActivationStatus::Complete => Ok(Verdict::Complete),
        TaskActivationStatus::Failure => Ok(Verdict::Failure),
        TaskActivationStatus::Retry => {
            Ok(Verdict::Retry(RetryWish { max_attempts: request.max_attempts, delay_s: request.delay_on_retry }))
        }
        TaskActivationStatus::Unspecified | TaskActivationStatus::Pending | TaskActivationStatus::Processing => {
            Err(Status::invalid_argument(format!(
                "Invalid status, expects 3 (Failure), 4 (Retry), or 5 (Complete), but got: {status:?}"
            )))
        }
    }
}
