//! What others see of a store while it is in use.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use taskbroker_contract::store::{
    Contents, contents, early_report, every_state, id, moment, new_row, new_row_in, new_row_with, position,
};
use taskbroker_domain::{
    activation::{Key, OnFailure, Route, Slot},
    lifecycle::Publication,
    ports::store::{ActivationStore, Commit, FailureCause, RowState, Tombstone},
    time::Timestamp,
};
use taskbroker_sqlite::{PARKED_MAX, SqliteOptions, SqliteStore, backup, inspect};
use tempfile::TempDir;

async fn store() -> (TempDir, PathBuf, SqliteStore) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap().join("store.sqlite");
    let store = SqliteStore::open(SqliteOptions::new(&path, moment(0))).await.unwrap().store;
    (directory, path, store)
}

/// Runs Python's own SQLite, as operators' scripts do, on the store attached as `store`; returns what it prints.
fn python(path: &Path, script: &str) -> Result<String, String> {
    let script = format!(
        "import sqlite3\ndb = sqlite3.connect(':memory:')\ndb.execute('ATTACH ? AS store', ('{}',))\n{script}",
        path.display()
    );
    let output = Command::new("python3").args(["-c", &script]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

const COLUMNS: &str = "id activation partition offset added_at processing_attempts expires_at \
    processing_deadline_duration processing_deadline status at_most_once namespace delay_until on_attempts_exceeded \
    received_at taskname application bucket claim_expires_at";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_reads_the_nineteen_columns_while_the_store_is_written() {
    let (_directory, path, store) = store().await;
    store.commit(&Commit { number: 1, insert: vec![new_row(1)], ..Commit::default() }).await.unwrap();
    let columns = "print(*[c[0] for c in db.execute('SELECT * FROM store.inflight_taskactivations').description])";
    assert_eq!(python(&path, columns).unwrap(), COLUMNS);
    let reading = tokio::task::spawn_blocking(move || {
        let script = "for _ in range(300):
    n, low, high = db.execute('SELECT count(*), min(offset), max(offset) FROM store.inflight_taskactivations').fetchone()
    assert n == high - low + 1 and n % 10 == 1 % 10 or n == 1, (n, low, high)
print('consistent')";
        python(&path, script)
    });
    let mut number = 1;
    while !reading.is_finished() {
        number += 1;
        let start = number * 10 - 18;
        let insert = (start..start + 10).map(new_row).collect();
        store.commit(&Commit { number, insert, ..Commit::default() }).await.unwrap();
    }
    assert_eq!(reading.await.unwrap().unwrap(), "consistent");
}

#[tokio::test]
async fn the_view_shows_each_state_in_the_words_of_the_existing_system() {
    let (_directory, path, store) = store().await;
    let far = Timestamp::from_millis(253_402_300_799_000);
    let mut rows = vec![
        new_row_in(1, RowState::Pending { ready_at: Timestamp::from_millis(1_000) }),
        new_row_in(2, RowState::Pending { ready_at: far }),
        new_row_in(3, RowState::Processing { lease_ends_at: moment(30) }),
        new_row_in(
            4,
            RowState::Retry {
                wish: taskbroker_domain::activation::RetryWish::default(),
                publication: Publication::Waiting,
            },
        ),
        new_row_in(
            5,
            RowState::Failed { cause: FailureCause::Reported, publication: Publication::Parked("too large".into()) },
        ),
    ];
    rows[1].row.terms.delayed_until = Some(far);
    rows[2].row.terms.at_most_once = true;
    rows[2].row.lost_leases = 3;
    rows[3].row.terms.expires_at = Some(moment(77));
    rows[3].row.origin = None;
    rows[4].row.terms.on_failure = OnFailure::DeadLetter;
    rows[4].row.route = Arc::new(Route::new("app", "space", "job"));
    rows[4].row.id = taskbroker_domain::activation::ActivationId::new("0b9e8f6a-7c1d-4a52-9f0e-1d2c3b4a59ff");
    let commit = Commit { number: 1, insert: rows, positions: vec![position(1, 9)], ..Commit::default() };
    store.commit(&commit).await.unwrap();
    let shown = python(
        &path,
        "for row in db.execute('SELECT * FROM store.inflight_taskactivations ORDER BY offset, id'):
    print(*row, sep='|')",
    )
    .unwrap();
    let added = moment(0).as_millis() / 1_000;
    let (received, common) = (added - 1, "sentry|90|None");
    let id = |key| id(key).to_string();
    let expected = [
        format!(
            "{}|b'payload of 4'|-1|-1|{added}|0|{}|10|None|Retry|0|ingest|None|1|{received}|ingest.save_event|{common}",
            id(4),
            added + 77
        ),
        format!(
            "{}|b'payload of 1'|1|1|{added}|0|None|10|None|Pending|0|ingest|None|1|{received}|ingest.save_event|{common}",
            id(1)
        ),
        format!(
            "{}|b'payload of 2'|1|2|{added}|0|None|10|None|Delay|0|ingest|253402300799|1|{received}|ingest.save_event|{common}",
            id(2)
        ),
        format!(
            "{}|b'payload of 3'|1|3|{added}|3|None|10|{}|Processing|1|ingest|None|1|{received}|ingest.save_event|{common}",
            id(3),
            added + 30
        ),
        format!(
            "0b9e8f6a-7c1d-4a52-9f0e-1d2c3b4a59ff|b'payload of 5'|1|5|{added}|0|None|10|None|Failure|0|space|None|2|{received}|job|app|255|None"
        ),
    ];
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the view asks the clock of whoever reads it")]
async fn a_task_that_is_ready_since_this_very_second_is_pending() {
    let (_directory, path, store) = store().await;
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap());
    let soon = now.saturating_add(std::time::Duration::from_secs(60));
    let rows =
        vec![new_row_in(1, RowState::Pending { ready_at: now }), new_row_in(2, RowState::Pending { ready_at: soon })];
    store.commit(&Commit { number: 1, insert: rows, ..Commit::default() }).await.unwrap();
    let words =
        "print(*[r[0] for r in db.execute('SELECT status FROM store.inflight_taskactivations ORDER BY offset')])";
    assert_eq!(python(&path, words).unwrap(), "Pending Delay");
}

#[tokio::test]
async fn the_view_cannot_be_written() {
    let (_directory, path, _store) = store().await;
    let error = python(&path, "db.execute(\"DELETE FROM store.inflight_taskactivations\")").unwrap_err();
    assert!(error.contains("view"), "{error}");
}

/// A store with something of everything.
async fn fill(store: &SqliteStore) {
    let mut insert: Vec<_> = (1..).zip(every_state()).map(|(key, state)| new_row_in(key, state)).collect();
    insert.extend((1_000..1_100 + PARKED_MAX as u64).map(|key| {
        let publication = Publication::Parked(format!("reason {key}").into());
        let mut new = new_row_in(key, RowState::Failed { cause: FailureCause::WorkerLost, publication });
        new.row.route = Arc::new(Route::new("app", "parked", "job"));
        new
    }));
    let commit = Commit {
        number: 1,
        insert,
        positions: vec![position(2, 20), position(1, 10)],
        remember: [1, 2, 3].map(early_report).to_vec(),
        bury: vec![Tombstone { id: id(9), slot: Slot(1) }],
        ..Commit::default()
    };
    store.commit(&commit).await.unwrap();
}

#[tokio::test]
async fn a_live_store_is_summed_up_without_disturbing_it() {
    let (_directory, path, store) = store().await;
    fill(&store).await;
    let found = inspect(&path).await.unwrap();
    assert_eq!((&found.path, found.identity), (&path, store.identity()));
    assert!(!found.closed);
    assert!(found.owner.unwrap().contains(&format!("pid {}", std::process::id())));
    assert_eq!((found.early_reports, found.tombstones), (3, 1));
    assert_eq!(found.positions, [position(1, 10), position(2, 20)]);
    assert!(found.usage.used_bytes > 0 && found.usage.disk_bytes >= found.usage.used_bytes);
    let rows = contents(&store).await.rows.len() as u64;
    assert_eq!(found.groups.iter().map(|group| group.count).sum::<u64>(), rows);
    store.commit(&Commit { number: 2, delete: vec![Key(1)], ..Commit::default() }).await.unwrap();
    assert_eq!(contents(&store).await.rows.len() as u64, rows - 1);
}

#[tokio::test]
async fn groups_and_parked_rows_are_told_with_status_and_age() {
    let (_directory, path, store) = store().await;
    fill(&store).await;
    let mut late = new_row_in(5_000, RowState::Processing { lease_ends_at: moment(9) });
    late.row.added_at = moment(-500);
    store.commit(&Commit { number: 2, insert: vec![late], ..Commit::default() }).await.unwrap();
    let found = inspect(&path).await.unwrap();
    let group = found.groups.iter().find(|group| group.namespace == "parked").unwrap();
    assert_eq!((group.status.as_str(), group.application.as_str()), ("Failure", "app"));
    assert_eq!((group.count, group.oldest_added_at), (100 + PARKED_MAX as u64, moment(0)));
    assert_eq!(found.by_status()["Processing"], (3, moment(-500)));
    assert_eq!(found.parked.len(), PARKED_MAX);
    assert!(found.parked_total > PARKED_MAX as u64);
    let listed = found.parked.iter().find(|parked| parked.key == Key(1_000));
    assert!(listed.is_none_or(|parked| parked.reason == "reason 1000" && parked.status == "Failure"));
    assert!(found.parked.iter().all(|parked| parked.added_at == moment(0)));
}

#[tokio::test]
async fn a_closed_store_and_a_copy_are_summed_up_without_an_owner() {
    let (directory, path, store) = store().await;
    fill(&store).await;
    let copy = directory.path().join("copy.sqlite");
    backup(&path, &copy).await.unwrap();
    store.close().await;
    for path in [&path, &copy] {
        let found = inspect(path).await.unwrap();
        assert_eq!((found.owner, found.early_reports), (None, 3));
        assert_eq!(found.identity, store.identity());
    }
    let reopened = SqliteStore::open(SqliteOptions::new(&path, moment(1))).await.unwrap();
    assert!(reopened.set_aside.is_none());
}

#[tokio::test]
async fn there_is_nothing_to_see_where_no_store_is() {
    let (directory, _path, _store) = store().await;
    let error = inspect(&directory.path().join("none.sqlite")).await.unwrap_err();
    assert!(error.to_string().contains("there is no store at"), "{error}");
    let error = backup(&directory.path().join("none.sqlite"), &directory.path().join("to")).await.unwrap_err();
    assert!(error.to_string().contains("there is no store at"), "{error}");
}

#[tokio::test]
async fn a_copy_of_a_live_store_is_whole_and_can_be_opened() {
    let (directory, path, store) = store().await;
    fill(&store).await;
    let expected: Contents = contents(&store).await;
    let to = directory.path().canonicalize().unwrap().join("copy.sqlite");
    let made = backup(&path, &to).await.unwrap();
    assert_eq!((made.path.as_path(), made.bytes), (to.as_path(), to.metadata().unwrap().len()));
    store.commit(&Commit { number: 2, delete: vec![Key(1)], ..Commit::default() }).await.unwrap();
    let copy = SqliteStore::open(SqliteOptions::new(&to, moment(1))).await.unwrap();
    assert!(copy.checked && !copy.created);
    assert_eq!(copy.store.identity(), store.identity());
    assert_eq!(contents(&copy.store).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_made_during_commits_is_of_one_moment() {
    let (directory, path, store) = store().await;
    store.commit(&Commit { number: 1, insert: vec![new_row(1)], ..Commit::default() }).await.unwrap();
    let to = directory.path().join("copy.sqlite");
    let copying = tokio::spawn({
        let (path, to) = (path.clone(), to.clone());
        async move { backup(&path, &to).await }
    });
    let mut number = 1;
    while !copying.is_finished() {
        number += 1;
        let insert = (number * 10..number * 10 + 10).map(|key| new_row_with(key, vec![1; 2_000])).collect();
        store.commit(&Commit { number, insert, ..Commit::default() }).await.unwrap();
    }
    copying.await.unwrap().unwrap();
    let copy = SqliteStore::open(SqliteOptions::new(&to, moment(1))).await.unwrap().store;
    let held = contents(&copy).await;
    assert_eq!(held.rows.len() % 10, 1);
    assert_eq!(held.payloads.len(), held.rows.len());
}

#[tokio::test]
async fn a_copy_overwrites_nothing_and_leaves_nothing_unfinished() {
    let (directory, path, store) = store().await;
    fill(&store).await;
    let to = directory.path().join("precious");
    std::fs::write(&to, "precious").unwrap();
    let error = backup(&path, &to).await.unwrap_err();
    assert!(error.to_string().contains("not overwritten"), "{error}");
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "precious");
    backup(&path, &directory.path().join("second")).await.unwrap();
    let unfinished = std::fs::read_dir(directory.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("unfinished"));
    assert_eq!(unfinished.count(), 0);
}
