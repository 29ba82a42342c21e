//! What operators and tools see: health, reflection, metrics.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use metrics_exporter_prometheus::PrometheusBuilder;
use support::{MockTasks, Served, serve};
use taskbroker_domain::ports::service::{Offer, Reported};
use taskbroker_grpc::{Drained, describe_metrics};
use taskbroker_proto::pb::{GetTaskRequest, SetTaskStatusRequest};
use tokio_stream::StreamExt;
use tonic::{Streaming, transport::Channel};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient},
};

const SERVICE: &str = "sentry_protos.taskbroker.v1.ConsumerService";

async fn watch(served: &Served, service: &str) -> Streaming<HealthCheckResponse> {
    let request = HealthCheckRequest { service: service.into() };
    HealthClient::new(served.channel().await).watch(request).await.unwrap().into_inner()
}

async fn next(watch: &mut Streaming<HealthCheckResponse>) -> Option<ServingStatus> {
    watch.next().await.map(|response| match response.unwrap().status {
        1 => ServingStatus::Serving,
        2 => ServingStatus::NotServing,
        _ => ServingStatus::Unknown,
    })
}

#[tokio::test]
async fn health_follows_the_brokers_progress_under_both_names() {
    let served = serve(MockTasks::new()).await;
    for name in ["", SERVICE] {
        let mut watch = watch(&served, name).await;
        assert_eq!(next(&mut watch).await, Some(ServingStatus::Serving));
        served.serving.send(false).unwrap();
        assert_eq!(next(&mut watch).await, Some(ServingStatus::NotServing));
        served.serving.send(true).unwrap();
        assert_eq!(next(&mut watch).await, Some(ServingStatus::Serving));
    }
}

#[tokio::test]
async fn a_check_says_what_the_broker_says() {
    let served = serve(MockTasks::new()).await;
    let mut client = HealthClient::new(served.channel().await);
    let check = |service: &str| HealthCheckRequest { service: service.into() };
    assert_eq!(client.check(check(SERVICE)).await.unwrap().into_inner().status, 1);
    assert_eq!(client.check(check("no.such.Service")).await.unwrap_err().code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn a_shutdown_tells_those_who_watch_and_does_not_wait_for_them() {
    let served = serve(MockTasks::new()).await;
    let mut watch = watch(&served, SERVICE).await;
    assert_eq!(next(&mut watch).await, Some(ServingStatus::Serving));
    let drained = served.stop().await;
    assert_eq!(next(&mut watch).await, Some(ServingStatus::NotServing));
    assert_eq!(next(&mut watch).await, None);
    assert_eq!(drained, Drained::Clean);
}

#[tokio::test]
async fn a_broker_that_is_gone_is_not_serving() {
    let Served { address, serving, shutdown, ended } = serve(MockTasks::new()).await;
    drop(serving);
    let (serving, _) = tokio::sync::watch::channel(true);
    let mut watch = watch(&Served { address, serving, shutdown, ended }, SERVICE).await;
    while next(&mut watch).await.expect("the watch goes on") != ServingStatus::NotServing {}
}

#[tokio::test]
async fn reflection_lists_the_services_in_both_versions() {
    let channel = serve(MockTasks::new()).await.channel().await;
    let expected = [SERVICE, "grpc.health.v1.Health"];
    assert_eq!(services_v1(channel.clone()).await, expected);
    assert_eq!(services_v1alpha(channel).await, expected);
}

macro_rules! list_services {
    ($name:ident, $version:ident) => {
        async fn $name(channel: Channel) -> Vec<String> {
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
            };

            let list = MessageRequest::ListServices(String::new());
            let request = ServerReflectionRequest { message_request: Some(list), ..Default::default() };
            let mut client = ServerReflectionClient::new(channel);
            let response = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
            let answer = response.into_inner().next().await.unwrap().unwrap().message_response;
            let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("no list: {answer:?}") };
            let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
            names.sort_by_key(|name| name.starts_with("grpc"));
            names
        }
    };
}

list_services!(services_v1, v1);
list_services!(services_v1alpha, v1alpha);

#[test]
fn calls_are_counted_and_timed_by_method_and_code() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        describe_metrics();
        runtime.block_on(async {
            let mut tasks = MockTasks::new();
            tasks.expect_fetch().times(1).returning(|_| Ok(None));
            tasks.expect_fetch().returning(|_| Ok(Some(Offer::new((&b"\x0a\x011"[..]).into(), || ()))));
            tasks.expect_report().returning(|_| Ok(Reported::Settled));
            let mut client = serve(tasks).await.client().await;
            client.get_task(GetTaskRequest::default()).await.unwrap_err();
            client.get_task(GetTaskRequest::default()).await.unwrap();
            client.set_task_status(SetTaskStatusRequest::default()).await.unwrap_err();
        });
    });
    let rendered = recorder.handle().render();
    for line in [
        r#"taskbroker_grpc_requests_total{method="GetTask",code="NOT_FOUND"} 1"#,
        r#"taskbroker_grpc_requests_total{method="GetTask",code="OK"} 1"#,
        r#"taskbroker_grpc_requests_total{method="SetTaskStatus",code="INVALID_ARGUMENT"} 1"#,
        r#"taskbroker_grpc_request_seconds_count{method="GetTask"} 2"#,
        "taskbroker_grpc_requests_in_flight 0",
    ] {
        assert!(rendered.contains(line), "{line} is missing in:\n{rendered}");
    }
}
