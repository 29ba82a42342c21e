//! Codes, texts and bytes that clients rely on.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use mockall::{Sequence, predicate::eq};
use prost::Message;
use support::{MockTasks, serve};
use taskbroker_domain::{
    activation::{ActivationId, ID_MAX_BYTES, RetryWish},
    ports::service::{Offer, Report, Reported, Unavailable, Verdict, Wanted},
};
use taskbroker_proto::pb::{
    FetchNextTask, GetTaskRequest, SetBatchActivationStatusRequest, SetTaskStatusRequest, TaskActivation,
    TaskActivationStatus,
};
use tonic::{Code, Status};

fn activation(id: &str) -> TaskActivation {
    TaskActivation {
        id: id.into(),
        taskname: "t".into(),
        parameters_bytes: vec![0xff; 500].into(),
        ..Default::default()
    }
}

fn offered(id: &str) -> Option<Offer> {
    Some(Offer::new(activation(id).encode_to_vec().into(), || ()))
}

fn status_request(id: &str, status: i32) -> SetTaskStatusRequest {
    SetTaskStatusRequest { id: id.into(), status, ..Default::default() }
}

fn complete(id: &str) -> SetTaskStatusRequest {
    status_request(id, TaskActivationStatus::Complete.into())
}

fn report(id: &str, verdict: Verdict) -> Report {
    Report { id: ActivationId::new(id), verdict }
}

fn said(status: &Status) -> (Code, &str) {
    (status.code(), status.message())
}

fn for_shop() -> Option<FetchNextTask> {
    Some(FetchNextTask { application: Some("shop".into()), namespace: None })
}

#[tokio::test]
async fn a_worker_gets_the_task_it_asked_for() {
    let cases = [
        ((None, None), Wanted::Any),
        ((None, Some("shop")), Wanted::Application("shop".into())),
        ((Some("mail"), Some("shop")), Wanted::Namespace { application: "shop".into(), namespace: "mail".into() }),
    ];
    for ((namespace, application), wanted) in cases {
        let mut tasks = MockTasks::new();
        tasks.expect_fetch().with(eq(wanted)).once().returning(|_| Ok(offered("1")));
        let mut client = serve(tasks).await.client().await;
        let request = GetTaskRequest { namespace: namespace.map(Into::into), application: application.map(Into::into) };
        assert_eq!(client.get_task(request).await.unwrap().into_inner().task, Some(activation("1")));
    }
}

#[tokio::test]
async fn nothing_to_do_is_not_found() {
    let mut tasks = MockTasks::new();
    tasks.expect_fetch().returning(|_| Ok(None));
    let error = serve(tasks).await.client().await.get_task(GetTaskRequest::default()).await.unwrap_err();
    assert_eq!(said(&error), (Code::NotFound, "No pending activations"));
}

#[tokio::test]
async fn a_namespace_without_its_application_fits_no_task() {
    let request = GetTaskRequest { namespace: Some("mail".into()), application: None };
    let mut client = serve(MockTasks::new()).await.client().await;
    let error = client.get_task(request).await.unwrap_err();
    assert_eq!(said(&error), (Code::NotFound, "No pending activations"));
}

#[tokio::test]
async fn trouble_that_may_pass_is_unavailable_with_its_reason() {
    let mut tasks = MockTasks::new();
    tasks.expect_fetch().returning(|_| Err(Unavailable::new("the store is busy")));
    tasks.expect_report().returning(|_| Err(Unavailable::new("the store is full")));
    tasks.expect_report_all().returning(|_| Err(Unavailable::new("the store is slow")));
    let mut client = serve(tasks).await.client().await;
    let error = client.get_task(GetTaskRequest::default()).await.unwrap_err();
    assert_eq!(said(&error), (Code::Unavailable, "the store is busy"));
    let error = client.set_task_status(complete("1")).await.unwrap_err();
    assert_eq!(said(&error), (Code::Unavailable, "the store is full"));
    let batch = SetBatchActivationStatusRequest { updates: vec![complete("1")] };
    let error = client.set_batch_activation_status(batch).await.unwrap_err();
    assert_eq!(said(&error), (Code::Unavailable, "the store is slow"));
}

