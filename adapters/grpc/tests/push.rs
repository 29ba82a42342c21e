//! Offering tasks to workers: what arrives, and what is known when it does not.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use support::{
    sign,
    worker::{gateway, listener, misbehaving, nobody_is_let_in, options, serve_worker, worker},
};
use taskbroker_domain::ports::worker::{Offered, Refused, WorkerGateway};
use taskbroker_grpc::{PushGateway, PushOptions, Secrets};
use taskbroker_proto::pb::{PushTaskRequest, TaskActivation};
use tonic::{Status, transport::Server};

fn activation(bytes: usize) -> TaskActivation {
    TaskActivation { id: "1".into(), parameters_bytes: vec![7; bytes].into(), ..Default::default() }
}

fn stored() -> Bytes {
    activation(10).encode_to_vec().into()
}

fn is_unknown(offered: &Offered) -> bool {
    matches!(offered, Offered::Unknown(_))
}

#[tokio::test]
async fn a_task_arrives_as_it_was_stored_and_signed_by_the_first_secret() {
    let (address, mut got) = worker(Ok(())).await;
    let options = PushOptions { secrets: Secrets::new(["first", "second"]), ..options(address) };
    let gateway = PushGateway::new(&options).unwrap();
    assert_eq!(gateway.offer("app", stored()).await, Offered::Delivered);
    let request = got.recv().await.unwrap();
    let expected = PushTaskRequest { task: Some(activation(10)), ..Default::default() };
    assert_eq!(request.get_ref(), &expected);
    let path = "/sentry_protos.taskbroker.v1.WorkerService/PushTask";
    let signature = request.metadata().get("sentry-signature").unwrap().to_str().unwrap();
    assert_eq!(signature, sign("first", path, &expected.encode_to_vec()));
}

#[tokio::test]
async fn without_a_secret_nothing_is_signed() {
    let (address, mut got) = worker(Ok(())).await;
    assert_eq!(gateway(address).offer("app", stored()).await, Offered::Delivered);
    assert!(got.recv().await.unwrap().metadata().get("sentry-signature").is_none());
}

#[tokio::test]
async fn a_refused_connection_is_certain_and_the_next_offer_connects_anew() {
    let (closed, address) = listener().await;
    drop(closed);
    let gateway = gateway(address);
    let offered = gateway.offer("app", stored()).await;
    assert!(matches!(&offered, Offered::Refused(Refused::Unreachable(why)) if why.contains("refused")), "{offered:?}");
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let _got = serve_worker(Server::builder(), listener, Ok(()));
    assert_eq!(gateway.offer("app", stored()).await, Offered::Delivered);
}

#[tokio::test]
async fn a_status_of_the_worker_is_a_certain_refusal() {
    let (address, _got) = worker(Err(Status::unavailable("going down"))).await;
    let offered = gateway(address).offer("app", stored()).await;
    assert_eq!(offered, Offered::Refused(Refused::Declined("Unavailable: going down".into())));
    let (address, _got) = worker(Err(Status::resource_exhausted("worker busy"))).await;
    let offered = gateway(address).offer("app", stored()).await;
    assert_eq!(offered, Offered::Refused(Refused::Busy("ResourceExhausted: worker busy".into())));
}

#[tokio::test]
async fn a_worker_that_does_not_answer_in_time_may_have_the_task() {
    let mut held = Vec::new();
    let address = misbehaving(move |_, respond| held.push(respond)).await;
    let options = PushOptions { timeout: Duration::from_millis(300), ..options(address) };
    let offered = PushGateway::new(&options).unwrap().offer("app", stored()).await;
    assert_eq!(offered, Offered::Unknown("no answer within 0.3 s".into()));
}

