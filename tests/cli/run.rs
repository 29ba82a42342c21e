//! `run`: the daemon, without a Kafka that answers.

use std::{path::Path, time::Duration};

use crate::program::{Running, Signal, command, run};

/// Settings of a broker whose Kafka is not there, with its store in this directory.
fn configuration(directory: &Path, grpc_addr: &str) -> String {
    let path = directory.join("config.yaml");
    let store = directory.join("store.sqlite");
    let yaml = format!(
        "kafka_cluster: 127.0.0.1:1\ngrpc_addr: {grpc_addr}\nhttp_port: 0\nlog_format: json\nstore: {{ sqlite: {{ path: '{}' }} }}\n",
        store.display()
    );
    std::fs::write(&path, yaml).unwrap();
    path.display().to_string()
}

#[test]
fn a_signal_ends_it_in_order_within_ten_seconds_while_kafka_is_away() {
    for signal in [Signal::Term, Signal::Int, Signal::Quit] {
        let directory = tempfile::tempdir().unwrap();
        let config = configuration(directory.path(), "127.0.0.2");
        let daemon = Running::start(&["-c", &config]);
        wait_for_owner(directory.path());
        daemon.signal(signal);
        let (code, _) = daemon.end_within(Duration::from_secs(10));
        assert_eq!(code, Some(0), "{signal:?}");
        let store = directory.path().join("store.sqlite");
        let shown = run(&["inspect".as_ref(), store.as_os_str()]).succeeded();
        assert!(shown.contains("closed in order"), "{shown}");
    }
}

/// The broker is up once its store has an owner.
fn wait_for_owner(directory: &Path) {
    let store = directory.join("store.sqlite");
    let owned = || run(&["inspect".as_ref(), store.as_os_str()]).stdout.contains("in use by pid");
    assert!((0..200).any(|_| owned()), "the broker does not open its store");
}

#[test]
fn a_port_that_cannot_be_taken_is_named_and_ends_with_1() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.3:0").unwrap();
    let config = configuration(directory.path(), "127.0.0.3");
    let mut command = command(&["-c", &config]);
    let output = command.env("TASKBROKER_GRPC_PORT", taken.local_addr().unwrap().port().to_string()).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("the broker does not start") && log.contains("grpc_port"), "{log}");
}

#[test]
fn settings_that_cannot_be_used_end_with_2_before_anything_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let config = configuration(directory.path(), "localhost");
    let ended = run(&["-c", &config]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("grpc_addr"), "{}", ended.stderr);
    assert!(!directory.path().join("store.sqlite").exists());
}

#[test]
fn run_broker_is_the_default() {
    for arguments in [&[][..], &["-r", "broker"], &["--run", "broker"]] {
        let directory = tempfile::tempdir().unwrap();
        let config = configuration(directory.path(), "127.0.0.3");
        let daemon = Running::start(&[&["-c", config.as_str()], arguments].concat());
        wait_for_owner(directory.path());
        daemon.signal(Signal::Term);
        assert_eq!(daemon.end_within(Duration::from_secs(10)).0, Some(0), "{arguments:?}");
    }
}

#[test]
fn run_migrations_does_nothing_and_succeeds() {
    let directory = tempfile::tempdir().unwrap();
    let config = configuration(directory.path(), "127.0.0.3");
    for option in ["-r", "--run"] {
        let ended = run(&["-c", &config, option, "migrations"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{}", ended.stderr);
        assert!(ended.stderr.contains("warning: no migrations are run"), "{}", ended.stderr);
    }
    assert!(!directory.path().join("store.sqlite").exists());
    assert_eq!(run(&["--run", "something"]).code, Some(2));
}
