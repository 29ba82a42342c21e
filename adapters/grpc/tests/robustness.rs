//! Cancelled calls, hostile clients, limits, and the end.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use support::{MockTasks, RawConnection, framed, offer, options, serve, serve_with};
use taskbroker_domain::ports::service::{Offer, Report, Reported, TaskService, Unavailable, Wanted};
use taskbroker_grpc::{Drained, GrpcOptions, GrpcServer};
use taskbroker_proto::pb::{GetTaskRequest, SetTaskStatusRequest};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::{Notify, Semaphore, mpsc},
};
use tonic::Code;

/// Claims at once and answers when it may.
struct Slow {
    claimed: Arc<Notify>,
    may_answer: Arc<Semaphore>,
    put_back: mpsc::UnboundedSender<()>,
}

#[async_trait]
impl TaskService for Slow {
    async fn fetch(&self, _: Wanted) -> Result<Option<Offer>, Unavailable> {
        let offer = offer(&b"\x0a\x011"[..], &self.put_back);
        self.claimed.notify_one();
        self.may_answer.acquire().await.unwrap().forget();
        Ok(Some(offer))
    }

    async fn report(&self, _: Report) -> Result<Reported, Unavailable> {
        Ok(Reported::Settled)
    }

    async fn report_all(&self, reports: Vec<Report>) -> Result<Vec<Reported>, Unavailable> {
        Ok(vec![Reported::Settled; reports.len()])
    }
}

/// A slow service, what tells of its claims, what lets it answer, and what tells of tasks put back.
fn slow() -> (Slow, Arc<Notify>, Arc<Semaphore>, mpsc::UnboundedReceiver<()>) {
    let (put_back, was_put_back) = mpsc::unbounded_channel();
    let claimed = Arc::new(Notify::new());
    let may_answer = Arc::new(Semaphore::new(0));
    let tasks = Slow { claimed: Arc::clone(&claimed), may_answer: Arc::clone(&may_answer), put_back };
    (tasks, claimed, may_answer, was_put_back)
}

#[tokio::test]
async fn a_call_cancelled_between_claim_and_answer_puts_the_task_back() {
    let (tasks, claimed, _may_answer, mut was_put_back) = slow();
    let served = serve(tasks).await;
    let mut client = served.client().await;
    let call = tokio::spawn(async move { client.get_task(GetTaskRequest::default()).await });
    claimed.notified().await;
    call.abort();
    was_put_back.recv().await.unwrap();
}

#[tokio::test]
async fn a_task_that_was_taken_is_not_put_back() {
    let (tasks, _claimed, may_answer, mut was_put_back) = slow();
    may_answer.add_permits(1);
    let served = serve(tasks).await;
    let mut client = served.client().await;
    assert!(client.get_task(GetTaskRequest::default()).await.unwrap().into_inner().task.is_some());
    drop(client);
    assert_eq!(served.stop().await, Drained::Clean);
    assert_eq!(was_put_back.recv().await, None, "the service is gone, and nothing was put back");
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_unavailable_and_puts_its_task_back() {
    let (tasks, _claimed, _may_answer, mut was_put_back) = slow();
    let served = serve_with(GrpcOptions { call_time_max: Duration::from_millis(20), ..options() }, tasks).await;
    let error = served.client().await.get_task(GetTaskRequest::default()).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Unavailable, "the broker did not answer within 0.02 s"));
    was_put_back.recv().await.unwrap();
}

#[tokio::test]
async fn calls_beyond_the_limit_wait_for_their_turn() {
    let (tasks, claimed, may_answer, _was_put_back) = slow();
    let served = serve_with(GrpcOptions { calls_max: 1, ..options() }, tasks).await;
    let mut client = served.client().await;
    let mut second = client.clone();
    let first = tokio::spawn(async move { client.get_task(GetTaskRequest::default()).await });
    claimed.notified().await;
    assert!(second.set_task_status(impatient()).await.is_err(), "it waits longer than the client does");
    may_answer.add_permits(1);
    first.await.unwrap().unwrap();
    second.set_task_status(complete()).await.unwrap();
}

fn complete() -> SetTaskStatusRequest {
    SetTaskStatusRequest { id: "1".into(), status: 5, ..Default::default() }
}

/// A request that the client gives up while it waits.
fn impatient() -> tonic::Request<SetTaskStatusRequest> {
    let mut request = tonic::Request::new(complete());
    request.set_timeout(Duration::from_millis(50));
    request
}

