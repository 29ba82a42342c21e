//! `check-config`.

use std::path::PathBuf;

use tempfile::TempDir;

use crate::program::{Ended, command, run};

/// A configuration file.
fn written(yaml: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    std::fs::write(&path, yaml).unwrap();
    (directory, path)
}

fn check(yaml: &str) -> Ended {
    let (_directory, path) = written(yaml);
    run(&["check-config".as_ref(), "-c".as_ref(), path.as_os_str()])
}

#[test]
fn the_effective_settings_are_shown_with_the_source_of_each() {
    let (_directory, path) = written("grpc_addr: 127.0.0.1\nstore:\n  max_pending_count: 77\n");
    let mut command = command(&["check-config".as_ref(), "-c".as_ref(), path.as_os_str()]);
    let shown = Ended::from(command.env("TASKBROKER_GRPC_PORT", "6000").output().unwrap()).succeeded();
    let line = |key: &str| {
        shown.lines().find(|line| line.contains(key)).unwrap_or_else(|| panic!("{key}: {shown}")).to_owned()
    };
    assert!(line("max_pending_count").contains("77") && line("max_pending_count").contains("config.yaml"), "{shown}");
    assert!(line("grpc_port").contains("6000") && line("grpc_port").contains("TASKBROKER_GRPC_PORT"), "{shown}");
}

#[test]
fn a_relative_file_is_the_nearest_one_above_the_working_directory() {
    let top = tempfile::tempdir().unwrap();
    let below = top.path().join("one/two");
    std::fs::create_dir_all(&below).unwrap();
    for (directory, port) in [(".", 1001), ("one", 1002), ("one/two", 1003)] {
        std::fs::write(top.path().join(directory).join("broker.yaml"), format!("grpc_port: {port}\n")).unwrap();
        for option in ["-c", "--config"] {
            let mut command = command(&["check-config", option, "broker.yaml"]);
            let shown = Ended::from(command.current_dir(&below).output().unwrap()).succeeded();
            assert!(shown.contains(&format!("grpc_port: {port}  # ")), "{option}: {shown}");
        }
    }
}

#[test]
fn what_cannot_be_used_ends_with_2_and_names_key_and_file() {
    let ended = check("store:\n  max_pending_count: many\nkafka_auto_offset_reset: sometimes\n");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    for part in ["store.max_pending_count", "many", "config.yaml", "kafka_auto_offset_reset", "earliest"] {
        assert!(ended.stderr.contains(part), "{part} is missing in:\n{}", ended.stderr);
    }
}

#[test]
fn an_unknown_key_is_a_warning_and_the_configuration_can_be_used() {
    let ended = check("grpc_addr: 127.0.0.1\ngrpc_prot: 5\n");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("warning: ") && ended.stderr.contains("grpc_prot"), "{}", ended.stderr);
}

#[test]
fn a_missing_file_is_named() {
    let reason = run(&["check-config", "-c", "/nowhere/config.yaml"]).complained(2);
    assert!(reason.contains("/nowhere/config.yaml"), "{reason}");
}

#[test]
fn a_password_is_not_shown() {
    let ended = check(
        "sentry_dsn: https://hush@sentry
grpc_shared_secret: [hush, hush-too]
kafka_clusters:
  main: { address: 'kafka:9092', security_protocol: sasl_ssl, sasl_mechanism: PLAIN, sasl_username: me, sasl_password: hush }
kafka_topics:
  taskworker: { cluster: main, consumer_group: taskworker }
  taskworker-dlq: { cluster: main, produce_only: true }
",
    );
    assert!(!ended.stderr.contains("hush"));
    let shown = ended.succeeded();
    assert!(shown.contains("kafka:9092") && !shown.contains("hush"), "{shown}");
}
