//! The tool against a broker that is made up: what it drives, counts and refuses.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use taskbroker_proto::pb::{
    FetchNextTask, GetTaskRequest, GetTaskResponse, PushTaskRequest, SetBatchActivationStatusRequest,
    SetBatchActivationStatusResponse, SetTaskStatusRequest, SetTaskStatusResponse, TaskActivation,
    consumer_service_server::{ConsumerService, ConsumerServiceServer},
};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

use crate::{
    activation::id,
    client::{Call, Connection, NOT_FOUND, OK, framed},
    meter::Range,
    pull::{self, Style},
    push,
};

/// Hands these out, and notes what is reported.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    waiting: VecDeque<TaskActivation>,
    reported: Vec<String>,
    batches: Vec<usize>,
}

impl Fake {
    fn with(numbers: impl IntoIterator<Item = u64>) -> Self {
        let fake = Self::default();
        fake.0.lock().unwrap().waiting = numbers.into_iter().map(task).collect();
        fake
    }

    fn next(&self) -> Option<TaskActivation> {
        self.0.lock().unwrap().waiting.pop_front()
    }

    fn reported(&self) -> usize {
        self.0.lock().unwrap().reported.len()
    }

    async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder().add_service(ConsumerServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        address
    }
}

fn task(number: u64) -> TaskActivation {
    TaskActivation {
        id: id(0, number),
        received_at: Some(std::time::SystemTime::now().into()),
        ..TaskActivation::default()
    }
}

#[async_trait::async_trait]
impl ConsumerService for Fake {
    async fn get_task(&self, _: Request<GetTaskRequest>) -> Result<Response<GetTaskResponse>, Status> {
        let task = self.next().ok_or_else(|| Status::not_found("nothing"))?;
        Ok(Response::new(GetTaskResponse { task: Some(task) }))
    }

    async fn set_task_status(
        &self,
        request: Request<SetTaskStatusRequest>,
    ) -> Result<Response<SetTaskStatusResponse>, Status> {
        let SetTaskStatusRequest { id, fetch_next_task, .. } = request.into_inner();
        self.0.lock().unwrap().reported.push(id);
        let task = fetch_next_task.and_then(|_: FetchNextTask| self.next());
        Ok(Response::new(SetTaskStatusResponse { task }))
    }

    async fn set_batch_activation_status(
        &self,
        request: Request<SetBatchActivationStatusRequest>,
    ) -> Result<Response<SetBatchActivationStatusResponse>, Status> {
        let updates = request.into_inner().updates;
        let mut state = self.0.lock().unwrap();
        state.batches.push(updates.len());
        state.reported.extend(updates.into_iter().map(|update| update.id));
        Ok(Response::new(SetBatchActivationStatusResponse::default()))
    }
}

/// Workers that give up soon, on so many tasks.
async fn pulled(fake: &Fake, total: u64, style: Style) -> (String, pull::Pulled) {
    let address = fake.serve().await.to_string();
    let range = Range { from: total / 4, until: total / 2, total };
    let plan =
        pull::Plan { style, patience: Duration::from_millis(500), ..pull::Plan::new(address.clone(), 7, 2, range) };
    (address, pull::run(plan).await.unwrap())
}

#[tokio::test]
async fn workers_take_every_task_report_it_and_measure_the_middle() {
    for style in [Style::Fetch, Style::Pair(None), Style::Pair(Some(20_000.0))] {
        let fake = Fake::with(0..400);
        let (address, pulled) = pulled(&fake, 400, style).await;
        pulled.figures.tally.exactly(400).unwrap();
        assert_eq!(pulled.figures.tasks, 100, "{style:?}");
        assert!(pulled.figures.age.count() >= 100 && pulled.set.count() > 0, "{pulled}");
        assert_eq!(fake.reported(), 400, "{style:?}");
        assert_eq!(pull::excess(&address, "app").await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_task_that_comes_twice_and_one_that_is_missing_are_noticed() {
    let twice = pulled(&Fake::with((0..100).chain([5])), 101, Style::Fetch).await.1;
    assert_eq!(twice.figures.tally.repeated, 1);
    assert!(twice.figures.tally.none_twice().is_err());
    let (_, missing) = pulled(&Fake::with((0..100).filter(|number| *number != 60)), 100, Style::Fetch).await;
    assert!(missing.figures.tally.exactly(100).is_err());
}

#[tokio::test]
async fn tasks_beyond_what_was_produced_are_noticed() {
    let fake = Fake::with(0..3);
    let address = fake.serve().await.to_string();
    assert_eq!(pull::excess(&address, "app").await.unwrap(), 3);
}

#[tokio::test]
async fn a_pushed_task_is_accepted_and_reported_in_batches() {
    let fake = Fake::default();
    let broker = fake.serve().await.to_string();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let worker = listener.local_addr().unwrap().to_string();
    let plan = push::Plan {
        address: broker,
        concurrency: 96,
        batch: 32,
        range: Range { from: 50, until: 150, total: 200 },
        patience: Duration::from_secs(20),
        pid: None,
    };
    let serving = tokio::spawn(push::run(listener, plan));
    let connection = Connection::to(&worker).await.unwrap();
    let call = Call::to(&worker, "WorkerService/PushTask").unwrap();
    for number in 0..200 {
        let frame = framed(&PushTaskRequest { task: Some(task(number)), ..PushTaskRequest::default() });
        assert_eq!(connection.call(&call, frame).await.unwrap().code, OK);
    }
    let pushed = serving.await.unwrap().unwrap();
    pushed.figures.tally.exactly(200).unwrap();
    assert_eq!(pushed.figures.tasks, 100);
    let state = fake.0.lock().unwrap();
    assert_eq!(state.reported.len(), 200);
    assert!(state.batches.iter().all(|size| *size <= 32) && state.batches.len() >= 7, "{:?}", state.batches);
}

#[tokio::test]
async fn a_call_that_fails_says_with_which_code() {
    let address = Fake::default().serve().await.to_string();
    let connection = Connection::to(&address).await.unwrap();
    let frame = framed(&GetTaskRequest::default());
    let call = |method| Call::to(&address, method).unwrap();
    assert_eq!(connection.call(&call("ConsumerService/GetTask"), frame.clone()).await.unwrap().code, NOT_FOUND);
    let unknown = connection.call(&call("ConsumerService/Unknown"), frame).await.unwrap();
    assert_eq!(unknown.code, 12);
    assert!(unknown.decoded::<GetTaskResponse>().is_err());
}