#[tokio::test]
async fn every_conclusion_is_reported() {
    let wish = RetryWish { max_attempts: Some(4), delay_s: Some(30) };
    let cases = [
        (TaskActivationStatus::Complete, Verdict::Complete),
        (TaskActivationStatus::Failure, Verdict::Failure),
        (TaskActivationStatus::Retry, Verdict::Retry(wish)),
    ];
    for (status, verdict) in cases {
        let mut tasks = MockTasks::new();
        tasks.expect_report().with(eq(report("1", verdict))).once().returning(|_| Ok(Reported::Settled));
        let request = SetTaskStatusRequest {
            max_attempts: Some(4),
            delay_on_retry: Some(30),
            ..status_request("1", status.into())
        };
        let response = serve(tasks).await.client().await.set_task_status(request).await.unwrap();
        assert_eq!(response.into_inner().task, None);
    }
}

#[tokio::test]
async fn whatever_becomes_of_a_report_it_is_answered_ok() {
    for outcome in [Reported::Settled, Reported::Remembered, Reported::Unknown, Reported::Refused] {
        let mut tasks = MockTasks::new();
        tasks.expect_report().once().returning(move |_| Ok(outcome));
        assert!(serve(tasks).await.client().await.set_task_status(complete("1")).await.is_ok());
    }
}

#[tokio::test]
async fn an_id_that_no_activation_can_have_is_unknown() {
    let mut client = serve(MockTasks::new()).await.client().await;
    for id in [String::new(), "x".repeat(ID_MAX_BYTES + 1), "a\0b".into()] {
        assert!(client.set_task_status(complete(&id)).await.is_ok());
        let batch = SetBatchActivationStatusRequest { updates: vec![complete(&id)] };
        assert!(client.set_batch_activation_status(batch).await.is_ok());
    }
}

#[tokio::test]
async fn a_status_that_concludes_nothing_is_an_invalid_argument() {
    let mut client = serve(MockTasks::new()).await.client().await;
    let cases = [
        (0, "Invalid status, expects 3 (Failure), 4 (Retry), or 5 (Complete), but got: Unspecified"),
        (1, "Invalid status, expects 3 (Failure), 4 (Retry), or 5 (Complete), but got: Pending"),
        (2, "Invalid status, expects 3 (Failure), 4 (Retry), or 5 (Complete), but got: Processing"),
        (99, "Unable to deserialize status: unknown enumeration value 99"),
        (-1, "Unable to deserialize status: unknown enumeration value -1"),
    ];
    for (status, text) in cases {
        let error = client.set_task_status(status_request("1", status)).await.unwrap_err();
        assert_eq!(said(&error), (Code::InvalidArgument, text));
    }
}

#[tokio::test]
async fn the_next_task_is_fetched_after_the_report_is_durable() {
    let mut tasks = MockTasks::new();
    let mut order = Sequence::new();
    tasks.expect_report().once().in_sequence(&mut order).returning(|_| Ok(Reported::Settled));
    tasks
        .expect_fetch()
        .with(eq(Wanted::Application("shop".into())))
        .once()
        .in_sequence(&mut order)
        .returning(|_| Ok(offered("2")));
    let request = SetTaskStatusRequest { fetch_next_task: for_shop(), ..complete("1") };
    let response = serve(tasks).await.client().await.set_task_status(request).await.unwrap();
    assert_eq!(response.into_inner().task, Some(activation("2")));
}

