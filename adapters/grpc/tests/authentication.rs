//! Signed and unsigned calls.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, future::select_all};
use h2::{SendStream, client::ResponseFuture};
use support::{MockTasks, RawConnection, RawStatus, Served, framed, options, serve, serve_with, sign, status};
use taskbroker_domain::ports::service::Reported;
use taskbroker_grpc::{Delivery, GrpcOptions, Secrets};
use taskbroker_proto::pb::{FetchNextTask, GetTaskRequest, SetTaskStatusRequest};
use tokio::time::timeout;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const GET_TASK: &str = "/sentry_protos.taskbroker.v1.ConsumerService/GetTask";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// Sooner than any body times out, and long enough on a busy machine.
const SOON: Duration = Duration::from_secs(20);

const OK: &str = "0";
const NOT_FOUND: &str = "5";
const RESOURCE_EXHAUSTED: &str = "8";
const UNAUTHENTICATED: &str = "16";

/// A broker with nothing to do that wants calls signed, of at most 1000 bytes.
async fn secured() -> Served {
    let mut tasks = MockTasks::new();
    tasks.expect_fetch().returning(|_| Ok(None));
    let secrets = Secrets::new(["present", "former"]);
    serve_with(GrpcOptions { secrets, request_bytes_max: 1000, ..options() }, tasks).await
}

async fn connect(served: &Served) -> RawConnection {
    RawConnection::open(served.address).await
}

fn refusal() -> RawStatus {
    RawStatus { code: UNAUTHENTICATED.into(), message: "Authentication%20failed".into() }
}

#[tokio::test]
async fn a_call_signed_by_any_of_the_secrets_is_let_in() {
    let served = secured().await;
    let mut connection = connect(&served).await;
    for secret in ["present", "former"] {
        let signature = sign(secret, GET_TASK, b"\x12\x03app");
        let answer = connection.call_with(GET_TASK, Some(&signature), framed(b"\x12\x03app")).await;
        assert_eq!(answer.code, NOT_FOUND, "{secret}: {}", answer.message);
    }
}

#[tokio::test]
async fn any_other_call_is_refused_with_a_status_of_grpc() {
    let served = secured().await;
    let mut connection = connect(&served).await;
    let of_another_secret = sign("other", GET_TASK, b"");
    let of_another_message = sign("present", GET_TASK, b"\x12\x03app");
    let of_another_method = sign("present", "/sentry_protos.taskbroker.v1.ConsumerService/SetTaskStatus", b"");
    let signatures = [&of_another_secret, &of_another_message, &of_another_method, "", "00"];
    for signature in signatures.into_iter().map(Some).chain([None]) {
        assert_eq!(connection.call_with(GET_TASK, signature, framed(b"")).await, refusal(), "{signature:?}");
    }
}

