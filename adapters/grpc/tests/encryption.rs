//! TLS on both sides: who serves, who is let in, whom pushed tasks go to.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use support::{
    MockTasks, Served,
    certificates::{Authority, Identity},
    options, serve_with,
    worker::{self, listener, serve_worker},
};
use taskbroker_domain::ports::worker::{Offered, Refused, WorkerGateway};
use taskbroker_grpc::{ClientTls, GrpcOptions, GrpcServer, PushGateway, PushOptions, ServerTls};
use taskbroker_proto::pb::{GetTaskRequest, consumer_service_client::ConsumerServiceClient};
use tonic::{
    Code,
    transport::{Certificate, ClientTlsConfig, Endpoint, Server, ServerTlsConfig},
};

fn server_tls(identity: &Identity) -> ServerTls {
    ServerTls { certificate: identity.certificate.clone(), key: identity.key.clone(), client_ca: None }
}

async fn serve_tls(tls: ServerTls) -> Served {
    let mut tasks = MockTasks::new();
    tasks.expect_fetch().returning(|_| Ok(None));
    serve_with(GrpcOptions { tls: Some(tls), ..options() }, tasks).await
}

/// What a client that is set up like this is told.
async fn ask(served: &Served, tls: Option<ClientTlsConfig>) -> Code {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{}", served.address)).unwrap();
    let endpoint = match tls {
        Some(tls) => endpoint.tls_config(tls).unwrap(),
        None => endpoint,
    };
    let mut client = ConsumerServiceClient::new(endpoint.connect_lazy());
    client.get_task(GetTaskRequest::default()).await.unwrap_err().code()
}

fn trusting(authority: &Authority) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()))
}

#[tokio::test]
async fn clients_that_trust_the_certificate_are_served_and_others_do_not_get_in() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let served = serve_tls(server_tls(&authority.identity("broker"))).await;
    assert_eq!(ask(&served, Some(trusting(&authority))).await, Code::NotFound);
    assert_eq!(ask(&served, Some(trusting(&stranger))).await, Code::Unavailable);
    assert_ne!(ask(&served, None).await, Code::NotFound, "in the clear");
    assert_eq!(ask(&served, Some(trusting(&authority))).await, Code::NotFound, "those who failed stopped nothing");
}

#[tokio::test]
async fn with_an_authority_for_clients_each_must_show_a_certificate_of_it() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let tls = ServerTls { client_ca: Some(clients.file()), ..server_tls(&authority.identity("broker")) };
    let served = serve_tls(tls).await;
    let showing = |identity: Identity| Some(trusting(&authority).identity(identity.tonic()));
    assert_eq!(ask(&served, showing(clients.identity("worker"))).await, Code::NotFound);
    assert_ne!(ask(&served, Some(trusting(&authority))).await, Code::NotFound, "none");
    assert_ne!(ask(&served, showing(authority.identity("worker"))).await, Code::NotFound, "of another authority");
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_named_at_start() {
    let authority = Authority::new();
    let (one, other) = (authority.identity("one"), authority.identity("other"));
    let bind = |tls: ServerTls| async { GrpcServer::bind(GrpcOptions { tls: Some(tls), ..options() }).await };
    let error = |tls: ServerTls| async { bind(tls).await.unwrap_err().to_string() };

    let missing = ServerTls { certificate: "/no/such.pem".into(), ..server_tls(&one) };
    let text = error(missing).await;
    assert!(text.starts_with("grpc_tls_certificate: cannot read /no/such.pem: No such file"), "{text}");
    let keys =
        "grpc_tls_certificate, grpc_tls_key, grpc_tls_client_ca: no PEM file, or certificate and key do not belong";
    let of_another = ServerTls { key: other.key.clone(), ..server_tls(&one) };
    let no_pem = ServerTls { certificate: authority.write("noise", "no PEM"), ..server_tls(&one) };
    let no_authority = ServerTls { client_ca: Some(authority.write("empty", "")), ..server_tls(&one) };
    for tls in [of_another, no_pem, no_authority] {
        let text = error(tls).await;
        assert!(text.starts_with(keys), "{text}");
    }
    assert!(bind(server_tls(&one)).await.is_ok());
}

