//! `dev`: tasks flow with nothing installed.

use std::{collections::HashMap, time::Duration};

use crate::program::{Running, Signal, run};

/// The numbers of the last line.
fn numbers(line: &str) -> HashMap<&str, i64> {
    let pairs = line.strip_prefix("end: ").unwrap_or_else(|| panic!("not the last line: {line}"));
    let pair =
        |pair: &'_ str| -> Option<(usize, i64)> { Some((pair.find('=')?, pair.split_once('=')?.1.parse().ok()?)) };
    pairs.split(' ').filter_map(|text| pair(text).map(|(end, number)| (&text[..end], number))).collect()
}

#[test]
fn tasks_flow_and_none_is_lost() {
    let out = run(&["dev", "--for", "5s"]).succeeded();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("Kafka: 127.0.0.1:"), "{out}");
    assert!(lines[1].starts_with("gRPC: 127.0.0.1:"), "{out}");
    assert!(out.contains("for trying out only"), "{out}");
    assert!(lines.iter().filter(|line| line.contains("s: produced=")).count() >= 4, "{out}");
    let end = numbers(lines.last().unwrap());
    assert!(end["completed"] > 100 && end["retried"] > 0 && end["dead_lettered"] > 0 && end["discarded"] > 0, "{out}");
    assert_eq!(end["finished"], end["produced"], "{out}");
    assert_eq!([end["left"], end["lost"], end["twice"], end["imbalance"]], [0; 4], "{out}");
}

#[test]
fn an_interrupt_lets_finish_what_is_there_and_ends_with_0() {
    let mut dev = Running::start(&["dev"]);
    dev.line(|line| line.contains("s: produced=") && !line.contains("completed=0 "));
    dev.signal(Signal::Int);
    let (code, rest) = dev.end_within(Duration::from_secs(15));
    assert_eq!(code, Some(0), "{rest:?}");
    let end = numbers(rest.last().unwrap());
    assert!(end["completed"] > 0, "{rest:?}");
    assert_eq!([end["lost"], end["twice"]], [0, 0], "{rest:?}");
}

#[test]
fn a_taken_port_is_avoided_unless_it_was_asked_for() {
    let mut first = Running::start(&["dev", "--rate", "0", "--workers", "0"]);
    let taken = first.line(|line| line.starts_with("gRPC: "));
    let port = taken.rsplit(':').next().unwrap();
    let mut second = Running::start(&["dev", "--rate", "0", "--workers", "0"]);
    assert_ne!(second.line(|line| line.starts_with("gRPC: ")), taken);
    let reason = run(&["dev", "--grpc-port", port]).complained(1);
    assert!(reason.starts_with(&format!("--grpc-port {port}: choose another, or leave it out")), "{reason}");
}

#[test]
fn settings_of_a_file_are_refused_rather_than_ignored() {
    let reason = run(&["dev", "-c", "config/default.yaml"]).complained(2);
    assert!(reason.contains("leave out --config"), "{reason}");
}
