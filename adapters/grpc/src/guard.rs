//! What surrounds every call: a place among those worked on, a time limit, a net for panics, and metrics.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::FutureExt;
use http::{Request, Response};
use tokio::{sync::Semaphore, time::timeout};
use tonic::{Code, Status, body::Body, server::NamedService};
use tower::Service;
use tracing::error;

use crate::{connections::Peer, meter::Meters};

/// Limits and measures the calls of a service.
#[derive(Clone, Debug)]
pub(crate) struct Guard<S> {
    inner: S,
    gate: Arc<Gate>,
}

/// What all calls share.
#[derive(Debug)]
struct Gate {
    places: Semaphore,
    call_time_max: Duration,
    meters: Meters,
}

impl<S> Guard<S> {
    pub(crate) fn new(inner: S, calls_max: usize, call_time_max: Duration, meters: Meters) -> Self {
        let places = Semaphore::new(calls_max.clamp(1, Semaphore::MAX_PERMITS));
        Self { inner, gate: Arc::new(Gate { places, call_time_max, meters }) }
    }
}

impl<S: NamedService> NamedService for Guard<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Guard<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let unpolled = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, unpolled);
        let gate = Arc::clone(&self.gate);
        let under_way = Peer::of(request.extensions()).map(|peer| peer.calls.begin());
        Box::pin(async move {
            let measurement = gate.meters.start(request.uri().path());
            let response = gate.pass(ready, request).await;
            measurement.answered(code(&response));
            drop(under_way);
            Ok(response)
        })
    }
}

impl Gate {
    /// Calls the service within the limits. Past the time limit the call is dropped, which gives back what it had claimed.
    async fn pass<S>(&self, mut service: S, request: Request<Body>) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send,
        S::Future: Send,
    {
        let call = async {
            let _place = self.places.acquire().await;
            service.call(request).await
        };
        match timeout(self.call_time_max, AssertUnwindSafe(call).catch_unwind()).await {
            Ok(Ok(Ok(response))) => response,
            Ok(Err(_panic)) => self.panicked(),
            Err(_elapsed) => self.took_too_long(),
        }
    }

    fn panicked(&self) -> Response<Body> {
        self.meters.panicked();
        error!("a call failed by a bug of the broker; the panic message above says where");
        Status::internal("the broker failed to answer, by a bug of its own").into_http()
    }

    fn took_too_long(&self) -> Response<Body> {
        Status::unavailable(format!("the broker did not answer within {} s", self.call_time_max.as_secs_f32()))
            .into_http()
    }
}

/// The status of an answer. It stands in the head of the answer unless the call succeeded.
fn code(response: &Response<Body>) -> Code {
    Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code())
}
