//! gRPC alone: a tonic server in a process of its own that answers the broker's calls with nothing, and callers.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use taskbroker_proto::pb::{
    GetTaskRequest, GetTaskResponse, SetBatchActivationStatusRequest, SetBatchActivationStatusResponse,
    SetTaskStatusRequest, SetTaskStatusResponse, TaskActivationStatus,
    consumer_service_server::{ConsumerService, ConsumerServiceServer},
};
use tokio::{
    net::TcpListener,
    sync::Mutex,
    task::JoinSet,
    time::{Instant as TokioInstant, sleep_until},
};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

use crate::{
    activation::id,
    client::{Call, Connection, framed},
    latency::Latency,
    process::{self, Stretch},
};

/// Answers everything with nothing.
struct Empty;

#[async_trait::async_trait]
impl ConsumerService for Empty {
    async fn get_task(&self, _: Request<GetTaskRequest>) -> Result<Response<GetTaskResponse>, Status> {
        Ok(Response::new(GetTaskResponse::default()))
    }

    async fn set_task_status(
        &self,
        _: Request<SetTaskStatusRequest>,
    ) -> Result<Response<SetTaskStatusResponse>, Status> {
        Ok(Response::new(SetTaskStatusResponse::default()))
    }

    async fn set_batch_activation_status(
        &self,
        _: Request<SetBatchActivationStatusRequest>,
    ) -> Result<Response<SetBatchActivationStatusResponse>, Status> {
        Ok(Response::new(SetBatchActivationStatusResponse::default()))
    }
}

/// The server's process: says its address on standard output and serves until it is killed.
pub(crate) async fn serve() -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    tonic::transport::Server::builder()
        .add_service(ConsumerServiceServer::new(Empty))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await?;
    Ok(())
}

/// Such a process. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// `host:port`.
    pub(crate) address: String,
}

impl Server {
    /// Starts this program once more, as the server.
    pub(crate) fn start() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg("serve-empty").stdout(Stdio::piped()).spawn().context("the empty server")?;
        let mut address = String::new();
        let stdout = child.stdout.take().context("the empty server's output")?;
        BufReader::new(stdout).read_line(&mut address)?;
        Ok(Self { child, address: address.trim().to_owned() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Which calls are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) callers: usize,
    pub(crate) connections: usize,
    pub(crate) calls: usize,
    /// Calls per second in all; without one each caller makes its next call as soon as the last is answered.
    pub(crate) rate: Option<f64>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) calls: usize,
    pub(crate) stretch: Stretch,
    pub(crate) latency: Latency,
}

/// Makes calls that look like reports.
pub(crate) async fn run(server: &Server, plan: Plan) -> Result<Called> {
    let connections = Connection::several(&server.address, plan.connections).await?;
    let call = Call::to(&server.address, "ConsumerService/SetTaskStatus")?;
    let frame = framed(&SetTaskStatusRequest {
        id: id(0, 0),
        status: TaskActivationStatus::Complete.into(),
        ..SetTaskStatusRequest::default()
    });
    let latency = Arc::new(Mutex::new(Latency::default()));
    let before = process::read(server.pid())?;
    let mut callers = JoinSet::new();
    let began = TokioInstant::now();
    for number in 0..plan.callers {
        let connection = connections[number % connections.len()].clone();
        let caller = Caller { connection, call: call.clone(), frame: frame.clone(), latency: Arc::clone(&latency) };
        callers.spawn(caller.run(plan, number, began));
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    let stretch = Stretch::between(&before, &process::read(server.pid())?);
    let latency = latency.lock().await.clone();
    Ok(Called { calls: plan.calls / plan.callers * plan.callers, stretch, latency })
}

struct Caller {
    connection: Connection,
    call: Call,
    frame: Bytes,
    latency: Arc<Mutex<Latency>>,
}

impl Caller {
    async fn run(self, plan: Plan, number: usize, began: TokioInstant) -> Result<()> {
        for turn in 0..plan.calls / plan.callers {
            if let Some(rate) = plan.rate {
                let place = (turn * plan.callers + number) as f64;
                sleep_until(began + Duration::from_secs_f64(place / rate)).await;
            }
            let sent = Instant::now();
            self.connection.call(&self.call, self.frame.clone()).await?;
            self.latency.lock().await.record(sent.elapsed());
        }
        Ok(())
    }
}

impl Called {
    /// Milliseconds of the server's CPU per 1,000 calls.
    pub(crate) fn cpu_ms(&self) -> f64 {
        self.stretch.cpu_ms * 1e3 / self.calls.max(1) as f64
    }

    /// Calls per second.
    pub(crate) fn rate(&self) -> f64 {
        self.calls as f64 / self.stretch.took_s
    }
}

impl std::fmt::Display for Called {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} calls: {:.0}/s, {:.1} ms CPU of the server per 1,000", self.calls, self.rate(), self.cpu_ms())?;
        write!(f, "empty call: {}", self.latency)
    }
}
