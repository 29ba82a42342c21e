//! What settings make of a broker that runs: its log, the metrics it sends, its health, its rules. Its Kafka is not there.

use std::{
    net::UdpSocket,
    path::Path,
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
use taskbroker_support::broker::{Metrics, Worker, free_port, http_get};

use crate::program::{Running, Signal, command};

/// How long a broker may take for what it does soon.
const WITHIN: Duration = Duration::from_secs(60);

/// What a broker in this directory needs, whatever else it is told.
fn environment(directory: &Path) -> Vec<(&'static str, String)> {
    vec![
        ("TASKBROKER_KAFKA_CLUSTER", "127.0.0.1:1".to_owned()),
        ("TASKBROKER_GRPC_PORT", "0".to_owned()),
        ("TASKBROKER_HTTP_PORT", "0".to_owned()),
        ("TASKBROKER_STORE__SQLITE__PATH", directory.join("store.sqlite").display().to_string()),
    ]
}

fn start(directory: &Path, settings: &[(&'static str, String)]) -> Running {
    let all = [environment(directory).as_slice(), settings].concat();
    Running::start_with(&["run"], &all)
}

/// What a broker logs that ends by itself, since its port is taken; nothing of it on standard output.
fn log(settings: &[(&'static str, &str)]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.5:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = command(&["run"]);
    command.envs(environment(directory.path())).envs(settings.iter().copied());
    command.env("TASKBROKER_GRPC_ADDR", "127.0.0.5").env("TASKBROKER_GRPC_PORT", port);
    let output = command.output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
    String::from_utf8(output.stderr).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_log_has_the_form_and_the_events_that_the_settings_say() {
    let text = log(&[]);
    for level in [" INFO ", " ERROR "] {
        assert!(text.iter().any(|line| line.contains(level)), "{level}: {text:#?}");
    }
    assert!(text.iter().all(|line| !line.starts_with('{')), "{text:#?}");
    let json = log(&[("TASKBROKER_LOG_FORMAT", "json"), ("TASKBROKER_LOG_FILTER", "error")]);
    assert!(!json.is_empty());
    for line in json {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(line["level"], "ERROR", "{line}");
    }
}

#[test]
fn what_is_doubtful_in_the_settings_is_in_the_log_and_no_secret_is() {
    let text = log(&[
        ("TASKBROKER_GRCP_PORT", "1"),
        ("TASKBROKER_DB_MAX_SIZE", "7000000"),
        ("TASKBROKER_VACUUM_INTERVAL_MS", "1"),
        ("TASKBROKER_SENTRY_DSN", "https://hush@sentry"),
        ("TASKBROKER_GRPC_SHARED_SECRET", r#"["hush"]"#),
    ]);
    let warned = |text_of: &str| text.iter().filter(|line| line.contains(" WARN ") && line.contains(text_of)).count();
    for said in [
        "grcp_port (environment variable TASKBROKER_GRCP_PORT): there is no such setting; did you mean grpc_port?",
        "db_max_size (environment variable TASKBROKER_DB_MAX_SIZE): is the earlier name of store.max_size: use that",
        "vacuum_interval_ms (environment variable TASKBROKER_VACUUM_INTERVAL_MS): has no effect",
        "sentry_dsn (environment variable TASKBROKER_SENTRY_DSN): has no effect",
    ] {
        assert_eq!(warned(said), 1, "{said}: {text:#?}");
    }
    assert!(!text.concat().contains("hush"), "{text:#?}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a real process takes real time")]
fn metrics_are_sent_to_the_agent_with_the_tags_that_the_settings_say() {
    let (directory, agent) = (tempfile::tempdir().unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    agent.set_read_timeout(Some(WITHIN)).unwrap();
    let daemon = start(
        directory.path(),
        &[
            ("TASKBROKER_STATSD_ADDR", agent.local_addr().unwrap().to_string()),
            ("TASKBROKER_DEFAULT_METRICS_TAGS", "{region=eu, cell=01}".to_owned()),
        ],
    );
    let wanted = "taskbroker.upkeep.current_pending_tasks:0|g|#cell:01,region:eu,topic:taskworker,partition:-1";
    let (mut buffer, mut sent, began) = ([0; 65_536], String::new(), Instant::now());
    while !sent.lines().any(|line| line == wanted) {
        assert!(began.elapsed() < WITHIN, "it is not sent, but {sent}");
        let length = agent.recv(&mut buffer).unwrap();
        sent = String::from_utf8(buffer[..length].to_vec()).unwrap();
    }
    assert_eq!(daemon.stop(WITHIN).code, Some(0));
}

#[test]
fn sighup_has_the_rules_read_again_and_stops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let rules = directory.path().join("rules.yaml");
    std::fs::write(&rules, "drop_task_killswitch: [a]\ndemoted_namespaces: []\n").unwrap();
    for (settings, begun, answer) in [
        (vec![("TASKBROKER_RUNTIME_CONFIG_PATH", rules.display().to_string())], "rules read", "rules read"),
        (Vec::new(), "store opened", "SIGHUP: there is nothing to read again"),
    ] {
        let mut daemon = start(directory.path(), &settings);
        daemon.complaint(begun);
        // The file is as it was: only the signal makes it read again.
        for _ in 0..2 {
            daemon.signal(Signal::Hup);
            daemon.complaint(answer);
        }
        assert_eq!(daemon.stop(WITHIN).code, Some(0));
    }
}

#[test]
fn of_a_kafka_that_is_away_nobody_says_that_topics_do_not_exist() {
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = start(directory.path(), &[]);
    let said = daemon.complaint("it cannot be seen whether it exists");
    let ended = daemon.stop(WITHIN);
    assert_eq!(ended.code, Some(0));
    assert!(!(said.clone() + &ended.stderr).contains("it does not exist"), "{said}{}", ended.stderr);
}

#[tokio::test]
async fn a_part_that_fails_for_good_ends_the_broker_with_1() {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_port().unwrap());
    let settings = [
        ("TASKBROKER_CANARY_TASKS", "1".to_owned()),
        ("TASKBROKER_WORKER_MAP", "{tests=http://127.0.0.1:1}".to_owned()),
        ("TASKBROKER_GRPC_ADDR", "127.0.0.1".to_owned()),
        ("TASKBROKER_GRPC_PORT", port.to_string()),
        ("TASKBROKER_SHUTDOWN_TIMEOUT", "1s".to_owned()),
        ("TASKBROKER_STORE__LINGER", "0ms".to_owned()),
    ];
    let mut daemon = start(directory.path(), &settings);
    let mut worker = Worker::at(port).unwrap();
    let task = worker.fetch_within(WITHIN).await.unwrap().unwrap();
    let file = SqliteConnectOptions::new().filename(directory.path().join("store.sqlite"));
    let mut intruder = file.connect().await.unwrap();
    sqlx::raw_sql("DROP TABLE activation; DROP TABLE payload").execute(&mut intruder).await.unwrap();
    worker.complete(&task.id).await.unwrap_err();
    daemon.complaint(" ERROR ");
    assert_eq!(daemon.end_within(WITHIN).0, Some(1));
}

/// Waits until this port answers this path as it is wanted.
#[expect(clippy::disallowed_methods, reason = "a real process takes real time")]
async fn await_answer(port: u16, path: &str, wanted: impl Fn(u16, &str) -> bool) {
    let began = Instant::now();
    loop {
        let answer = http_get(port, path).await;
        if answer.as_ref().is_ok_and(|(status, body)| wanted(*status, body)) {
            return;
        }
        assert!(began.elapsed() < WITHIN, "{path}: {answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn health_that_is_forced_is_good_where_nobody_asks_for_canary_tasks() {
    let run = |forced: &str| {
        let (directory, port) = (tempfile::tempdir().unwrap(), free_port().unwrap());
        let settings = [
            ("TASKBROKER_CANARY_TASKS", "2".to_owned()),
            ("TASKBROKER_HEALTH_CHECK_KILLSWITCHED", forced.to_owned()),
            ("TASKBROKER_HTTP_PORT", port.to_string()),
        ];
        (start(directory.path(), &settings), directory, port)
    };
    let ((_forced, _first, forced), (_judged, _second, judged)) = (run("true"), run("false"));
    let unserved = "no worker asks for 2 tasks of application \\\"sentry\\\", namespace \\\"internal\\\"";
    await_answer(judged, "/readyz", |status, body| status == 503 && body.contains(unserved)).await;
    await_answer(forced, "/metrics", |_, body| body.contains("\ntaskbroker_unserved{")).await;
    assert_eq!(Metrics::of(forced).await.unwrap().sum("taskbroker_unserved"), 2.0);
    for path in ["/readyz", "/healthz"] {
        assert_eq!(http_get(forced, path).await.unwrap().0, 200, "{path}");
    }
}
