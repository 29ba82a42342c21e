//! Binds the port, serves it, and drains it.

use std::{io, net::SocketAddr, sync::Arc};

use futures::future::join;
use taskbroker_domain::ports::service::TaskService;
use taskbroker_proto::{FILE_DESCRIPTOR_SET, raw::ConsumerServiceServer};
use tokio::{net::TcpListener, sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::{
    server::NamedService,
    transport::{Server, ServerTlsConfig, server::Router},
};
use tonic_health::server::{HealthReporter, health_reporter};
use tower::layer::util::{Identity, Stack};
use tracing::{info, warn};

use crate::{
    GrpcOptions, ServerTls, TlsError,
    auth::{self, Authentication},
    connections,
    consumer::Consumer,
    guard::Guard,
    health,
    meter::Meters,
    tls::unusable,
};

/// A bound gRPC port.
#[derive(Debug)]
pub struct GrpcServer {
    options: GrpcOptions,
    tls: Option<ServerTlsConfig>,
    listener: TcpListener,
    local_addr: SocketAddr,
}

/// The port cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// It could not be taken.
    #[error("grpc_addr, grpc_port: cannot listen on {host}:{port}: {source}")]
    Listen {
        /// The host as configured.
        host: String,
        /// The port as configured.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// Its certificates or keys cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The server stopped by itself.
#[derive(Debug, thiserror::Error)]
#[error("the gRPC server stopped: {0}")]
pub struct ServeError(#[from] tonic::transport::Error);

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every call was answered.
    Clean,
    /// Time was up; connections with calls under way were cut. What those calls had claimed is put back.
    Cut,
}

impl GrpcServer {
    /// Reads certificates and keys, and takes the port. Clients that connect wait until it is served.
    pub async fn bind(options: GrpcOptions) -> Result<Self, BindError> {
        let tls = options.tls.as_ref().map(certificates).transpose()?;
        let error = |source| BindError::Listen { host: options.host.clone(), port: options.port, source };
        let listener = TcpListener::bind((options.host.as_str(), options.port)).await.map_err(error)?;
        let local_addr = listener.local_addr().map_err(error)?;
        Ok(Self { options, tls, listener, local_addr })
    }

    /// Where it listens, with the port that the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Answers calls until `shutdown` is cancelled, then lets those under way finish within `drain_time_max`.
    ///
    /// `serving` is what health checks are told; after `shutdown`, or once its sender is gone, it is `NOT_SERVING`.
    pub async fn serve(
        self,
        tasks: Arc<dyn TaskService>,
        serving: watch::Receiver<bool>,
        shutdown: CancellationToken,
    ) -> Result<Drained, ServeError> {
        let cut = CancellationToken::new();
        let (reporter, router) = router(&self.options, self.tls, tasks)?;
        let (at_first, serving) = subscribed(serving);
        health::announce(&reporter, at_first).await;
        info!(address = %self.local_addr, "gRPC is served");

        let incoming = connections::incoming(
            self.listener,
            self.options.connections_max,
            auth::room_size(&self.options),
            cut.clone(),
        );
        let served = router.serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
        let following = health::follow(reporter, serving, shutdown.clone());
        let time_is_up = async {
            shutdown.cancelled().await;
            sleep(self.options.drain_time_max).await;
        };
        tokio::select! {
            (served, ()) = join(served, following) => Ok(served.map(|()| Drained::Clean)?),
            () = time_is_up => {
                warn!("gRPC calls were cut off at shutdown");
                cut.cancel();
                Ok(Drained::Cut)
            }
        }
    }
}

/// The present value, and a receiver for which only later ones are changes.
fn subscribed(mut serving: watch::Receiver<bool>) -> (bool, watch::Receiver<bool>) {
    let at_first = *serving.borrow_and_update();
    (at_first, serving)
}

/// Reads them and has them tried out, so that what is wrong is told at start.
fn certificates(tls: &ServerTls) -> Result<ServerTlsConfig, TlsError> {
    let config = tls.read()?;
    Server::builder().tls_config(config.clone()).map_err(|error| unusable(ServerTls::KEYS, &error))?;
    Ok(config)
}

type Routed = Router<Stack<Authentication, Identity>>;

fn router(
    options: &GrpcOptions,
    tls: Option<ServerTlsConfig>,
    tasks: Arc<dyn TaskService>,
) -> Result<(HealthReporter, Routed), ServeError> {
    let (reporter, health) = health_reporter();
    let names = [service_name::<ConsumerServiceServer<Consumer>>(), name_of(&health)];
    let consumer = ConsumerServiceServer::new(Consumer::new(tasks, options.delivery))
        .max_decoding_message_size(options.request_bytes_max);
    let meters = Meters::new(&["GetTask", "SetTaskStatus", "SetBatchActivationStatus"]);
    let builder = builder(options).layer(Authentication::new(options));
    let mut builder = match tls {
        Some(tls) => builder.tls_config(tls)?,
        None => builder,
    };
    let router = builder
        .add_service(Guard::new(consumer, options.calls_max, options.call_time_max, meters))
        .add_service(health)
        .add_service(reflection(names).build_v1().expect(DESCRIPTORS))
        .add_service(reflection(names).build_v1alpha().expect(DESCRIPTORS));
    Ok((reporter, router))
}

const DESCRIPTORS: &str = "the descriptors were encoded by the build";

fn builder(options: &GrpcOptions) -> Server {
    let builder = Server::builder()
        .max_concurrent_streams(options.calls_per_connection_max)
        .http2_keepalive_interval(Some(options.keepalive_interval))
        .http2_keepalive_timeout(Some(options.keepalive_timeout));
    match options.connection_age_max {
        Some(age) => builder.max_connection_age(age),
        None => builder,
    }
}

/// Lists what is served here; the descriptors know more.
fn reflection(names: [&'static str; 2]) -> tonic_reflection::server::Builder<'static> {
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
    names.into_iter().fold(builder, |builder, name| builder.with_service_name(name))
}

fn service_name<S: NamedService>() -> &'static str {
    S::NAME
}

fn name_of<S: NamedService>(_: &S) -> &'static str {
    S::NAME
}
