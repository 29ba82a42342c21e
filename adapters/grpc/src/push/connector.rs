//! Makes connections to workers on which many calls share a write.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::net::TcpStream;
use tower::Service;

use crate::gives_way::{Calls, GivesWay};

/// How often an idle connection is tried by TCP, so that a host that vanished is noticed.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Connects by TCP; TLS is put over it.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    tcp: HttpConnector,
    calls: Calls,
}

impl Connector {
    /// `calls`: those made over its connections. `time_max`: how long the addresses of a name are tried in
    /// all, each for its part.
    pub(super) fn new(calls: Calls, time_max: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        tcp.set_connect_timeout(Some(time_max));
        Self { tcp, calls }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<GivesWay<TcpStream>>;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(context)
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let (connecting, calls) = (self.tcp.call(address), self.calls.clone());
        Box::pin(async move { Ok(TokioIo::new(GivesWay::calling(connecting.await?.into_inner(), calls))) })
    }
}
