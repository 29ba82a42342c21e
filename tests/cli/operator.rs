//! What an operator can cause or meet at a start, and what is said of it: the end's code, and one line that names the thing.

use std::{
    fs::Permissions,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use tempfile::TempDir;

use crate::program::{Ended, Running, command, run};

/// A directory with a configuration whose Kafka is not there, on an address of its own.
struct Place {
    directory: TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store.sqlite");
        let yaml = format!(
            "kafka_cluster: 127.0.0.1:1\ngrpc_addr: 127.0.0.4\ngrpc_port: 0\nhttp_port: 0\nstatsd_addr: null\n\
             store: {{ sqlite: {{ path: '{}' }} }}\n",
            store.display()
        );
        std::fs::write(directory.path().join("config.yaml"), yaml).unwrap();
        Self { directory, environment: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn config(&self) -> String {
        self.path().join("config.yaml").display().to_string()
    }

    fn store(&self) -> std::path::PathBuf {
        self.path().join("store.sqlite")
    }

    /// Starts the daemon, which ends by itself.
    fn refused(&self) -> Ended {
        let mut command = command(&["-c", &self.config()]);
        Ended::from(command.envs(self.environment.clone()).output().unwrap())
    }

    /// Starts the daemon, waits until it owns its store, and stops it in order.
    fn started_and_stopped(&self) -> Ended {
        let daemon = Running::start_with(&["-c", &self.config()], &self.environment);
        let owned = || run(&["inspect".as_ref(), self.store().as_os_str()]).stdout.contains("in use by pid");
        assert!((0..400).any(|_| owned()), "the broker does not open its store");
        daemon.stop(Duration::from_secs(20))
    }
}

impl Ended {
    /// It ended with this code because of one thing, said in one line with these parts.
    #[track_caller]
    fn because(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        let lines: Vec<_> = self.stderr.lines().filter(|line| line.contains(parts[0])).collect();
        assert_eq!(lines.len(), 1, "{:?} is said once in:\n{}", parts[0], self.stderr);
        parts.iter().for_each(|part| assert!(lines[0].contains(part), "{part:?} is missing in: {}", lines[0]));
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }
}

#[test]
fn a_port_that_is_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.5:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (address, name) in [("GRPC_ADDR", "grpc_port"), ("HTTP_ADDR", "http_port")] {
        let (address, variable) = match address {
            "GRPC_ADDR" => ("TASKBROKER_GRPC_ADDR", "TASKBROKER_GRPC_PORT"),
            _ => ("TASKBROKER_HTTP_ADDR", "TASKBROKER_HTTP_PORT"),
        };
        let place = Place::new().with(address, "127.0.0.5").with(variable, &port);
        place.refused().because(1, &["the broker does not start", name, "127.0.0.5", &port, "in use"]);
    }
}

#[test]
fn an_address_that_is_not_this_machines() {
    let place = Place::new().with("TASKBROKER_GRPC_ADDR", "192.0.2.1").with("TASKBROKER_GRPC_PORT", "50051");
    place.refused().because(1, &["the broker does not start", "grpc_addr", "192.0.2.1"]);
}

#[test]
fn yaml_that_is_none() {
    let place = Place::new();
    std::fs::write(place.config(), "store:\n  sqlite: [path\n").unwrap();
    place.refused().because(2, &["config.yaml", "line"]);
}

#[test]
fn a_configuration_that_is_not_there() {
    run(&["-c", "/nowhere/config.yaml"]).because(2, &["/nowhere/config.yaml", "does not exist"]);
}

#[test]
fn a_secret_that_is_none() {
    let place = Place::new();
    std::fs::write(place.config(), "grpc_shared_secret:\n  first: hush\n").unwrap();
    let ended = place.refused();
    ended.because(2, &["grpc_shared_secret"]);
    assert!(!ended.stderr.contains("hush"), "a secret is not shown: {}", ended.stderr);
}

#[test]
fn a_worker_endpoint_that_is_none() {
    let place = Place::new()
        .with("TASKBROKER_DELIVERY_MODE", "push")
        .with("TASKBROKER_WORKER_MAP", "{sentry=\"not an address\"}");
    place.refused().because(2, &["worker_map", "not an address"]);
}

#[test]
fn a_statsd_address_that_is_none() {
    Place::new().with("TASKBROKER_STATSD_ADDR", "no-port").refused().because(2, &["statsd_addr", "no-port"]);
}

#[test]
fn a_directory_of_the_store_that_is_not_there() {
    let place = Place::new().with("TASKBROKER_STORE__SQLITE__PATH", "/nowhere/store.sqlite");
    place.refused().because(1, &["the broker does not start", "/nowhere"]);
}

#[test]
fn a_store_that_is_a_directory() {
    let place = Place::new();
    std::fs::create_dir(place.store()).unwrap();
    place.refused().because(1, &["the broker does not start", "store.sqlite"]);
}

/// Has SQLite change a file.
fn change(store: &Path, statement: &'static str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(store).create_if_missing(true);
        let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
        sqlx::query(statement).execute(&mut connection).await.unwrap();
        sqlx::Connection::close(connection).await.unwrap();
    });
}

#[test]
fn a_store_of_a_newer_version() {
    let place = Place::new();
    assert_eq!(place.started_and_stopped().code, Some(0));
    change(&place.store(), "UPDATE taskbroker_meta SET value = 999 WHERE name = 'schema_version'");
    place.refused().because(1, &["the broker does not start", "store.sqlite", "version 999"]);
}

