//! The worker that tasks are pushed to: accepts them at once, and reports them done in batches.

use std::{
    fmt, mem,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use prost::Message;
use taskbroker_proto::pb::{SetBatchActivationStatusRequest, SetTaskStatusRequest, TaskActivationStatus};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::{
    activation::{Carrier, Task},
    client::{Call, Connection, OK, framed},
    latency::Latency,
    meter::{Figures, Meter, Range},
};

/// How long a batch that is not full waits.
const LINGER: Duration = Duration::from_millis(10);

/// An empty message with its prefix.
const EMPTY: &[u8] = &[0; 5];

/// What the worker does.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The broker, `host:port`.
    pub(crate) address: String,
    /// How many tasks it has at once; one more is accepted when one is reported.
    pub(crate) concurrency: usize,
    /// How many reports share a call.
    pub(crate) batch: usize,
    pub(crate) range: Range,
    pub(crate) patience: Duration,
    /// The broker's process.
    pub(crate) pid: Option<u32>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Pushed {
    pub(crate) figures: Figures,
    /// Calls of `SetBatchActivationStatus`.
    pub(crate) set: Latency,
}

struct Worker {
    meter: Meter,
    room: Semaphore,
    batch: usize,
    pending: Mutex<Vec<SetTaskStatusRequest>>,
    broker: Connection,
    call: Call,
    set: Mutex<Latency>,
    failed: Mutex<Option<anyhow::Error>>,
}

/// Serves here until all tasks came and are reported, or none came for too long.
pub(crate) async fn run(listener: TcpListener, plan: Plan) -> Result<Pushed> {
    let worker = Arc::new(Worker {
        meter: Meter::new(plan.range, plan.pid)?,
        room: Semaphore::new(plan.concurrency),
        batch: plan.batch,
        pending: Mutex::default(),
        broker: Connection::to(&plan.address).await?,
        call: Call::to(&plan.address, "ConsumerService/SetBatchActivationStatus")?,
        set: Mutex::default(),
        failed: Mutex::default(),
    });
    let serving = tokio::spawn(serve(listener, Arc::clone(&worker)));
    let sweeping = tokio::spawn(sweep(Arc::clone(&worker)));
    worker.meter.wait(plan.patience).await;
    while worker.room.available_permits() < plan.concurrency && !worker.meter.is_quiet(plan.patience) {
        tokio::time::sleep(LINGER).await;
    }
    serving.abort();
    sweeping.abort();
    if let Some(error) = locked(&worker.failed).take() {
        return Err(error);
    }
    let set = locked(&worker.set).clone();
    Ok(Pushed { figures: worker.meter.figures()?, set })
}

async fn serve(listener: TcpListener, worker: Arc<Worker>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(connection(stream, Arc::clone(&worker)));
    }
}

async fn connection(stream: TcpStream, worker: Arc<Worker>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut connection = h2::server::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(16 << 20)
        .handshake(stream)
        .await?;
    while let Some(request) = connection.accept().await {
        let (request, respond) = request?;
        tokio::spawn(accept(request, respond, Arc::clone(&worker)));
    }
    Ok(())
}

/// Takes one task in.
async fn accept(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, worker: Arc<Worker>) -> Result<()> {
    let mut body = request.into_body();
    let mut message = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        message.extend_from_slice(&data);
    }
    // Given back when the task is reported.
    worker.room.acquire().await?.forget();
    let head = Response::builder().header("content-type", "application/grpc").body(())?;
    let mut answer = respond.send_response(head, false)?;
    answer.send_data(Bytes::from_static(EMPTY), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    answer.send_trailers(trailers)?;
    let carrier = Carrier::decode(message.freeze().slice(EMPTY.len()..))?;
    worker.done(carrier.task.context("a push without a task")?);
    Ok(())
}

impl Worker {
    fn done(self: &Arc<Self>, task: Task) {
        self.meter.note(&task);
        let full = {
            let mut pending = locked(&self.pending);
            pending.push(SetTaskStatusRequest {
                id: task.id,
                status: TaskActivationStatus::Complete.into(),
                ..SetTaskStatusRequest::default()
            });
            (pending.len() >= self.batch).then(|| mem::take(&mut *pending))
        };
        if let Some(updates) = full {
            tokio::spawn(Arc::clone(self).report(updates));
        }
    }

    async fn report(self: Arc<Self>, updates: Vec<SetTaskStatusRequest>) {
        let count = updates.len();
        let frame = framed(&SetBatchActivationStatusRequest { updates });
        let began = Instant::now();
        match self.broker.call(&self.call, frame).await {
            Ok(answer) if answer.code == OK => {
                if self.meter.measures() {
                    locked(&self.set).record(began.elapsed());
                }
                self.room.add_permits(count);
            }
            Ok(answer) => self.failed(anyhow::anyhow!("a report was answered {}: {}", answer.code, answer.reason)),
            Err(error) => self.failed(error),
        }
    }

    fn failed(&self, error: anyhow::Error) {
        locked(&self.failed).get_or_insert(error);
    }
}

/// Reports what waits in a batch that does not fill.
async fn sweep(worker: Arc<Worker>) {
    loop {
        tokio::time::sleep(LINGER).await;
        let rest = mem::take(&mut *locked(&worker.pending));
        if !rest.is_empty() {
            Arc::clone(&worker).report(rest).await;
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Display for Pushed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.figures)?;
        write!(f, "SetBatchActivationStatus: {}", self.set)
    }
}