#[tokio::test]
async fn no_task_is_fetched_when_the_report_was_not_taken() {
    let mut tasks = MockTasks::new();
    tasks.expect_report().returning(|_| Err(Unavailable::new("the store is full")));
    tasks.expect_fetch().never();
    let request = SetTaskStatusRequest { fetch_next_task: for_shop(), ..complete("1") };
    let error = serve(tasks).await.client().await.set_task_status(request).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_report_that_is_written_is_never_answered_with_an_error_because_of_the_next_task() {
    type Fetched = Result<Option<Offer>, Unavailable>;
    let fetches: [fn(Wanted) -> Fetched; 2] = [|_| Ok(None), |_| Err(Unavailable::new("the store is busy"))];
    for fetch in fetches {
        let mut tasks = MockTasks::new();
        tasks.expect_report().once().returning(|_| Ok(Reported::Settled));
        tasks.expect_fetch().once().returning(fetch);
        let request = SetTaskStatusRequest { fetch_next_task: for_shop(), ..complete("1") };
        assert_eq!(serve(tasks).await.client().await.set_task_status(request).await.unwrap().into_inner().task, None);
    }
}

#[tokio::test]
async fn a_next_task_of_a_namespace_without_its_application_is_none() {
    let mut tasks = MockTasks::new();
    tasks.expect_report().returning(|_| Ok(Reported::Settled));
    let next = FetchNextTask { namespace: Some("mail".into()), application: None };
    let request = SetTaskStatusRequest { fetch_next_task: Some(next), ..complete("1") };
    assert_eq!(serve(tasks).await.client().await.set_task_status(request).await.unwrap().into_inner().task, None);
}

#[tokio::test]
async fn a_batch_is_reported_in_order() {
    let expected = vec![
        report("1", Verdict::Complete),
        report("2", Verdict::Retry(RetryWish::default())),
        report("3", Verdict::Failure),
    ];
    let mut tasks = MockTasks::new();
    tasks.expect_report_all().with(eq(expected)).once().returning(|_| Ok(vec![Reported::Settled; 3]));
    tasks.expect_fetch().never();
    let wants_more = SetTaskStatusRequest { fetch_next_task: for_shop(), ..complete("1") };
    let updates = vec![wants_more, status_request("2", 4), status_request("3", 3)];
    let batch = SetBatchActivationStatusRequest { updates };
    assert!(serve(tasks).await.client().await.set_batch_activation_status(batch).await.is_ok());
}

#[tokio::test]
async fn a_batch_with_one_invalid_status_is_refused_as_a_whole() {
    let mut tasks = MockTasks::new();
    tasks.expect_report_all().never();
    let batch = SetBatchActivationStatusRequest { updates: vec![complete("1"), status_request("2", 2)] };
    let error = serve(tasks).await.client().await.set_batch_activation_status(batch).await.unwrap_err();
    let text = "Invalid status, expects 3 (Failure), 4 (Retry), or 5 (Complete), but got: Processing";
    assert_eq!(said(&error), (Code::InvalidArgument, text));
}

#[tokio::test]
async fn an_empty_batch_is_ok() {
    let batch = SetBatchActivationStatusRequest::default();
    assert!(serve(MockTasks::new()).await.client().await.set_batch_activation_status(batch).await.is_ok());
}

#[tokio::test]
async fn a_long_batch_is_reported_in_bounded_parts() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = MockTasks::new();
    let record = Arc::clone(&seen);
    tasks.expect_report_all().returning(move |reports| {
        record.lock().unwrap().push(reports.len());
        Ok(vec![Reported::Settled; reports.len()])
    });
    let updates = (0..2500).map(|id: i32| complete(&id.to_string())).collect();
    let mut client = serve(tasks).await.client().await;
    client.set_batch_activation_status(SetBatchActivationStatusRequest { updates }).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [1024, 1024, 452]);
}

#[tokio::test]
async fn stored_bytes_reach_the_worker_unchanged() {
    use tonic::codegen::http::uri::PathAndQuery;

    // Fields out of order, one unknown, one repeated: decoding and encoding would tidy it up.
    let stored = Bytes::from_static(b"\x1a\x01t\xa2\x06\x03abc\x0a\x01x\x0a\x011");
    let mut tasks = MockTasks::new();
    let offered = stored.clone();
    tasks.expect_fetch().returning(move |_| Ok(Some(Offer::new(offered.clone(), || ()))));
    let mut client = tonic::client::Grpc::new(serve(tasks).await.channel().await);
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/sentry_protos.taskbroker.v1.ConsumerService/GetTask");
    let codec = BytesOfTask;
    let response = client.unary(tonic::Request::new(()), path, codec).await.unwrap().into_inner();
    assert_eq!(response, [b"\x0a\x0f".as_slice(), &stored].concat());
}

/// Sends nothing and takes the answer as it stands.
struct BytesOfTask;

impl tonic::codec::Codec for BytesOfTask {
    type Encode = ();
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl tonic::codec::Encoder for BytesOfTask {
    type Item = ();
    type Error = Status;

    fn encode(&mut self, (): (), _: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), Status> {
        Ok(())
    }
}

impl tonic::codec::Decoder for BytesOfTask {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buf: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        use bytes::Buf;

        let length = buf.remaining();
        Ok(Some(buf.copy_to_bytes(length).to_vec()))
    }
}

#[tokio::test]
async fn a_task_of_many_megabytes_reaches_the_worker() {
    let large = TaskActivation { parameters_bytes: vec![7; 20 << 20].into(), ..activation("1") };
    let payload = Bytes::from(large.encode_to_vec());
    let mut tasks = MockTasks::new();
    tasks.expect_fetch().returning(move |_| Ok(Some(Offer::new(payload.clone(), || ()))));
    let mut client = serve(tasks).await.client().await.max_decoding_message_size(64 << 20);
    assert_eq!(client.get_task(GetTaskRequest::default()).await.unwrap().into_inner().task, Some(large));
}
