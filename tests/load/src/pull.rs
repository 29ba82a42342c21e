//! Workers that fetch tasks and report them done.

use std::{fmt, sync::Arc, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use taskbroker_proto::pb::{FetchNextTask, GetTaskRequest, SetTaskStatusRequest, TaskActivationStatus};
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    activation::{APPLICATION, Carrier, Task},
    client::{Call, Connection, NOT_FOUND, OK, framed},
    latency::Latency,
    meter::{Figures, Meter, Range},
};

/// How long is waited at the end for a task that should not come.
const AFTERMATH: Duration = Duration::from_millis(300);

/// What the workers do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// `host:port`.
    pub(crate) address: String,
    pub(crate) workers: usize,
    pub(crate) connections: usize,
    pub(crate) range: Range,
    pub(crate) style: Style,
    /// How long a worker without a task waits before it asks again.
    pub(crate) poll: Duration,
    /// They give up when nothing came for so long.
    pub(crate) patience: Duration,
    /// The broker's process.
    pub(crate) pid: Option<u32>,
    pub(crate) application: String,
}

/// How they fetch and report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Style {
    /// A report asks for the next task.
    Fetch,
    /// A report asks for nothing; the next task is asked for by itself. With a rate: so many tasks per second in all.
    Pair(Option<f64>),
    /// Nothing is reported.
    ClaimOnly,
}

impl Plan {
    /// So many workers on so many connections that fetch with their reports.
    pub(crate) fn new(address: String, workers: usize, connections: usize, range: Range) -> Self {
        Self {
            address,
            workers,
            connections,
            range,
            style: Style::Fetch,
            poll: Duration::from_millis(5),
            patience: Duration::from_secs(30),
            pid: None,
            application: APPLICATION.to_owned(),
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Pulled {
    pub(crate) figures: Figures,
    /// Calls of `GetTask` that were answered with a task.
    pub(crate) get: Latency,
    /// Calls of `SetTaskStatus`.
    pub(crate) set: Latency,
}

struct Crew {
    plan: Plan,
    meter: Meter,
    calls: Mutex<Calls>,
    get: Call,
    set: Call,
    get_frame: Bytes,
    began: Instant,
}

#[derive(Default)]
struct Calls {
    get: Latency,
    set: Latency,
}

/// Runs the workers until all tasks came, or none for too long; then looks whether too many come.
pub(crate) async fn run(plan: Plan) -> Result<Pulled> {
    let connections = Connection::several(&plan.address, plan.connections).await?;
    let crew = Arc::new(Crew {
        meter: Meter::new(plan.range, plan.pid)?,
        calls: Mutex::default(),
        get: Call::to(&plan.address, "ConsumerService/GetTask")?,
        set: Call::to(&plan.address, "ConsumerService/SetTaskStatus")?,
        get_frame: framed(&GetTaskRequest { namespace: None, application: Some(plan.application.clone()) }),
        began: Instant::now(),
        plan,
    });
    let mut workers = JoinSet::new();
    for number in 0..crew.plan.workers {
        let connection = connections[number % connections.len()].clone();
        workers.spawn(work(Arc::clone(&crew), connection, number));
    }
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    let calls = std::mem::take(&mut *crew.calls.lock().await);
    Ok(Pulled { figures: crew.meter.figures()?, get: calls.get, set: calls.set })
}

async fn work(crew: Arc<Crew>, connection: Connection, number: usize) -> Result<()> {
    let mut task = None;
    let mut turn = number;
    while !crew.meter.is_done() {
        if let Style::Pair(Some(rate)) = crew.plan.style {
            sleep_until(crew.began + Duration::from_secs_f64(turn as f64 / rate)).await;
            turn += crew.plan.workers;
        }
        if task.is_none() {
            task = crew.fetch(&connection).await?;
        }
        let Some(this) = task.take() else {
            if crew.meter.is_quiet(crew.plan.patience) {
                break;
            }
            sleep(crew.plan.poll).await;
            continue;
        };
        let more = crew.meter.note(&this);
        if crew.plan.style != Style::ClaimOnly {
            task = crew.report(&connection, this, more && crew.plan.style == Style::Fetch).await?;
        }
    }
    match task {
        // It came with a report while another worker got the last one that was wanted.
        Some(task) => crew.report(&connection, task, false).await.map(drop),
        None => Ok(()),
    }
}

impl Crew {
    async fn fetch(&self, connection: &Connection) -> Result<Option<Task>> {
        let began = Instant::now();
        let answer = connection.call(&self.get, self.get_frame.clone()).await?;
        if answer.code == NOT_FOUND {
            return Ok(None);
        }
        if answer.code == OK && self.meter.measures() {
            self.calls.lock().await.get.record(began.elapsed());
        }
        Ok(answer.decoded::<Carrier>()?.task)
    }

    async fn report(&self, connection: &Connection, task: Task, more: bool) -> Result<Option<Task>> {
        let next = || FetchNextTask { namespace: None, application: Some(self.plan.application.clone()) };
        let request = SetTaskStatusRequest {
            id: task.id,
            status: TaskActivationStatus::Complete.into(),
            fetch_next_task: more.then(next),
            ..SetTaskStatusRequest::default()
        };
        let began = Instant::now();
        let answer = connection.call(&self.set, framed(&request)).await?;
        if self.meter.measures() {
            self.calls.lock().await.set.record(began.elapsed());
        }
        Ok(answer.decoded::<Carrier>()?.task)
    }
}

/// Asks for a task for a moment. Returns how many came that should not have: those of a broker that was drained.
pub(crate) async fn excess(address: &str, application: &str) -> Result<u64> {
    let connection = Connection::to(address).await?;
    let call = Call::to(address, "ConsumerService/GetTask")?;
    let frame = framed(&GetTaskRequest { namespace: None, application: Some(application.to_owned()) });
    let deadline = Instant::now() + AFTERMATH;
    let mut came = 0;
    while Instant::now() < deadline {
        match connection.call(&call, frame.clone()).await?.code {
            OK => came += 1,
            _ => sleep(Duration::from_millis(10)).await,
        }
    }
    Ok(came)
}

impl fmt::Display for Pulled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.figures)?;
        writeln!(f, "GetTask: {}", self.get)?;
        write!(f, "SetTaskStatus: {}", self.set)
    }
}
