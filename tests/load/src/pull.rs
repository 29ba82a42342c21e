//! Runs workers that fetch and complete.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use clap::Args;
use taskbroker_proto::pb::{
    FetchNextTask, GetTaskRequest, SetTaskStatusRequest, TaskActivation, TaskActivationStatus,
    consumer_service_client::ConsumerServiceClient,
};
use tonic::{Code, transport::Channel};

use crate::{latency::Latency, process};

#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// The broker, `http://host:port`.
    #[arg(long, default_value = "http://127.0.0.1:50051")]
    grpc: String,
    #[arg(long, default_value_t = 16)]
    workers: usize,
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Stop after so many tasks.
    #[arg(long)]
    count: u64,
    /// Give up when no task came for so many seconds.
    #[arg(long, default_value_t = 30)]
    patience_s: u64,
    /// The broker's process, to read its CPU, memory and writes.
    #[arg(long)]
    pid: Option<u32>,
    #[arg(long, default_value = "app")]
    application: String,
    /// How long a worker without a task waits.
    #[arg(long, default_value_t = 5)]
    poll_ms: u64,
    /// Only GetTask: nothing is completed.
    #[arg(long)]
    claim_only: bool,
}

struct Shared {
    args: Pull,
    done: AtomicU64,
    last: AtomicU64,
    began: Instant,
    seen: Mutex<HashSet<String>>,
    repeated: AtomicU64,
}

#[derive(Default)]
struct Figures {
    get: Latency,
    set: Latency,
    end_to_end: Latency,
}

pub(crate) async fn run(args: Pull) -> Result<()> {
    let mut channels = Vec::new();
    for _ in 0..args.connections {
        channels.push(Channel::from_shared(args.grpc.clone())?.connect().await?);
    }
    let before = args.pid.map(process::read).transpose()?;
    let (workers, pid, count) = (args.workers, args.pid, args.count);
    let shared = Arc::new(Shared {
        args,
        done: AtomicU64::new(0),
        last: AtomicU64::new(0),
        began: Instant::now(),
        seen: Mutex::new(HashSet::new()),
        repeated: AtomicU64::new(0),
    });
    let tasks: Vec<_> = (0..workers)
        .map(|n| {
            let channel = channels[n % channels.len()].clone();
            tokio::spawn(work(shared.clone(), ConsumerServiceClient::new(channel)))
        })
        .collect();
    let mut figures = Figures::default();
    for task in tasks {
        let one = task.await??;
        figures.get.merge(one.get);
        figures.set.merge(one.set);
        figures.end_to_end.merge(one.end_to_end);
    }
    let took = Duration::from_millis(shared.last.load(Ordering::Relaxed)).as_secs_f64().max(0.001);
    let done = shared.done.load(Ordering::Relaxed);
    println!("{done} of {count} tasks in {took:.2} s: {:.0}/s, {workers} workers", done as f64 / took);
    println!("repeated: {}", shared.repeated.load(Ordering::Relaxed));
    println!("{}", figures.get.show("GetTask"));
    println!("{}", figures.set.show("SetTaskStatus"));
    println!("{}", figures.end_to_end.show("produced to worker"));
    if let (Some(pid), Some(before)) = (pid, before) {
        let after = process::read(pid)?;
        let per_1000 = 1000.0 / done.max(1) as f64;
        println!(
            "broker: {:.1} ms CPU per 1,000 tasks, {:.2} KB written per task, {} MiB resident, {} MiB at most",
            (after.cpu_ms - before.cpu_ms) as f64 * per_1000,
            (after.written - before.written) as f64 / done.max(1) as f64 / 1000.0,
            after.resident_kib / 1024,
            after.peak_kib / 1024
        );
    }
    Ok(())
}

async fn work(shared: Arc<Shared>, mut client: ConsumerServiceClient<Channel>) -> Result<Figures> {
    let mut figures = Figures::default();
    let mut next: Option<TaskActivation> = None;
    while shared.done.load(Ordering::Relaxed) < shared.args.count {
        let Some(task) = next.take() else {
            let began = Instant::now();
            let request = GetTaskRequest { namespace: None, application: Some(shared.args.application.clone()) };
            match client.get_task(request).await {
                Ok(response) => {
                    figures.get.record(began.elapsed());
                    next = response.into_inner().task;
                }
                Err(status) if status.code() == Code::NotFound => {
                    if shared.is_idle() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(shared.args.poll_ms)).await;
                }
                Err(status) => return Err(status.into()),
            }
            continue;
        };
        shared.note(&task, &mut figures);
        if shared.args.claim_only {
            continue;
        }
        let request = SetTaskStatusRequest {
            id: task.id,
            status: TaskActivationStatus::Complete.into(),
            fetch_next_task: Some(FetchNextTask {
                namespace: None,
                application: Some(shared.args.application.clone()),
            }),
            ..Default::default()
        };
        let began = Instant::now();
        next = client.set_task_status(request).await?.into_inner().task;
        figures.set.record(began.elapsed());
    }
    Ok(figures)
}

impl Shared {
    fn note(&self, task: &TaskActivation, figures: &mut Figures) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.last.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
        if !self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(task.id.clone()) {
            self.repeated.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(at) = &task.received_at {
            let produced = Duration::new(at.seconds as u64, at.nanos as u32);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            figures.end_to_end.record(now.saturating_sub(produced));
        }
    }

    fn is_idle(&self) -> bool {
        let quiet = self.began.elapsed().as_millis() as u64 - self.last.load(Ordering::Relaxed);
        quiet > self.args.patience_s * 1000
    }
}
