//! `run` with certificates: what the port asks for, and what is said of those that cannot be used.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use taskbroker_proto::pb::{GetTaskRequest, consumer_service_client::ConsumerServiceClient};
use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::program::{Running, Signal, run};

const HOST: &str = "127.0.0.4";

/// An authority of its own in a directory of its own, where the settings are, too.
struct Place {
    directory: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Place {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let place = Self { directory: tempfile::tempdir().unwrap(), authority };
        place.write("authority.pem", &place.authority.pem());
        let (certificate, key) = place.certificate();
        place.write("broker.pem", &certificate);
        place.write("broker.key", &key);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn certificate(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        (params.signed_by(&key, &self.authority).unwrap().pem(), key.serialize_pem())
    }

    /// Settings of a broker whose Kafka is not there.
    fn settings(&self, port: u16, more: &str) -> PathBuf {
        let store = self.path("store.sqlite");
        let yaml = format!(
            "kafka_cluster: 127.0.0.1:1\ngrpc_addr: {HOST}\ngrpc_port: {port}\nhttp_port: 0\n\
             store: {{ sqlite: {{ path: '{}' }} }}\n{more}\n",
            store.display()
        );
        self.write("config.yaml", &yaml);
        self.path("config.yaml")
    }

    /// What an operator is told who starts it like this.
    fn refused(&self, more: &str) -> String {
        let ended = run(&["-c".as_ref(), self.settings(free_port(), more).as_os_str()]);
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        ended.stderr
    }
}

fn free_port() -> u16 {
    TcpListener::bind((HOST, 0)).unwrap().local_addr().unwrap().port()
}

fn client(port: u16, tls: ClientTlsConfig) -> ConsumerServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("https://{HOST}:{port}")).unwrap().tls_config(tls).unwrap();
    ConsumerServiceClient::new(endpoint.connect_lazy())
}

/// Asks until the broker answers.
async fn answer(mut client: ConsumerServiceClient<Channel>) -> Code {
    for _ in 0..600 {
        let code = client.get_task(GetTaskRequest::default()).await.unwrap_err().code();
        if code != Code::Unavailable {
            return code;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_authority_for_clients_only_those_it_knows_are_served() {
    let (place, port) = (Place::new(), free_port());
    let file = |name: &str| place.path(name).display().to_string();
    let more = format!(
        "grpc_tls_certificate: '{}'\ngrpc_tls_key: '{}'\ngrpc_tls_client_ca: '{}'",
        file("broker.pem"),
        file("broker.key"),
        file("authority.pem")
    );
    let daemon = Running::start(&["-c".as_ref(), place.settings(port, &more).as_os_str()]);
    let trusting = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(place.authority.pem()));
    let (certificate, key) = place.certificate();
    let known = trusting.clone().identity(Identity::from_pem(certificate, key));
    assert_eq!(answer(client(port, known)).await, Code::NotFound);
    let error = client(port, trusting).get_task(GetTaskRequest::default()).await.unwrap_err();
    assert_ne!(error.code(), Code::NotFound, "it shows no certificate");
    daemon.signal(Signal::Term);
    let (code, _) = daemon.end_within(Duration::from_secs(20));
    assert_eq!(code, Some(0));
}

#[test]
fn certificates_that_cannot_be_used_are_named_and_end_with_1() {
    let place = Place::new();
    let broken = place.path("broken.pem");
    place.write("broken.pem", "no PEM");
    let shown = |path: &Path| path.display().to_string();
    let (certificate, key) = (shown(&place.path("broker.pem")), shown(&place.path("broker.key")));
    let log = place.refused(&format!("grpc_tls_certificate: /no/such.pem\ngrpc_tls_key: '{key}'"));
    assert!(log.contains("grpc_tls_certificate: cannot read /no/such.pem: No such file"), "{log}");
    let log = place.refused(&format!("grpc_tls_certificate: '{certificate}'\ngrpc_tls_key: '{}'", shown(&broken)));
    assert!(log.contains("grpc_tls_key"), "{log}");
    let log = place.refused(&format!("grpc_tls_certificate: '{}'\ngrpc_tls_key: '{key}'", shown(&broken)));
    assert!(log.contains("grpc_tls_certificate"), "{log}");
    let (_, of_another) = place.certificate();
    place.write("another.key", &of_another);
    let another = shown(&place.path("another.key"));
    let log = place.refused(&format!("grpc_tls_certificate: '{certificate}'\ngrpc_tls_key: '{another}'"));
    assert!(log.contains("certificate and key do not belong together"), "{log}");
    // Nobody can read a directory, whoever runs this.
    let unreadable = shown(place.directory.path());
    let log = place.refused(&format!("grpc_tls_certificate: '{certificate}'\ngrpc_tls_key: '{unreadable}'"));
    assert!(log.contains(&format!("grpc_tls_key: cannot read {unreadable}: Is a directory")), "{log}");
    let push = "delivery_mode: push\nworker_map: { app: 'https://localhost:1' }\n";
    let log = place.refused(&format!("{push}push: {{ tls_ca: '{}' }}", shown(&broken)));
    assert!(log.contains("push.tls_ca: cannot read") && log.contains("it holds no PEM certificate"), "{log}");
    assert!(!place.path("store.sqlite").exists(), "nothing was opened");
}

#[test]
fn push_settings_that_do_not_go_together_are_refused() {
    let place = Place::new();
    let ended = |port, more| run(&["-c".as_ref(), place.settings(port, more).as_os_str()]);
    let sizes = ended(free_port(), "delivery_mode: push\nmax_message_size: 5000000\ngrpc_max_message_size: 4194304");
    assert_eq!(sizes.code, Some(2), "{}", sizes.stderr);
    assert!(sizes.stderr.contains("set grpc_max_message_size to at least"), "{}", sizes.stderr);
    let no_port = ended(0, "delivery_mode: push");
    assert_eq!(no_port.code, Some(2), "{}", no_port.stderr);
    assert!(no_port.stderr.contains("the results of pushed tasks come by it"), "{}", no_port.stderr);
}
