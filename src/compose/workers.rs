//! How workers are reached: the port that they call, and the calls to those that tasks are pushed to.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Result;
use secrecy::ExposeSecret;
use taskbroker_domain::ports::worker::WorkerGateway;
use taskbroker_grpc::{ClientTls, Delivery, GrpcOptions, PushGateway, PushOptions, Secrets, ServerTls};

use super::traces::{Traces, traced};
use crate::{
    engine::{Broker, DispatchOptions},
    settings::{DeliveryMode, Settings},
};

/// What of the time for stopping the gRPC calls under way may take.
const DRAIN_SHARE: u32 = 4;
/// What of it the offers to workers under way may take.
const FINISH_SHARE: u32 = 8;

/// How the port is served that workers call; `None`: it is not.
pub(super) fn grpc_options(settings: &Settings) -> Option<GrpcOptions> {
    let address = settings.grpc_listen?;
    Some(GrpcOptions {
        host: address.ip().to_string(),
        port: address.port(),
        delivery: match settings.delivery.mode {
            DeliveryMode::Pull => Delivery::Pull,
            DeliveryMode::Push => Delivery::Push,
        },
        secrets: secrets(settings),
        tls: settings.grpc.tls.as_ref().map(|tls| ServerTls {
            certificate: tls.certificate.clone(),
            key: tls.key.clone(),
            client_ca: tls.client_ca.clone(),
        }),
        request_bytes_max: settings.grpc.max_request_bytes.get(),
        drain_time_max: settings.shutdown_timeout / DRAIN_SHARE,
        ..GrpcOptions::default()
    })
}

fn secrets(settings: &Settings) -> Secrets {
    Secrets::new(settings.grpc.shared_secrets.iter().map(ExposeSecret::expose_secret))
}

/// The calls to workers, ready to be made.
pub(super) struct Push {
    gateway: Arc<dyn WorkerGateway>,
    options: DispatchOptions,
}

impl Push {
    /// `None` where workers ask for tasks.
    pub(super) fn new(settings: &Settings, traces: Option<&Traces>) -> Result<Option<Self>> {
        if settings.delivery.mode == DeliveryMode::Pull {
            return Ok(None);
        }
        let options = push_options(settings);
        let gateway: Arc<dyn WorkerGateway> = Arc::new(PushGateway::new(&options)?);
        let gateway = traced(traces, gateway, Traces::gateway);
        Ok(Some(Self { gateway, options: dispatch_options(settings, options.workers) }))
    }

    /// Begins to offer tasks.
    pub(super) fn begin(self, broker: &Broker) {
        broker.dispatch(self.gateway, self.options);
    }
}

pub(super) fn push_options(settings: &Settings) -> PushOptions {
    let (map, push) = (&settings.delivery.worker_map, &settings.delivery.push);
    PushOptions {
        workers: map.iter().map(|(app, endpoint)| (app.clone(), endpoint.as_str().to_owned())).collect(),
        connections: push.threads.get(),
        timeout: push.timeout,
        message_bytes_max: push.max_message_bytes.get(),
        secrets: secrets(settings),
        tls: ClientTls {
            ca: push.tls_ca.clone(),
            identity: push.tls_client.as_ref().map(|ours| (ours.certificate.clone(), ours.key.clone())),
        },
    }
}

/// In the existing system each thread has one call under way, and the queue keeps the next ones claimed. Here what was claimed
/// is called at once, so both together are the calls of an application.
pub(super) fn dispatch_options(settings: &Settings, workers: BTreeMap<String, String>) -> DispatchOptions {
    let push = &settings.delivery.push;
    DispatchOptions {
        workers,
        concurrency: push.threads.get().saturating_add(push.queue_size.get()),
        offer_limit: push.timeout.saturating_add(CLAIM_TIME),
        finish_within: settings.shutdown_timeout / FINISH_SHARE,
    }
}

/// What a claim may wait for the store before its offer begins, and some time for the answer to be worked on.
const CLAIM_TIME: Duration = Duration::from_secs(10);
