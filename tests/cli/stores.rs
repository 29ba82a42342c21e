//! `inspect` and `backup`, on stores in use and left behind.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use crate::program::{Ended, Running, Signal, run};

/// A broker at work on a store in this directory: nobody takes its tasks.
fn busy(directory: &Path) -> (Running, PathBuf) {
    let store = directory.join("store.sqlite");
    let arguments = ["dev", "--workers", "0", "--rate", "100", "--store"].map(str::to_owned);
    let mut broker = Running::start(&[&arguments[..], &[store.display().to_string()]].concat());
    broker.line(|line| line.contains("s: produced=") && !line.contains("pending=0 "));
    (broker, store)
}

fn inspect(store: &Path) -> Ended {
    run(&["inspect".as_ref(), store.as_os_str()])
}

fn inspect_json(store: &Path) -> Value {
    serde_json::from_str(&run(&["inspect".as_ref(), "--json".as_ref(), store.as_os_str()]).succeeded()).unwrap()
}

fn backup(from: &Path, to: &Path) -> Ended {
    run(&["backup".as_ref(), "--from".as_ref(), from.as_os_str(), to.as_os_str()])
}

fn rows(inspection: &Value, status: &str) -> u64 {
    let rows = inspection["rows"].as_array().unwrap();
    rows.iter().filter(|row| row["status"] == status).map(|row| row["count"].as_u64().unwrap()).sum()
}

#[test]
fn a_store_in_use_can_be_looked_at_and_copied_while_its_broker_works() {
    let directory = tempfile::tempdir().unwrap();
    let (mut broker, store) = busy(directory.path());
    // The window is over for the first tasks when further ones were shown.
    broker.line(|line| line.contains("s: produced="));
    let live = inspect_json(&store);
    let owner = live["owner"].as_str().unwrap();
    assert!(owner.starts_with(&format!("pid {} on ", broker.pid())), "{owner}");
    assert_eq!(live["closed"], false);
    assert!(rows(&live, "Pending") > 0, "{live}");
    assert!(live["rows"][0]["application"] == "dev" && live["rows"][0]["namespace"] == "samples", "{live}");
    assert_eq!(live["positions"].as_array().unwrap().len(), 4, "{live}");

    let copy = directory.path().join("copy.sqlite");
    let told = backup(&store, &copy).succeeded();
    assert!(told.contains(&format!("copied to {}", copy.display())), "{told}");
    let copied = inspect_json(&copy);
    assert_eq!((&copied["owner"], &copied["identity"]), (&Value::Null, &live["identity"]));
    assert!(rows(&copied, "Pending") >= rows(&live, "Pending"));

    broker.signal(Signal::Int);
    assert_eq!(broker.end_within(Duration::from_secs(15)).0, Some(0));
    let left = inspect(&store).succeeded();
    assert!(left.contains("state       closed in order"), "{left}");
    assert!(left.contains("\nPending  ") && left.contains("\nDelay  ") && left.contains("\ntaskworker/0 "), "{left}");
}

#[test]
fn a_store_that_was_left_behind_by_a_kill_says_so_and_is_taken_up_again() {
    let directory = tempfile::tempdir().unwrap();
    let (mut broker, store) = busy(directory.path());
    broker.line(|line| line.contains("s: produced="));
    broker.signal(Signal::Kill);
    assert_eq!(broker.end_within(Duration::from_secs(5)).0, None);
    let left = inspect(&store).succeeded();
    assert!(left.contains("state       not in use, and not closed in order"), "{left}");
    assert!(rows(&inspect_json(&store), "Pending") > 0);
    let mut next = Running::start(&["dev", "--rate", "0", "--store", store.to_str().unwrap()]);
    next.line(|line| line.contains("s: produced=0") && !line.contains("completed=0 "));
}

#[test]
fn a_second_broker_on_the_file_is_refused_and_told_who_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let (broker, store) = busy(directory.path());
    let reason = run(&["dev", "--store", store.to_str().unwrap()]).complained(1);
    assert!(reason.contains(&format!("pid {}", broker.pid())) && reason.contains("store.sqlite"), "{reason}");
}

#[test]
fn what_is_no_store_is_refused_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("text");
    std::fs::write(&text, "this is no store, however long it is looked at; not even a database").unwrap();
    let missing = directory.path().join("missing");
    for (file, part) in
        [(text.as_path(), "not a database"), (&missing, "there is no store at"), (directory.path(), "is a directory")]
    {
        let inspected = inspect(file).complained(1);
        assert!(inspected.contains(part), "{inspected}");
        let copied = backup(file, &directory.path().join("copy")).complained(1);
        assert!(copied.contains(part) && copied.contains("was not copied"), "{copied}");
    }
    assert!(!missing.exists() && !directory.path().join("copy").exists());
    assert_eq!(std::fs::read(&text).unwrap().len(), 67);
}

#[test]
fn a_backup_overwrites_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (_broker, store) = busy(directory.path());
    let taken = directory.path().join("precious");
    std::fs::write(&taken, "precious").unwrap();
    let reason = backup(&store, &taken).complained(1);
    assert!(reason.contains("exists and is not overwritten; choose another name"), "{reason}");
    assert_eq!(std::fs::read_to_string(&taken).unwrap(), "precious");
}
