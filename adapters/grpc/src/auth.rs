//! Lets only signed calls in, where secrets are set. Health checks need none.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::Either;
use http::{Request, Response};
use metrics::{Counter, counter};
use tokio::{sync::Semaphore, time::timeout};
use tonic::{Status, body::Body};
use tower::{Layer, Service};
use tracing::warn;

use crate::{
    gather::{Gathered, Trouble, gather},
    meter::UNAUTHENTICATED,
    signature::{HEADER, Secrets},
};

/// Calls of this service are let in unsigned: probes have no secret.
const HEALTH: &str = "/grpc.health.v1.Health/";

/// What the bodies of unverified calls may take together, in messages of the largest size; and at least so many bytes.
const LARGEST_AT_ONCE: usize = 4;
const ROOM_MIN: usize = 64 * 1024 * 1024;

/// Puts the check before a service. Without secrets nothing is read, buffered or refused.
#[derive(Clone, Debug)]
pub(crate) struct Authentication(Option<Arc<Gate>>);

/// A service behind the check.
#[derive(Clone, Debug)]
pub(crate) struct Authenticated<S> {
    inner: S,
    gate: Option<Arc<Gate>>,
}

#[derive(Debug)]
struct Gate {
    secrets: Secrets,
    message_bytes_max: usize,
    read_time_max: Duration,
    room: Arc<Semaphore>,
    refused: Counter,
}

impl Authentication {
    /// `message_bytes_max` is the largest message that is read, `read_time_max` how long reading one may take.
    pub(crate) fn new(secrets: &Secrets, message_bytes_max: usize, read_time_max: Duration) -> Self {
        if secrets.is_empty() {
            return Self(None);
        }
        let room = message_bytes_max.saturating_mul(LARGEST_AT_ONCE).clamp(ROOM_MIN, Semaphore::MAX_PERMITS);
        let gate = Gate {
            secrets: secrets.clone(),
            message_bytes_max,
            read_time_max,
            room: Arc::new(Semaphore::new(room)),
            refused: counter!(UNAUTHENTICATED),
        };
        Self(Some(Arc::new(gate)))
    }
}

impl<S> Layer<S> for Authentication {
    type Service = Authenticated<S>;

    fn layer(&self, inner: S) -> Authenticated<S> {
        Authenticated { inner, gate: self.0.clone() }
    }
}

impl<S> Service<Request<Body>> for Authenticated<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(gate) = self.gate.clone().filter(|_| !request.uri().path().starts_with(HEALTH)) else {
            return Either::Left(self.inner.call(request));
        };
        let unpolled = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, unpolled);
        Either::Right(Box::pin(async move {
            match gate.admit(request).await {
                Ok(request) => ready.call(request).await,
                Err(status) => Ok(status.into_http()),
            }
        }))
    }
}

impl Gate {
    /// The request with its body read, if it is signed.
    async fn admit(&self, request: Request<Body>) -> Result<Request<Body>, Status> {
        let (head, body) = request.into_parts();
        let Some(signature) = head.headers.get(HEADER).and_then(|value| value.to_str().ok()) else {
            return Err(self.refuse("it is not signed"));
        };
        let gathered = self.read(body).await?;
        match self.secrets.verify(head.uri.path(), gathered.message(), signature) {
            true => Ok(Request::from_parts(head, gathered.into_body())),
            false => Err(self.refuse("none of the secrets made its signature")),
        }
    }

    async fn read(&self, body: Body) -> Result<Gathered, Status> {
        let reading = gather(body, self.message_bytes_max, &self.room);
        match timeout(self.read_time_max, reading).await {
            Ok(Ok(gathered)) => Ok(gathered),
            Ok(Err(Trouble::TooLarge)) => Err(self.too_large()),
            Ok(Err(Trouble::NoRoom)) => Err(Status::resource_exhausted("too much is being received; try again")),
            Ok(Err(Trouble::Malformed)) => Err(self.refuse("it is not one whole, uncompressed message")),
            Ok(Err(Trouble::Broken)) => Err(Status::cancelled("the request broke off")),
            Err(_elapsed) => Err(Status::deadline_exceeded("the request took too long to arrive")),
        }
    }

    fn too_large(&self) -> Status {
        let limit = self.message_bytes_max;
        Status::resource_exhausted(format!("the request is larger than grpc_max_request_size allows ({limit} bytes)"))
    }

    /// The client is not told why.
    fn refuse(&self, reason: &'static str) -> Status {
        self.refused.increment(1);
        warn!(reason, "a call was refused: it has no valid signature (grpc_shared_secret)");
        Status::unauthenticated("Authentication failed")
    }
}
