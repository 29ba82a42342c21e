//! What an answer, or its absence, says of a task's whereabouts.

use prost::Message;
use taskbroker_domain::ports::worker::{Offered, Refused};
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckResponse, health_check_response::ServingStatus};

use crate::{frame::HEAD_BYTES, tls::root_cause};

/// What came back from a call.
#[derive(Debug)]
pub(super) enum Answer {
    /// A status, and the message before it.
    Status {
        status: Status,
        /// In its frame.
        message: Vec<u8>,
    },
    /// Nothing, and nothing of the message was sent.
    NotSent(String),
    /// The request was certainly not worked on.
    NotWorkedOn(String),
    /// Nothing that says what became of it.
    Nothing(String),
}

impl Answer {
    /// What it means for the task that was offered.
    pub(super) fn offered(self) -> Offered {
        match self {
            Self::Status { status, .. } => by_status(&status),
            Self::NotSent(reason) => Offered::Refused(Refused::Unreachable(reason)),
            Self::NotWorkedOn(reason) => Offered::Refused(Refused::Declined(reason)),
            Self::Nothing(reason) => Offered::Unknown(reason),
        }
    }

    /// Whether there is a worker that serves. One that knows no health checks does.
    pub(super) fn serves(self) -> Result<(), String> {
        match self {
            Self::Status { status, message } => match status.code() {
                Code::Ok if is_serving(&message) => Ok(()),
                Code::Ok => Err("it says that it does not serve (yet)".into()),
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Err(in_words(&status)),
                _ => Ok(()),
            },
            Self::NotSent(reason) | Self::NotWorkedOn(reason) | Self::Nothing(reason) => Err(reason),
        }
    }
}

fn is_serving(framed: &[u8]) -> bool {
    let message = framed.get(HEAD_BYTES..).unwrap_or_default();
    HealthCheckResponse::decode(message).is_ok_and(|answer| answer.status() == ServingStatus::Serving)
}

/// A status that the worker sent. Cancelled and timed-out calls are ended by gRPC itself, whatever the worker has done with
/// them by then.
fn by_status(status: &Status) -> Offered {
    match status.code() {
        Code::Ok => Offered::Delivered,
        Code::Cancelled | Code::DeadlineExceeded => Offered::Unknown(in_words(status)),
        Code::ResourceExhausted | Code::OutOfRange if is_about_size(status.message()) => {
            Offered::Refused(Refused::TooLarge(in_words(status)))
        }
        Code::ResourceExhausted => Offered::Refused(Refused::Busy(in_words(status))),
        _ => Offered::Refused(Refused::Declined(in_words(status))),
    }
}

/// What servers say of a request beyond their limit: gRPC's core (Python, C++, Ruby), grpc-go, grpc-java, tonic.
fn is_about_size(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["larger than max", "message length too large", "exceeds maximum size"].iter().any(|text| message.contains(text))
}

fn in_words(status: &Status) -> String {
    match status.message() {
        "" => format!("{:?}", status.code()),
        message => format!("{:?}: {message}", status.code()),
    }
}

/// A call without an answer: whether the worker's side said of this very request that it was not worked on.
pub(super) fn broken(error: &(dyn std::error::Error + 'static)) -> Answer {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    match causes.any(refuses_the_stream) {
        true => Answer::NotWorkedOn("it refused the stream".into()),
        false => Answer::Nothing(root_cause(error)),
    }
}

fn refuses_the_stream(cause: &(dyn std::error::Error + 'static)) -> bool {
    let Some(error) = cause.downcast_ref::<h2::Error>() else { return false };
    error.is_remote() && error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(code: Code, message: &str) -> Offered {
        Answer::Status { status: Status::new(code, message), message: Vec::new() }.offered()
    }

    #[test]
    fn a_status_of_the_worker_is_certain() {
        assert_eq!(offered(Code::Ok, ""), Offered::Delivered);
        assert!(matches!(offered(Code::ResourceExhausted, "worker busy"), Offered::Refused(Refused::Busy(_))));
        for code in [Code::Unavailable, Code::Unauthenticated, Code::Internal, Code::Unknown, Code::Unimplemented] {
            assert!(matches!(offered(code, "no"), Offered::Refused(Refused::Declined(_))), "{code:?}");
        }
    }

    #[test]
    fn calls_that_grpc_ended_leave_a_doubt() {
        for code in [Code::Cancelled, Code::DeadlineExceeded] {
            assert!(matches!(offered(code, ""), Offered::Unknown(_)), "{code:?}");
        }
    }

    #[test]
    fn a_message_beyond_the_workers_limit_is_told_from_a_busy_worker() {
        for (code, message) in [
            (Code::ResourceExhausted, "SERVER: Received message larger than max (5242901 vs. 4194304)"),
            (Code::ResourceExhausted, "grpc: received message larger than max (5242901 vs. 4194304)"),
            (Code::ResourceExhausted, "gRPC message exceeds maximum size 4194304: 5242901"),
            (Code::OutOfRange, "Error, decoded message length too large: found 5242901 bytes, the limit is: 4194304"),
        ] {
            assert!(matches!(offered(code, message), Offered::Refused(Refused::TooLarge(_))), "{message}");
        }
    }

    #[test]
    fn a_worker_serves_when_it_says_so_or_does_not_know_the_question() {
        let says =
            |code, message: &[u8]| Answer::Status { status: Status::new(code, ""), message: message.to_vec() }.serves();
        assert!(says(Code::Ok, &[0, 0, 0, 0, 2, 0x08, 1]).is_ok());
        assert!(says(Code::Ok, &[0, 0, 0, 0, 2, 0x08, 2]).is_err());
        assert!(says(Code::Ok, &[]).is_err());
        assert!(says(Code::Unimplemented, &[]).is_ok());
        assert!(says(Code::Unauthenticated, &[]).is_ok());
        assert!(says(Code::Unavailable, &[]).is_err());
        assert!(Answer::NotSent("refused".into()).serves().is_err());
    }
}
