//! `grpc.health.v1`, driven by what the broker says of its progress.

use taskbroker_proto::raw::ConsumerServiceServer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::consumer::Consumer;

/// The names that are watched: the server as a whole, and the one service it has.
const NAMES: [&str; 2] = ["", <ConsumerServiceServer<Consumer> as NamedService>::NAME];

/// Tells clients what `serving` says.
pub(crate) async fn announce(reporter: &HealthReporter, serving: bool) {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in NAMES {
        reporter.set_service_status(name, status).await;
    }
}

/// Announces every change until `shutdown`, then that it is over; open watches end with that. A sender that is gone is a
/// broker that is gone.
pub(crate) async fn follow(
    mut reporter: HealthReporter,
    mut serving: watch::Receiver<bool>,
    shutdown: CancellationToken,
) {
    while shutdown.run_until_cancelled(serving.changed()).await.is_some_and(|changed| changed.is_ok()) {
        let now = *serving.borrow_and_update();
        announce(&reporter, now).await;
    }
    announce(&reporter, false).await;
    shutdown.cancelled().await;
    for name in NAMES {
        reporter.clear_service_status(name).await;
    }
}
