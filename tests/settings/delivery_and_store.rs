//! Every key of `fetch`, `push` and `store`: its default, what it can be and cannot, and that what is given arrives.

use taskbroker::settings::{Settings, Sources, load};

use super::{environment, yaml, yaml_problems};

/// A key and what is known of it.
struct Held {
    key: &'static str,
    /// What it is where nothing is said.
    default: &'static str,
    /// Values as they are written, each with what arrives.
    given: &'static [(&'static str, &'static str)],
    /// Values that are refused.
    refused: &'static [&'static str],
    /// Where it arrives.
    arrives: fn(&Settings) -> String,
}

/// Declares them: `key: default, [written => arrives], [refused], where`.
macro_rules! held {
    ($($key:literal: $default:literal, [$($written:literal => $arrives:literal),+], $refused:expr, $at:expr;)+) => {
        [$(Held {
            key: $key,
            default: $default,
            given: &[$(($written, $arrives)),+],
            refused: &$refused,
            arrives: |settings| format!("{:?}", $at(settings)),
        }),+]
    };
}

fn delivery() -> Vec<Held> {
    held! {
        "fetch.threads": "1", ["64" => "64", "256" => "256"], ["0", "3", "512", "many"], |s: &Settings| s.delivery.fetch.threads;
        "fetch.backoff": "100ms", ["1500ms" => "1.5s"], ["100", "1.5s", "-1ms"], |s: &Settings| s.delivery.fetch.backoff;
        "fetch.batch_length": "1", ["7" => "7"], ["0", "-1", "many"], |s: &Settings| s.delivery.fetch.batch_length;
        "push.threads": "1", ["8" => "8"], ["0", "-1", "many"], |s: &Settings| s.delivery.push.threads;
        "push.timeout": "30s", ["250ms" => "250ms"], ["0", "0ms", "30", "30 s"], |s: &Settings| s.delivery.push.timeout;
        "push.queue.size": "1", ["64" => "64"], ["0", "-1", "many"], |s: &Settings| s.delivery.push.queue_size;
        "push.queue.timeout": "5s", ["1s" => "1s"], ["0", "0ms", "5"], |s: &Settings| s.delivery.push.queue_timeout;
        "push.update.batched": "false", ["true" => "true"], ["perhaps", "7"], |s: &Settings| s.delivery.push.update_batched;
        "push.update.batch.length": "1", ["9" => "9"], ["0"], |s: &Settings| s.delivery.push.update_batch_length;
        "push.update.batch.size": "1", ["9" => "9"], ["0"], |s: &Settings| s.delivery.push.update_batch_size;
        "push.update.batch.interval": "100ms", ["0ms" => "0ns", "2s" => "2s"], ["100", "soon"],
            |s: &Settings| s.delivery.push.update_batch_interval;
    }
    .into()
}

fn store() -> Vec<Held> {
    held! {
        "store.adapter": "Sqlite", ["memory" => "Memory", "sqlite" => "Sqlite"], ["postgres", "mysql"],
            |s: &Settings| s.store.adapter;
        "store.sqlite.path": "\"./taskbroker-inflight.sqlite\"", ["/data/a.sqlite" => "\"/data/a.sqlite\""],
            ["5", "':memory:'"], |s: &Settings| s.store.sqlite_path.clone();
        "store.max_size": "Some(3000000000)", ["7000000" => "Some(7000000)", "null" => "None"], ["0", "-1", "much"],
            |s: &Settings| s.store.max_bytes;
        "store.max_pending_count": "2048", ["1" => "1"], ["0", "-1", "many"], |s: &Settings| s.store.max_pending;
        "store.max_delay_count": "8192", ["2" => "2"], ["0", "-1", "many"], |s: &Settings| s.store.max_delayed;
        "store.max_processing_count": "2048", ["3" => "3"], ["0", "-1", "many"], |s: &Settings| s.store.max_processing;
        "store.max_processing_attempts": "5", ["1" => "1"], ["0", "-1", "many"], |s: &Settings| s.store.max_lost_leases;
        "store.processing_deadline_grace_sec": "3s", ["0" => "0ns", "7" => "7s"], ["-1", "3s"],
            |s: &Settings| s.store.deadline_grace;
        "store.linger": "200ms", ["0" => "0ns", "1s" => "1s"], ["200", "11s"], |s: &Settings| s.store.linger;
        "store.max_outbox_count": "8192", ["4" => "4"], ["0"], |s: &Settings| s.store.max_outbox;
        "store.max_unserved_count": "10000", ["5" => "5"], ["0"], |s: &Settings| s.store.max_unserved;
        "store.max_parked_count": "10000", ["6" => "6"], ["0"], |s: &Settings| s.store.max_parked;
        "store.payload_memory_bytes": "134217728", ["6000000" => "6000000"], ["1000000"],
            |s: &Settings| s.store.payload_memory_bytes;
        "store.early_reports_max": "100000", ["0" => "0", "7" => "7"], ["-1"], |s: &Settings| s.store.early_reports_max;
        "store.tombstones_keep": "300s", ["10m" => "600s"], ["600", "8d"], |s: &Settings| s.store.tombstones_keep;
        "store.hold_after_crash": "3s", ["0" => "0ns", "1m" => "60s"], ["3", "6m"], |s: &Settings| s.store.hold_after_crash;
        "store.absent_partition_limit": "600s", ["1s" => "1s"], ["0", "8d"], |s: &Settings| s.store.absent_partition_limit;
    }
    .into()
}

fn all() -> impl Iterator<Item = Held> {
    delivery().into_iter().chain(store())
}

/// `a.b.c` with this value, as YAML.
fn in_a_file(key: &str, value: &str) -> String {
    key.split('.').rev().fold(value.to_owned(), |inner, name| format!("{{{name}: {inner}}}"))
}

#[test]
fn every_key_has_its_default_and_arrives_from_the_file_and_from_the_environment() {
    let defaults = load(&Sources::defaults()).unwrap().settings;
    for Held { key, default, given, arrives, .. } in all() {
        assert_eq!(arrives(&defaults), default, "{key}");
        let variable = format!("TASKBROKER_{}", key.replace('.', "__").to_uppercase());
        for (written, expected) in given {
            assert_eq!(arrives(&yaml(&in_a_file(key, written)).settings), *expected, "{key}: {written}");
            assert_eq!(arrives(&environment(&[(&variable, written)]).settings), *expected, "{variable}={written}");
        }
    }
}

#[test]
fn what_a_key_cannot_be_is_refused_by_its_name() {
    for Held { key, refused, .. } in all() {
        for written in refused {
            let said = yaml_problems(&in_a_file(key, written));
            assert!(said.iter().any(|line| line.starts_with(&format!("{key} = "))), "{key}: {written}: {said:?}");
        }
    }
}

#[test]
fn no_key_of_these_sections_is_left_out() {
    let loaded = load(&Sources::defaults()).unwrap();
    let is_tls = |key: &String| key.starts_with("push.tls_");
    let is_here = |key: &String| ["fetch.", "push.", "store."].iter().any(|section| key.starts_with(section));
    let mut there: Vec<String> = loaded.effective.keys().map(ToString::to_string).collect();
    there.retain(|key| is_here(key) && !is_tls(key));
    let mut held: Vec<String> = all().map(|held| held.key.to_owned()).collect();
    held.sort();
    there.sort();
    assert_eq!(there, held);
}