#[tokio::test]
async fn bodies_of_every_shape_are_refused_and_stop_nothing() {
    let served = secured().await;
    let mut connection = connect(&served).await;
    let compressed = Bytes::from_static(&[1, 0, 0, 0, 0]);
    let two_messages = [framed(b""), framed(b"")].concat();
    for body in [
        Bytes::new(),
        Bytes::from_static(&[0, 0]),
        Bytes::from_static(&[0, 0, 0, 0, 9, 1]),
        compressed,
        two_messages.into(),
    ] {
        let signature = sign("present", GET_TASK, b"");
        assert_eq!(connection.call_with(GET_TASK, Some(&signature), body.clone()).await, refusal(), "{body:?}");
    }
    let (response, mut stream) = connection.begin(GET_TASK, Some("00"));
    stream.send_data(Bytes::from_static(&[0, 0]), false).unwrap();
    stream.send_reset(h2::Reason::CANCEL);
    assert!(response.await.is_err());
    let signature = sign("present", GET_TASK, b"");
    assert_eq!(connection.call_with(GET_TASK, Some(&signature), framed(b"")).await.code, NOT_FOUND);
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_before_it_is_read() {
    let served = secured().await;
    let mut connection = connect(&served).await;
    let (response, mut stream) = connection.begin(GET_TASK, Some(&sign("present", GET_TASK, b"")));
    stream.send_data(Bytes::from_static(&[0, 0, 0, 0x03, 0xe9]), false).unwrap();
    let answer = status(response).await;
    assert_eq!(answer.code, RESOURCE_EXHAUSTED, "the rest was never sent: {}", answer.message);
    assert!(answer.message.contains("grpc_max_request_size"), "{}", answer.message);
}

#[tokio::test]
async fn an_unsigned_body_is_not_waited_for() {
    let served = secured().await;
    let mut connection = connect(&served).await;
    let (response, _never_ended) = connection.begin(GET_TASK, None);
    assert_eq!(status(response).await, refusal());
}

/// A broker whose room for unverified bodies is full after four large ones.
async fn cramped() -> Served {
    let mut tasks = MockTasks::new();
    tasks.expect_fetch().returning(|_| Ok(None));
    let options = GrpcOptions { request_bytes_max: 1000, unverified_bytes_max: 0, ..options() };
    serve_with(GrpcOptions { secrets: Secrets::new(["present"]), ..options }, tasks).await
}

/// A body of a stranger that is never ended.
fn begin_endless(connection: &mut RawConnection) -> (ResponseFuture, SendStream<Bytes>) {
    let (response, mut stream) = connection.begin(GET_TASK, Some("00"));
    let most = [&[0, 0, 0, 0x03, 0xe8][..], &[1; 990]].concat();
    stream.send_data(most.into(), false).unwrap();
    (response, stream)
}

#[tokio::test]
async fn slow_strangers_do_not_keep_signed_callers_out() {
    let served = cramped().await;
    let (mut strangers, mut answers, mut streams) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..4 {
        let mut stranger = connect(&served).await;
        let (answer, stream) = begin_endless(&mut stranger);
        strangers.push(stranger);
        answers.push(answer);
        streams.push(stream);
    }
    let message = [&[0x12, 200, 1][..], &[b'a'; 200]].concat();
    let signature = sign("present", GET_TASK, &message);
    let mut signed = connect(&served).await;
    let mut first = select_all(answers.into_iter().map(|answer| Box::pin(status(answer))));
    let calling = async {
        loop {
            let answer = signed.call_with(GET_TASK, Some(&signature), framed(&message)).await;
            assert_eq!(answer.code, NOT_FOUND, "{}", answer.message);
            if let Some((first, ..)) = (&mut first).now_or_never() {
                break first;
            }
        }
    };
    let first = timeout(SOON, calling).await.expect("a signed caller waits, or no stranger gives way");
    assert_eq!(first.code, RESOURCE_EXHAUSTED, "one of them gave way: {}", first.message);
}

#[tokio::test]
async fn a_connection_of_strangers_takes_no_more_than_its_share() {
    let served = cramped().await;
    let mut stranger = connect(&served).await;
    let (first, _first) = begin_endless(&mut stranger);
    let (second, _second) = begin_endless(&mut stranger);
    let second = status(second);
    let refused = async {
        tokio::select! {
            refused = status(first) => refused,
            refused = second => refused,
        }
    };
    let refused = timeout(SOON, refused).await.expect("both may go on");
    assert_eq!(refused.code, RESOURCE_EXHAUSTED);
}

#[tokio::test]
async fn health_needs_no_signature_and_reflection_does() {
    let served = secured().await;
    let mut health = HealthClient::new(served.channel().await);
    assert_eq!(health.check(HealthCheckRequest::default()).await.unwrap().into_inner().status, 1);
    let mut connection = connect(&served).await;
    let list_services = b"\x3a\x00";
    assert_eq!(connection.call_with(REFLECTION, None, framed(list_services)).await, refusal());
    let signature = sign("present", REFLECTION, list_services);
    assert_eq!(connection.call_with(REFLECTION, Some(&signature), framed(list_services)).await.code, OK);
}

#[tokio::test]
async fn without_secrets_a_body_is_not_held_until_its_end() {
    let served = serve(MockTasks::new()).await;
    let mut connection = connect(&served).await;
    let (response, mut stream) = connection.begin(REFLECTION, None);
    stream.send_data(framed(b"\x3a\x00"), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    assert!(!body.data().await.unwrap().unwrap().is_empty(), "answered while the stream is open");
}

#[tokio::test]
async fn in_push_mode_asking_is_refused_and_reporting_is_not() {
    let mut tasks = MockTasks::new();
    tasks.expect_fetch().never();
    tasks.expect_report().times(1).returning(|_| Ok(Reported::Settled));
    tasks.expect_report_all().times(1).returning(|reports| Ok(vec![Reported::Settled; reports.len()]));
    let served = serve_with(GrpcOptions { delivery: Delivery::Push, ..options() }, tasks).await;
    let mut client = served.client().await;
    let error = client.get_task(GetTaskRequest::default()).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::PermissionDenied, "Cannot call while broker is in PUSH mode"));
    let report = SetTaskStatusRequest { id: "1".into(), status: 5, ..Default::default() };
    let asking = SetTaskStatusRequest { fetch_next_task: Some(FetchNextTask::default()), ..report.clone() };
    assert_eq!(client.set_task_status(asking).await.unwrap().into_inner().task, None);
    let batch = taskbroker_proto::pb::SetBatchActivationStatusRequest { updates: vec![report] };
    client.set_batch_activation_status(batch).await.unwrap();
}
