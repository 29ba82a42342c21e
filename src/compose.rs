//! The composition root: the one place that names adapters and plugs them into the engine.

pub mod evacuate;
mod health;
mod kafka;
pub mod playground;
#[cfg(test)]
mod reach;
mod rules;
pub mod store;
mod tasks;
pub mod traces;
mod workers;

use std::{net::SocketAddr, num::NonZeroU64, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use bytes::Bytes;
use taskbroker_clock::SystemClock;
use taskbroker_domain::{
    policy::{Limits, Policy},
    ports::{clock::Clock, outbox::Outbox, service::TaskService},
};
use taskbroker_grpc::GrpcServer;
use taskbroker_kafka::{KafkaOutbox, KafkaSourceOptions, TopicMaker};
use taskbroker_proto::{MARK_HEADER, canary, codec::Codec};
use taskbroker_telemetry::{Condition, HealthState, HttpOptions, HttpServer, Metrics, StatsdOptions};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use uuid::Uuid;

use self::{
    tasks::Tasks,
    traces::{Traces, traced},
    workers::Push,
};
use crate::{
    engine::{Broker, Options, Ports},
    reload::RulesWatch,
    settings::Settings,
};
pub(crate) use kafka::cluster;

/// A broker with its ports to the world.
pub struct Daemon {
    /// The engine.
    pub broker: Broker,
    /// Where workers reach it.
    pub grpc_addr: Option<SocketAddr>,
    /// Where metrics and probes are served.
    pub http_addr: Option<SocketAddr>,
    outbox: Arc<KafkaOutbox>,
    /// They end when they are dropped.
    topic_makers: Vec<TopicMaker>,
    health: HealthState,
    tasks: Tasks,
    stop_serving: CancellationToken,
    stop_http: CancellationToken,
    grpc: Option<JoinHandle<()>>,
    http: Option<JoinHandle<()>>,
    metering: JoinHandle<()>,
    shutdown_timeout: Duration,
}

impl Daemon {
    /// Takes the ports, opens the store, and starts everything. What the operator can mend is an error in one line.
    pub async fn start(
        settings: &Settings,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        traces: Option<&Traces>,
    ) -> Result<Self> {
        Self::start_with(settings, kafka::source_options(settings), clock, metrics, traces).await
    }

    /// The same, with other options of the sources than the settings can express.
    async fn start_with(
        settings: &Settings,
        sources: Vec<KafkaSourceOptions>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        traces: Option<&Traces>,
    ) -> Result<Self> {
        let hangup = rules::hangup()?;
        let grpc = bind_grpc(settings).await?;
        let http = bind_http(settings).await?;
        let push = Push::new(settings, traces)?;
        let health = HealthState::new();
        let (tasks, stop_http) = (Tasks::default(), CancellationToken::new());
        let http_addr = http.as_ref().map(HttpServer::local_addr);
        let http = http.map(|server| serve_http(&tasks, server, metrics.clone(), health.clone(), &stop_http));
        let metering = tasks.begin("metering", &stop_http, metrics.clone().run(stop_http.clone()));

        let store = store::open(settings, clock.as_ref()).await?;
        let topic_makers = kafka::look_after_topics(settings)?;
        let codec = codec(settings);
        let feeds = kafka::feeds(settings, sources, &codec)?;
        let outbox = Arc::new(KafkaOutbox::new(kafka::outbox_options(settings))?);
        let canaries = canaries(settings, clock.as_ref());
        let messages = traced(traces, Arc::clone(&outbox) as Arc<dyn Outbox>, Traces::outbox);
        let ports = Ports { store, feeds, outbox: messages, codec, clock };
        let mut options = engine_options(settings);
        let mut watch = settings.rules.clone().map(RulesWatch::new);
        if let Some(watch) = &mut watch
            && let Some(file) = watch.look().await
        {
            options.rules = rules::in_force(settings, &outbox, file).unwrap_or_default();
        }
        let broker = Broker::start(ports, options).await.context("the store cannot be loaded")?;

        broker.take_in(canaries);
        metrics.refresh_with(broker.refresh_gauges());
        if let Some(push) = push {
            push.begin(&broker);
        }

        let stop_serving = CancellationToken::new();
        let keeping = rules::keep_in_force(settings, watch, hangup, &broker, outbox.clone(), stop_serving.clone());
        tasks.begin("rules", &stop_serving, keeping);
        let watching = health::watch(&broker, health.clone(), settings.health_forced, stop_serving.clone());
        tasks.begin("health", &stop_serving, watching);
        let grpc_addr = grpc.as_ref().map(GrpcServer::local_addr);
        let service = traced(traces, broker.service(), Traces::tasks);
        let grpc = grpc.map(|server| serve_grpc(&tasks, server, service, &health, &stop_serving));
        Ok(Self {
            broker,
            grpc_addr,
            http_addr,
            outbox,
            topic_makers,
            health,
            tasks,
            stop_serving,
            stop_http,
            grpc,
            http,
            metering,
            shutdown_timeout: settings.shutdown_timeout,
        })
    }

    /// Resolves when a part of the broker failed or ended by itself: the reason stands in the log, and nothing can be done
    /// but to stop.
    pub async fn failed(&self) {
        tokio::select! {
            () = self.broker.failed() => {}
            () = self.tasks.failed() => {}
        }
    }

    /// Stops in order: intake, handing out, reports under way, the last commit, the group, the store. Bounded in time.
    pub async fn stop(self) {
        let sixteenth = self.shutdown_timeout / 16;
        self.health.set_ready(Condition::bad("the broker is stopping"));
        drop(self.topic_makers);
        self.broker.stop_intake();
        self.outbox.hurry();
        self.stop_serving.cancel();
        let at_once = match self.grpc {
            Some(mut grpc) => {
                let at_once = tokio::time::timeout(sixteenth, &mut grpc).await.is_ok();
                if !at_once {
                    finished(grpc, sixteenth * 4, "gRPC").await;
                }
                at_once
            }
            None => true,
        };
        // What calls under way did not need is for the groups: in a rebalance the last commits wait for all members.
        self.broker.shut_down(sixteenth * if at_once { 12 } else { 8 }).await;
        self.outbox.close(sixteenth).await;
        self.stop_http.cancel();
        if let Some(http) = self.http {
            finished(http, sixteenth, "HTTP").await;
        }
        finished(self.metering, sixteenth, "metering").await;
    }
}

async fn finished(task: JoinHandle<()>, limit: Duration, what: &str) {
    if tokio::time::timeout(limit, task).await.is_err() {
        warn!(what, "did not stop in time");
    }
}

async fn bind_grpc(settings: &Settings) -> Result<Option<GrpcServer>> {
    match workers::grpc_options(settings) {
        Some(options) => Ok(Some(GrpcServer::bind(options).await?)),
        None => Ok(None),
    }
}

async fn bind_http(settings: &Settings) -> Result<Option<HttpServer>> {
    let Some(address) = settings.http_listen else { return Ok(None) };
    let options = HttpOptions { host: address.ip().to_string(), port: address.port(), ..HttpOptions::default() };
    Ok(Some(HttpServer::bind(options).await?))
}

fn serve_http(
    tasks: &Tasks,
    server: HttpServer,
    metrics: Metrics,
    health: HealthState,
    stop: &CancellationToken,
) -> JoinHandle<()> {
    let serving = server.serve(metrics, health, stop.clone());
    tasks.begin("http", stop, async move {
        if let Err(error) = serving.await {
            error!(%error, "the HTTP port stopped");
        }
    })
}

fn serve_grpc(
    tasks: &Tasks,
    server: GrpcServer,
    service: Arc<dyn TaskService>,
    health: &HealthState,
    stop: &CancellationToken,
) -> JoinHandle<()> {
    let serving = server.serve(service, health.watch_live(), stop.clone());
    tasks.begin("grpc", stop, async move {
        if let Err(error) = serving.await {
            error!(%error, "the gRPC port stopped");
        }
    })
}

fn engine_options(settings: &Settings) -> Options {
    let store = &settings.store;
    let policy = Policy {
        window: store.linger,
        lease_grace: store.deadline_grace,
        max_lost_leases: store.max_lost_leases.get(),
        payload_memory_bytes: store.payload_memory_bytes.get() as u64,
        tombstones_keep: store.tombstones_keep,
        early_reports_max: store.early_reports_max,
        hold_after_crash: store.hold_after_crash,
        absent_partition_limit: store.absent_partition_limit,
        group_commit_interval: kafka::commit_interval(settings),
        offset_resets: kafka::offset_resets(settings),
        limits: Limits {
            pending: store.max_pending.get(),
            delayed: store.max_delayed.get(),
            processing: store.max_processing.get(),
            outgoing: store.max_outbox.get(),
            unserved: store.max_unserved.get(),
            parked: store.max_parked.get(),
        },
        quiet_after_start: settings.quiet_after_start,
        topics: settings.kafka.sources.len().max(1),
        default_application: settings.default_application.clone().map(String::into_boxed_str),
        ..Policy::default()
    };
    let store_bytes_max = store.max_bytes.map(NonZeroU64::get);
    Options { policy, mark_header: MARK_HEADER, store_bytes_max, ..Options::default() }
}

/// How activations are read and their retries written.
fn codec(settings: &Settings) -> Arc<Codec> {
    Arc::new(Codec::new(settings.max_delay))
}

/// Canary tasks for each application that workers are known of.
#[expect(clippy::disallowed_methods, reason = "the ids of canary tasks are made here")]
fn canaries(settings: &Settings, clock: &dyn Clock) -> Vec<Bytes> {
    let now = clock.now().wall;
    let of = |application: &String| {
        let one = |_| canary(&Uuid::new_v4().simple().to_string(), application, now);
        (0..settings.canary_tasks).map(one).collect::<Vec<_>>()
    };
    settings.delivery.worker_map.keys().flat_map(of).collect()
}

/// Where metrics are sent, if anywhere.
pub fn statsd_options(settings: &Settings) -> Option<StatsdOptions> {
    let address = settings.metrics.statsd_address.as_ref()?;
    Some(StatsdOptions { tags: settings.metrics.default_tags.clone(), ..StatsdOptions::new(address) })
}

/// The clock that everything runs by.
pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

#[cfg(test)]
mod tests;