/// A worker behind TLS that asks for a certificate of `clients`, and a gateway to it.
async fn push(worker: &Identity, clients: &Authority, tls: ClientTls) -> Offered {
    let config = ServerTlsConfig::new().identity(worker.tonic()).client_ca_root(Certificate::from_pem(clients.pem()));
    let (listener, address) = listener().await;
    let _got = serve_worker(Server::builder().tls_config(config).unwrap(), listener, Ok(()));
    offer(&PushGateway::new(&secure(address, tls)).unwrap()).await
}

fn secure(address: SocketAddr, tls: ClientTls) -> PushOptions {
    let workers = BTreeMap::from([("app".to_owned(), format!("https://{address}"))]);
    PushOptions { workers, tls, ..worker::options("unused") }
}

async fn offer(gateway: &PushGateway) -> Offered {
    gateway.offer("app", Bytes::from_static(b"\x0a\x011")).await
}

#[tokio::test]
async fn a_handshake_that_nobody_answers_is_given_up_and_nothing_was_sent() {
    let authority = Authority::new();
    let config = ServerTlsConfig::new().identity(authority.identity("worker").tonic());
    let (listener, address) = listener().await;
    let tls = ClientTls { ca: Some(authority.file()), identity: None };
    let gateway = PushGateway::new(&PushOptions { timeout: Duration::from_secs(3), ..secure(address, tls) }).unwrap();
    let (offered, mute) = tokio::join!(offer(&gateway), listener.accept());
    assert_eq!(offered, Offered::Refused(Refused::Unreachable("nothing could be sent within 3 s".into())));
    let _got = serve_worker(Server::builder().tls_config(config).unwrap(), listener, Ok(()));
    // The others wait for the same handshake, for 10 s in all.
    let mut offered = vec![offered];
    while offered.last() != Some(&Offered::Delivered) {
        assert!(offered.len() < 10, "{offered:?}");
        offered.push(offer(&gateway).await);
    }
    drop(mute);
    offered.pop();
    assert!(offered.iter().all(|offered| matches!(offered, Offered::Refused(Refused::Unreachable(_)))), "{offered:?}");
    let given_up = Offered::Refused(Refused::Unreachable("TLS handshake timeout.".into()));
    assert_eq!(offered.last(), Some(&given_up), "{offered:?}");
}

#[tokio::test]
async fn tasks_are_pushed_to_workers_that_can_be_trusted_and_that_trust_us() {
    let (workers, brokers) = (Authority::new(), Authority::new());
    let worker = workers.identity("worker");
    let identity = |authority: &Authority| {
        let Identity { certificate, key } = authority.identity("broker");
        Some((certificate, key))
    };
    let trusted = ClientTls { ca: Some(workers.file()), identity: identity(&brokers) };
    assert_eq!(push(&worker, &brokers, trusted).await, Offered::Delivered);
    let of_another = ClientTls { ca: Some(brokers.file()), identity: identity(&brokers) };
    let offered = push(&worker, &brokers, of_another).await;
    assert!(matches!(offered, Offered::Refused(Refused::Unreachable(_))), "{offered:?}");
    let unknown_to_it = ClientTls { ca: Some(workers.file()), identity: identity(&workers) };
    let offered = push(&worker, &brokers, unknown_to_it).await;
    assert_ne!(offered, Offered::Delivered);
}

#[tokio::test]
async fn an_authority_that_is_none_is_named() {
    let authority = Authority::new();
    let workers = BTreeMap::from([("app".to_owned(), "https://localhost:1".to_owned())]);
    let with = |path| PushOptions {
        workers: workers.clone(),
        tls: ClientTls { ca: Some(path), identity: None },
        ..worker::options("unused")
    };
    let error = PushGateway::new(&with("/no/such.pem".into())).unwrap_err().to_string();
    assert!(error.starts_with("push.tls_ca: cannot read /no/such.pem: No such file"), "{error}");
    let error = PushGateway::new(&with(authority.write("noise", "no PEM"))).unwrap_err().to_string();
    assert!(error.ends_with("it holds no PEM certificate"), "{error}");
}
