//! Lets only signed calls in, where secrets are set. Health checks need none.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::Either;
use http::{Extensions, Request, Response};
use metrics::{Counter, counter};
use tonic::{Status, body::Body};
use tower::{Layer, Service};
use tracing::warn;

use crate::{
    GrpcOptions,
    connections::Peer,
    frame::HEAD_BYTES,
    gather::{Gathered, Trouble, gather},
    meter::UNAUTHENTICATED,
    room::{self, Room, Share},
    signature::{HEADER, Secrets},
};

/// Calls of this service are let in unsigned: probes have no secret.
const HEALTH: &str = "/grpc.health.v1.Health/";

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
    room: Room,
    room_size: usize,
    refused: Counter,
}

impl Authentication {
    /// Checks calls as these options say.
    pub(crate) fn new(options: &GrpcOptions) -> Self {
        if options.secrets.is_empty() {
            return Self(None);
        }
        let room_size = room_size(options);
        let gate = Gate {
            secrets: options.secrets.clone(),
            message_bytes_max: options.request_bytes_max,
            read_time_max: options.call_time_max,
            room: Room::new(room_size),
            room_size,
            refused: counter!(UNAUTHENTICATED),
        };
        Self(Some(Arc::new(gate)))
    }
}

/// What the bodies of unverified calls may take together.
pub(crate) fn room_size(options: &GrpcOptions) -> usize {
    room::size(options.unverified_bytes_max, options.request_bytes_max.saturating_add(HEAD_BYTES))
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
        let share = share(&head.extensions).unwrap_or_else(|| Share::of(self.room_size));
        let gathered = self.read(body, share).await?;
        match self.secrets.verify(head.uri.path(), gathered.message(), signature) {
            true => Ok(Request::from_parts(head, gathered.into_body())),
            false => Err(self.refuse("none of the secrets made its signature")),
        }
    }

    async fn read(&self, body: Body, share: Share) -> Result<Gathered, Status> {
        match gather(body, self.message_bytes_max, self.read_time_max, &self.room, share).await {
            Ok(gathered) => Ok(gathered),
            Err(Trouble::TooLarge) => Err(self.too_large()),
            Err(Trouble::NoRoom) => Err(Status::resource_exhausted("too much is being received; try again")),
            Err(Trouble::Malformed) => Err(self.refuse("it is not one whole, uncompressed message")),
            Err(Trouble::Broken) => Err(Status::cancelled("the request broke off")),
            Err(Trouble::Slow) => Err(Status::deadline_exceeded("the request took too long to arrive")),
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

/// The share of the connection that a call came by.
fn share(extensions: &Extensions) -> Option<Share> {
    Peer::of(extensions).map(|peer| peer.unverified.clone())
}