#[tokio::test]
async fn connections_beyond_the_limit_are_served_when_one_is_closed() {
    let (tasks, ..) = slow();
    let served = serve_with(GrpcOptions { connections_max: 1, ..options() }, tasks).await;
    let mut first = served.client().await;
    first.set_task_status(complete()).await.unwrap();
    let mut second = served.client().await;
    assert!(second.set_task_status(impatient()).await.is_err(), "nobody accepts the connection");
    drop(first);
    second.set_task_status(complete()).await.unwrap();
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_and_the_connection_lives_on() {
    let (tasks, ..) = slow();
    let served = serve(tasks).await;
    let mut client = served.client().await;
    let request = SetTaskStatusRequest { id: "x".repeat(20 << 20), ..complete() };
    let error = client.set_task_status(request).await.unwrap_err();
    assert_eq!(error.code(), Code::OutOfRange, "{error}");
    client.set_task_status(complete()).await.unwrap();
}

#[tokio::test]
async fn malformed_calls_are_answered_with_a_status_and_stop_nothing() {
    let (tasks, ..) = slow();
    let served = serve(tasks).await;
    let mut connection = RawConnection::open(served.address).await;
    let internal = "13";
    let invalid_argument = "3";
    let cases: [(&str, Bytes, &str); 8] = [
        ("no frame at all", Bytes::new(), internal),
        ("half a frame header", Bytes::from_static(&[0, 0, 0]), internal),
        ("a frame that promises more", Bytes::from_static(&[0, 0, 0, 0, 9, 1]), internal),
        ("an unknown compression flag", Bytes::from_static(&[7, 0, 0, 0, 0]), internal),
        ("compressed without saying how", Bytes::from_static(&[1, 0, 0, 0, 0]), internal),
        ("a frame of four gigabytes", Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff]), "11"),
        ("no protobuf", framed(b"\xff\xff\xff\xff"), invalid_argument),
        ("text that is not UTF-8", framed(b"\x0a\x02\xff\xfe"), invalid_argument),
    ];
    for (what, body, code) in cases {
        let status = connection.call("SetTaskStatus", body).await;
        assert_eq!(status.code, code, "{what}: {}", status.message);
    }
    assert_eq!(connection.call("NoSuchMethod", framed(&[])).await.code, "12");
    served.client().await.set_task_status(complete()).await.unwrap();
}

#[tokio::test]
async fn what_is_not_http2_is_dropped_and_stops_nothing() {
    let (tasks, ..) = slow();
    let served = serve(tasks).await;
    for noise in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 4096],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(noise).await.unwrap();
        stream.shutdown().await.unwrap();
    }
    served.client().await.set_task_status(complete()).await.unwrap();
}

#[tokio::test]
async fn a_bug_in_the_broker_fails_one_call_only() {
    let mut tasks = MockTasks::new();
    tasks.expect_fetch().returning(|_| panic!("a bug, on purpose"));
    tasks.expect_report().returning(|_| Ok(Reported::Settled));
    let mut client = serve(tasks).await.client().await;
    let error = client.get_task(GetTaskRequest::default()).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Internal, "the broker failed to answer, by a bug of its own"));
    client.set_task_status(complete()).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_lets_calls_under_way_finish() {
    let (tasks, claimed, may_answer, _was_put_back) = slow();
    let served = serve(tasks).await;
    let mut client = served.client().await;
    let call = tokio::spawn(async move { client.get_task(GetTaskRequest::default()).await });
    claimed.notified().await;
    served.shutdown.cancel();
    may_answer.add_permits(1);
    assert!(call.await.unwrap().is_ok());
    assert_eq!(served.stop().await, Drained::Clean);
}

#[tokio::test]
async fn a_shutdown_waits_only_so_long_and_puts_back_what_it_cuts_off() {
    let (tasks, claimed, _may_answer, mut was_put_back) = slow();
    let served = serve_with(GrpcOptions { drain_time_max: Duration::from_millis(20), ..options() }, tasks).await;
    let mut client = served.client().await;
    let call = tokio::spawn(async move { client.get_task(GetTaskRequest::default()).await });
    claimed.notified().await;
    assert_eq!(served.stop().await, Drained::Cut);
    was_put_back.recv().await.unwrap();
    assert!(call.await.unwrap().is_err());
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_the_reason() {
    let taken = GrpcServer::bind(options()).await.unwrap();
    let port = taken.local_addr().port();
    let error = GrpcServer::bind(GrpcOptions { port, ..options() }).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("grpc_addr, grpc_port: cannot listen on 127.0.0.1:{port}: ")), "{error}");
    assert!(error.contains("in use"), "{error}");
    let nowhere = GrpcOptions { host: "no such host".into(), ..options() };
    assert!(GrpcServer::bind(nowhere).await.unwrap_err().to_string().contains("cannot listen on no such host:0: "));
}