#[tokio::test]
async fn what_waits_for_a_connection_until_its_time_is_over_was_certainly_not_sent() {
    let (_full, address) = nobody_is_let_in().await;
    let options = PushOptions { timeout: Duration::from_millis(400), ..options(address) };
    let gateway = PushGateway::new(&options).unwrap();
    let all = futures::future::join_all((0..4).map(|_| gateway.offer("app", stored()))).await;
    for offered in all {
        assert!(matches!(offered, Offered::Refused(Refused::Unreachable(_))), "{offered:?}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_in_the_middle_of_a_call_leaves_a_doubt() {
    let address = misbehaving(|connection, _| connection.abrupt_shutdown(h2::Reason::NO_ERROR)).await;
    let offered = gateway(address).offer("app", stored()).await;
    assert!(is_unknown(&offered), "{offered:?}");
    let address = misbehaving(|_, mut respond| respond.send_reset(h2::Reason::INTERNAL_ERROR)).await;
    let offered = gateway(address).offer("app", stored()).await;
    assert!(is_unknown(&offered), "{offered:?}");
}

#[tokio::test]
async fn a_stream_that_the_worker_refuses_was_not_worked_on() {
    let address = misbehaving(|_, mut respond| respond.send_reset(h2::Reason::REFUSED_STREAM)).await;
    let offered = gateway(address).offer("app", stored()).await;
    assert!(matches!(offered, Offered::Refused(Refused::Declined(_))), "{offered:?}");
}

#[tokio::test]
async fn an_answer_that_no_worker_gives_leaves_a_doubt() {
    let answer = |status: u16| {
        misbehaving(move |_, mut respond| {
            let response = http::Response::builder().status(status).body(()).unwrap();
            respond.send_response(response, true).unwrap();
        })
    };
    for status in [503, 404, 200] {
        let offered = gateway(answer(status).await).offer("app", stored()).await;
        assert!(is_unknown(&offered), "{status}: {offered:?}");
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_for_good_here_or_there() {
    let (address, mut got) = worker(Ok(())).await;
    let small = PushOptions { message_bytes_max: 100, ..options(address) };
    let large: Bytes = activation(2 << 20).encode_to_vec().into();
    let here = PushGateway::new(&small).unwrap().offer("app", large.clone()).await;
    let reason = format!("{} bytes to be sent, and grpc_max_message_size is 100", large.len() + 5);
    assert_eq!(here, Offered::Refused(Refused::TooLarge(reason)));
    assert!(got.try_recv().is_err(), "nothing was sent");
    let there = gateway(address).offer("app", large).await;
    assert!(matches!(there, Offered::Refused(Refused::TooLarge(_))), "{there:?}");
}

#[tokio::test]
async fn large_tasks_arrive_whole() {
    let (address, mut got) = worker(Ok(())).await;
    let task = activation(1_000_000);
    assert_eq!(gateway(address).offer("app", task.encode_to_vec().into()).await, Offered::Delivered);
    assert_eq!(got.recv().await.unwrap().into_inner().task, Some(task));
}

#[tokio::test]
async fn a_probe_gives_no_task_and_tells_who_serves() {
    let (address, mut got) = worker(Ok(())).await;
    assert_eq!(gateway(address).probe("app").await, Ok(()), "it knows no health checks, but it answers");
    assert!(got.try_recv().is_err());

    let (reporter, health) = tonic_health::server::health_reporter();
    let (listener, address) = listener().await;
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(Server::builder().add_service(health).serve_with_incoming(incoming));
    let name = "sentry_protos.taskbroker.v1.WorkerService";
    reporter.set_service_status(name, tonic_health::ServingStatus::NotServing).await;
    let gateway = gateway(address);
    assert_eq!(gateway.probe("app").await, Err("it says that it does not serve (yet)".into()));
    reporter.set_service_status(name, tonic_health::ServingStatus::Serving).await;
    assert_eq!(gateway.probe("app").await, Ok(()));
}

#[tokio::test]
async fn several_connections_are_made_and_take_turns() {
    let (listener, address) = listener().await;
    let (counted, mut connections) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.send(()).unwrap();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let head = http::Response::builder().header("grpc-status", "0").body(()).unwrap();
                    respond.send_response(head, true).unwrap();
                }
            });
        }
    });
    let gateway = PushGateway::new(&PushOptions { connections: 3, ..options(address) }).unwrap();
    for _ in 0..9 {
        assert_eq!(gateway.offer("app", stored()).await, Offered::Delivered);
    }
    for _ in 0..3 {
        connections.recv().await.unwrap();
    }
    assert!(connections.try_recv().is_err());
}

#[test]
fn an_address_that_is_none_is_named() {
    for address in ["", "worker", "worker:50052", "ftp://worker:50052", "http://", "http://worker:port"] {
        let mut options = options("unused");
        options.workers.insert("app".into(), address.into());
        let error = PushGateway::new(&options).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("worker_map.app: {address:?} is no address like http://host:port")),
            "{error}"
        );
    }
}