#[test]
fn a_store_that_is_a_database_of_something_else() {
    let place = Place::new();
    change(&place.store(), "CREATE TABLE songs (title TEXT)");
    place.refused().because(1, &["the broker does not start", "store.sqlite", "something else"]);
}

#[test]
fn a_store_that_another_broker_owns() {
    let place = Place::new();
    let first = Running::start_with(&["-c", &place.config()], &[]);
    let owned = || run(&["inspect".as_ref(), place.store().as_os_str()]).stdout.contains("in use by pid");
    assert!((0..400).any(|_| owned()), "the broker does not open its store");
    let pid = format!("in use by pid {}", first.pid());
    place.refused().because(1, &["the broker does not start", "store.sqlite", &pid]);
    assert_eq!(first.stop(Duration::from_secs(20)).code, Some(0), "the first is not disturbed");
}

#[test]
fn a_kafka_that_is_not_there_is_said_once_and_waited_for() {
    let place = Place::new();
    let mut daemon = Running::start_with(&["-c", &place.config()], &[]);
    let before = daemon.complaint("no connection to Kafka");
    let ended = daemon.stop(Duration::from_secs(20));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let said = format!("{before}{}", ended.stderr);
    let warnings = said.lines().filter(|line| line.contains(" WARN ") && line.contains("no connection to Kafka"));
    assert_eq!(warnings.count(), 1, "{said}");
    assert!(!said.contains(" ERROR "), "{said}");
}

#[test]
fn a_statsd_agent_that_is_not_there_hurts_nobody() {
    for address in ["127.0.0.1:1", "no-such-host.invalid:8126"] {
        let ended = Place::new().with("TASKBROKER_STATSD_ADDR", address).started_and_stopped();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(!ended.stderr.contains(" ERROR "), "{}", ended.stderr);
    }
}

#[test]
fn a_health_check_says_whether_a_broker_is_there() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let reason = run(&["healthcheck", "--address", &free]).complained(1);
    assert!(reason.contains(&free) && reason.contains("http_port"), "{reason}");
    let port = free.rsplit_once(':').unwrap().1.to_owned();
    let place = Place::new().with("TASKBROKER_HTTP_ADDR", "127.0.0.1").with("TASKBROKER_HTTP_PORT", &port);
    let daemon = Running::start_with(&["-c", &place.config()], &place.environment);
    let check = || Ended::from(command(&["healthcheck"]).env("TASKBROKER_HTTP_PORT", &port).output().unwrap());
    assert!((0..400).any(|_| check().code == Some(0)), "{}", check().stderr);
    assert_eq!(daemon.stop(Duration::from_secs(20)).code, Some(0));
    assert_eq!(check().code, Some(1), "it is gone");
}

#[test]
fn an_empty_secret_with_which_anybody_could_sign() {
    let ended = Place::new().with("TASKBROKER_GRPC_SHARED_SECRET", "[\"hush\", \"\"]").refused();
    ended.because(2, &["grpc_shared_secret", "TASKBROKER_GRPC_SHARED_SECRET"]);
    assert!(!ended.stderr.contains("hush"), "a secret is not shown: {}", ended.stderr);
}

#[test]
fn a_worker_that_is_not_there_is_named_and_waited_for() {
    let place = Place::new()
        .with("TASKBROKER_DELIVERY_MODE", "push")
        .with("TASKBROKER_GRPC_PORT", free_port("127.0.0.4"))
        .with("TASKBROKER_WORKER_MAP", "{sentry=\"http://127.0.0.1:1\"}")
        .with("TASKBROKER_CANARY_TASKS", "1");
    let mut daemon = Running::start_with(&["-c", &place.config()], &place.environment);
    let said = daemon.complaint("the worker of this application takes no tasks (worker_map)");
    let line = said.lines().last().unwrap();
    assert!(line.contains(" WARN ") && line.contains("http://127.0.0.1:1") && line.contains("sentry"), "{line}");
    let ended = daemon.stop(Duration::from_secs(20));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!format!("{said}{}", ended.stderr).contains(" ERROR "), "{said}{}", ended.stderr);
}

fn free_port(host: &str) -> String {
    std::net::TcpListener::bind((host, 0)).unwrap().local_addr().unwrap().port().to_string()
}

/// This machine's user without rights, and the program that becomes one.
const NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/// What the daemon says when somebody else than root starts it; `None`, with the reason said: that cannot be tried here.
fn refused_to_nobody(place: &Place) -> Option<Ended> {
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let arguments: &[&str] = if is_root { &NOBODY } else { &["env"] };
    let as_nobody = |program: &str| {
        let mut command = std::process::Command::new(arguments[0]);
        command.args(&arguments[1..]).arg(program);
        command
    };
    let binary = env!("CARGO_BIN_EXE_taskbroker");
    let can_start = as_nobody(binary).arg("--version").output().is_ok_and(|output| output.status.success());
    if !can_start {
        #[expect(clippy::print_stderr, reason = "a test that is left out says so")]
        {
            eprintln!("left out: nobody cannot start {binary} here, or setpriv is missing");
        }
        return None;
    }
    Some(Ended::from(as_nobody(binary).args(["-c", &place.config()]).output().unwrap()))
}

#[test]
fn a_directory_of_the_store_that_may_not_be_written() {
    let place = Place::new();
    std::fs::set_permissions(place.path(), Permissions::from_mode(0o555)).unwrap();
    if let Some(ended) = refused_to_nobody(&place) {
        ended.because(1, &["the broker does not start", "store.sqlite"]);
        assert!(ended.stderr.contains("let the user that runs the broker read and write there"), "{}", ended.stderr);
    }
    std::fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
}
