//! A process that commits is killed at random moments: what was answered is there.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use taskbroker_contract::store::{contents, moment, new_row_with, position};
use taskbroker_domain::{
    activation::Key,
    ports::store::{ActivationStore, Commit},
};
use taskbroker_sqlite::{IntegrityCheck, SqliteOptions, SqliteStore};

const STORE: &str = "TASKBROKER_CRASH_TEST_STORE";
const FIRST: &str = "TASKBROKER_CRASH_TEST_FIRST";

/// Commit `number` adds three rows and removes those of the commit before the last, so that rows and position always tell
/// which commits are there.
fn commit(number: u64) -> Commit {
    let keys = |number: u64| number * 3..number * 3 + 3;
    let size = usize::try_from(number * 7_919 % 20_000).unwrap();
    let watermark = i64::try_from(number).unwrap();
    Commit {
        number,
        insert: keys(number).map(|key| new_row_with(key, vec![1; size])).collect(),
        delete: number.checked_sub(2).map_or(vec![], |gone| keys(gone).map(Key).collect()),
        positions: vec![position(1, watermark)],
        ..Commit::default()
    }
}

async fn open(path: &Path) -> SqliteStore {
    let options = SqliteOptions { check: IntegrityCheck::Always, ..SqliteOptions::new(path, moment(0)) };
    let opened = SqliteStore::open(options).await.unwrap();
    assert!(opened.set_aside.is_none(), "{:?}", opened.set_aside);
    opened.store
}

/// What the killed process runs. Run by itself, it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_commits_until_it_is_killed() {
    let (Ok(path), Ok(first)) = (std::env::var(STORE), std::env::var(FIRST)) else { return };
    let store = open(Path::new(&path)).await;
    for number in first.parse().unwrap()..u64::MAX {
        store.commit(&commit(number)).await.unwrap();
        let mut answers = std::io::stdout();
        writeln!(answers, "\ncommitted {number}").unwrap();
        answers.flush().unwrap();
    }
}

fn start(path: &Path, first: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_commits_until_it_is_killed", "--nocapture"])
        .env(STORE, path)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets the child commit for a while, kills it, and returns the last commit it was answered.
fn run_and_kill(path: &Path, first: u64, commits: u64, then: Duration) -> u64 {
    let mut child = start(path, first);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut answered = lines.filter_map(|line| line.strip_prefix("committed ")?.parse().ok());
    let seen = answered.by_ref().nth(usize::try_from(commits).unwrap()).unwrap();
    // Not to wait for anything, but to kill at no particular moment of a commit.
    std::thread::sleep(then);
    child.kill().unwrap();
    child.wait().unwrap();
    answered.last().unwrap_or(seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answered_commit_is_there_after_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let mut first = 1;
    for round in 0..6_u64 {
        let pause = Duration::from_micros(round * 1_733 % 3_000);
        let answered = run_and_kill(&path, first, 20 + round * 37 % 100, pause);
        let store = open(&path).await;
        let last = last_commit(&store).await;
        assert!(last == answered || last == answered + 1, "answered {answered}, found {last}");
        first = last + 1;
        store.close().await;
    }
}

/// The last commit in the store, which must hold exactly what commits up to it leave.
async fn last_commit(store: &SqliteStore) -> u64 {
    let held = contents(store).await;
    let last = held.state.positions.first().unwrap().watermark.unsigned_abs();
    let expected: Vec<_> = [last - 1, last].into_iter().flat_map(|number| commit(number).insert).collect();
    assert!(held.rows.iter().eq(expected.iter().map(|new| &new.row)), "rows of commits {} and {last}", last - 1);
    assert!(expected.iter().all(|new| held.payloads[&new.row.key] == new.payload));
    last
}
