//! The connections to one address, and one call over one of them.

use std::{
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as _;
use tokio::time::timeout;
use tonic::{
    Status,
    body::Body,
    transport::{self, Channel},
};
use tower::Service;

use super::{
    connector::Connector,
    outcome::{Answer, broken},
    withdrawable::{Withdrawable, Withdrawal},
};
use crate::{
    frame::{self, Parts},
    gives_way::Calls,
    signature::{HEADER, Secrets},
};

/// How much of an answer is read, in bytes: the answers of a worker are a few bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// An address, with connections that are made when they are needed, and again when they broke.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// With the calls under way over each.
    channels: Vec<(Channel, Calls)>,
    next: AtomicUsize,
    secrets: Secrets,
}

impl Endpoint {
    pub(super) fn new(
        target: &transport::Endpoint,
        connections: usize,
        connect_time_max: Duration,
        secrets: Secrets,
    ) -> Self {
        let channel = |_| {
            let calls = Calls::default();
            (target.connect_with_connector_lazy(Connector::new(calls.clone(), connect_time_max)), calls)
        };
        Self { channels: (0..connections.max(1)).map(channel).collect(), next: AtomicUsize::new(0), secrets }
    }

    /// Sends one message, given in parts, and reads what comes back within `time_max`.
    ///
    /// Until a connection asks for its first bytes, nothing of the message goes; if the call ends so, that is certain.
    pub(super) async fn call(&self, path: &'static str, message: [Bytes; 2], time_max: Duration) -> Answer {
        let Some((request, withdrawal)) = self.request(path, message) else {
            return Answer::NotWorkedOn("the message is too long for a gRPC frame".into());
        };
        let seconds = time_max.as_secs_f32();
        match timeout(time_max, self.exchange(request)).await {
            Ok(Answer::Nothing(reason)) if withdrawal.withdraw() => Answer::NotSent(reason),
            Ok(answer) => answer,
            Err(_elapsed) if withdrawal.withdraw() => {
                Answer::NotSent(format!("nothing could be sent within {seconds} s"))
            }
            Err(_elapsed) => Answer::Nothing(format!("no answer within {seconds} s")),
        }
    }

    async fn exchange(&self, request: Request<Body>) -> Answer {
        let (channel, calls) = self.next();
        let _under_way = calls.begin();
        match send(channel, request).await {
            Ok(response) => read(response).await,
            Err(error) => broken(&error),
        }
    }

    fn request(&self, path: &'static str, message: [Bytes; 2]) -> Option<(Request<Body>, Withdrawal)> {
        let signature = self.secrets.sign(path, &[&message[0], &message[1]]);
        let head = frame::head(message.iter().map(Bytes::len).sum())?;
        let [first, second] = message;
        let (body, withdrawal) = Withdrawable::new(Parts::new([Bytes::copy_from_slice(&head), first, second]));
        let mut request = Request::post(path).body(Body::new(body)).ok()?;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        if let Some(signature) = signature.and_then(|signature| HeaderValue::try_from(signature).ok()) {
            headers.insert(HeaderName::from_static(HEADER), signature);
        }
        Some((request, withdrawal))
    }

    /// They take turns.
    fn next(&self) -> &(Channel, Calls) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.channels.len().max(1);
        &self.channels[turn]
    }
}

async fn send(channel: &Channel, request: Request<Body>) -> Result<Response<Body>, transport::Error> {
    let mut channel = channel.clone();
    std::future::poll_fn(|context| channel.poll_ready(context)).await?;
    channel.call(request).await
}

/// The status stands in the head of an answer without a message, else behind it.
async fn read(response: Response<Body>) -> Answer {
    let (head, mut body) = response.into_parts();
    if head.status != StatusCode::OK {
        return Answer::Nothing(format!("HTTP status {}, which no gRPC worker answers", head.status));
    }
    if let Some(status) = Status::from_header_map(&head.headers) {
        return Answer::Status { status, message: Vec::new() };
    }
    let mut message = Vec::new();
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        match frame {
            None => return Answer::Nothing("the answer ended without a status".into()),
            Some(Err(status)) => return Answer::Nothing(format!("the answer broke off: {}", status.message())),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if message.len() + data.len() > ANSWER_BYTES_MAX => {
                    return Answer::Nothing("the answer is far too long".into());
                }
                Ok(data) => message.extend_from_slice(&data),
                Err(frame) => return ended(&frame.into_trailers().unwrap_or_default(), message),
            },
        }
    }
}

fn ended(trailers: &HeaderMap, message: Vec<u8>) -> Answer {
    match Status::from_header_map(trailers) {
        Some(status) => Answer::Status { status, message },
        None => Answer::Nothing("the answer ended without a status".into()),
    }
}
