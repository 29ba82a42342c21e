//! Commits that fail, and what comes after.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use taskbroker_contract::store::{Model, contents, moment, new_row, new_row_with};
use taskbroker_domain::{
    activation::{Key, Route},
    ports::store::{ActivationStore, Commit, NewRow, StoreError},
};
use taskbroker_sqlite::{SqliteOptions, SqliteStore};
use tempfile::TempDir;

async fn store(change: impl FnOnce(&mut SqliteOptions)) -> (TempDir, PathBuf, SqliteStore) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap().join("store.sqlite");
    let mut options = SqliteOptions::new(&path, moment(0));
    options.busy_limit = Duration::from_millis(10);
    change(&mut options);
    let store = SqliteStore::open(options).await.unwrap().store;
    (directory, path, store)
}

async fn foreign(path: &Path, sql: &'static str) -> SqliteConnection {
    let mut conn = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
    conn
}

fn insert(number: u64, rows: impl IntoIterator<Item = NewRow>) -> Commit {
    Commit { number, insert: rows.into_iter().collect(), ..Commit::default() }
}

fn routed(key: u64, task: &str) -> NewRow {
    let mut new = new_row(key);
    new.row.route = Arc::new(Route::new("app", "namespace", task));
    new
}

#[tokio::test]
async fn a_store_that_somebody_else_locks_is_busy_and_then_takes_the_same_commit() {
    let (_directory, path, store) = store(|_| ()).await;
    let other = foreign(&path, "BEGIN IMMEDIATE").await;
    let commit = insert(1, [new_row(1)]);
    let error = store.commit(&commit).await.unwrap_err();
    assert!(matches!(error, StoreError::Busy(_)) && error.may_pass(), "{error}");
    other.close().await.unwrap();
    store.commit(&commit).await.unwrap();
    assert_eq!(contents(&store).await, Model::after([&commit]).contents());
}

#[tokio::test]
async fn a_full_store_keeps_what_it_has_and_takes_more_once_there_is_room() {
    let (_directory, _path, store) = store(|options| options.file_max_bytes = Some(1 << 20)).await;
    let large = |number: u64| insert(number, [new_row_with(number, vec![1; 100_000])]);
    let mut number = 1;
    let error = loop {
        match store.commit(&large(number)).await {
            Ok(()) => number += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full(_)) && error.may_pass(), "{error}");
    assert!(number > 5);
    assert_eq!(contents(&store).await.rows.len() as u64, number - 1);
    store.commit(&Commit { number, delete: vec![Key(1), Key(2)], ..Commit::default() }).await.unwrap();
    store.commit(&large(number)).await.unwrap();
    assert_eq!(contents(&store).await.rows.len() as u64, number - 2);
}

#[tokio::test]
async fn a_commit_of_several_calls_that_fails_in_the_middle_leaves_nothing() {
    let (_directory, _path, store) = store(|options| options.file_max_bytes = Some(2 << 20)).await;
    let before = insert(1, [new_row(1)]);
    store.commit(&before).await.unwrap();
    let error = store.commit(&insert(2, (2..2_000).map(|key| new_row_with(key, vec![1; 2_000])))).await.unwrap_err();
    assert!(matches!(error, StoreError::Full(_)), "{error}");
    assert_eq!(contents(&store).await, Model::after([&before]).contents());
    let after = insert(2, [new_row(2)]);
    store.commit(&after).await.unwrap();
    assert_eq!(contents(&store).await, Model::after([&before, &after]).contents());
}

#[tokio::test]
async fn routes_of_a_failed_commit_do_not_mix_with_those_of_the_next() {
    let (_directory, path, store) = store(|_| ()).await;
    let first = insert(1, [routed(1, "first")]);
    store.commit(&first).await.unwrap();
    let other = foreign(&path, "BEGIN IMMEDIATE").await;
    store.commit(&insert(2, [routed(2, "never"), routed(3, "seen")])).await.unwrap_err();
    other.close().await.unwrap();
    let second = insert(2, [routed(2, "second"), routed(3, "first")]);
    store.commit(&second).await.unwrap();
    assert_eq!(contents(&store).await, Model::after([&first, &second]).contents());
}

#[tokio::test]
async fn a_key_beyond_what_sqlite_counts_is_refused_and_names_the_activation() {
    let (_directory, _path, store) = store(|_| ()).await;
    let mut row = new_row(1);
    row.row.key = Key(u64::MAX);
    let text = store.commit(&insert(1, [row.clone()])).await.unwrap_err().to_string();
    assert!(text.contains(&u64::MAX.to_string()) && text.contains(&*row.row.id.text()), "{text}");
    store.commit(&insert(1, [new_row(1)])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_caller_gives_up_is_whole_or_absent_and_the_next_one_succeeds() {
    let (_directory, _path, store) = store(|_| ()).await;
    let mut next = 1;
    for round in 0..40_u64 {
        let commit = insert(round + 1, (next..next + 300).map(new_row));
        next += 300;
        let limit = Duration::from_micros(round * 100);
        let _given_up = tokio::time::timeout(limit, store.commit(&commit)).await;
    }
    store.commit(&insert(99, [new_row(next)])).await.unwrap();
    let held = contents(&store).await;
    assert_eq!(held.rows.len() % 300, 1);
    assert_eq!(held.rows.last().unwrap().key, Key(next));
    assert_eq!(held.payloads.len(), held.rows.len());
}

#[tokio::test]
async fn a_reader_that_does_not_end_bounds_the_log_and_nothing_stays_behind_when_it_ends() {
    let (_directory, path, store) = store(|options| options.wal_max_bytes = 2 << 20).await;
    store.commit(&insert(1, [new_row(1)])).await.unwrap();
    let reader = foreign(&path, "BEGIN; SELECT count(*) FROM activation").await;
    let large = |number: u64| insert(number, [new_row_with(number, vec![1; 200_000])]);
    let mut number = 2;
    let error = loop {
        match store.commit(&large(number)).await {
            Ok(()) => number += 1,
            Err(error) => break error,
        }
        assert!(number < 100, "the log is not bounded");
    };
    assert!(matches!(error, StoreError::Full(_)), "{error}");
    assert!(error.to_string().contains("another process reads"), "{error}");
    reader.close().await.unwrap();
    for number in number..number + 60 {
        store.commit(&large(number)).await.unwrap();
    }
    let wal = path.with_extension("sqlite-wal").metadata().unwrap().len();
    assert!(wal < 20 << 20, "{wal}");
}

#[tokio::test]
async fn the_log_is_reused_and_stays_small() {
    let (_directory, path, store) = store(|_| ()).await;
    let wal = || path.with_extension("sqlite-wal").metadata().unwrap().len();
    let mut sizes = Vec::new();
    for number in 1..=100 {
        store.commit(&insert(number, [new_row_with(number, vec![1; 1_000_000])])).await.unwrap();
        sizes.push(wal());
    }
    assert!(sizes.is_sorted(), "the log was cut: {sizes:?}");
    assert!(wal() < 24 << 20, "{}", wal());
}

#[tokio::test]
async fn the_room_that_rows_left_is_used_again() {
    const ROWS: u64 = 50;
    let (_directory, path, store) = store(|_| ()).await;
    let mut sizes = Vec::new();
    for round in 0..4 {
        let keys = round * ROWS..(round + 1) * ROWS;
        let rows = keys.clone().map(|key| new_row_with(key, vec![1; 200_000]));
        store.commit(&insert(2 * round + 1, rows)).await.unwrap();
        let delete = keys.map(Key).collect();
        store.commit(&Commit { number: 2 * round + 2, delete, ..Commit::default() }).await.unwrap();
        foreign(&path, "PRAGMA wal_checkpoint(FULL)").await.close().await.unwrap();
        sizes.push(path.metadata().unwrap().len());
    }
    assert!(sizes[0] > ROWS * 200_000, "{sizes:?}");
    assert!(sizes[3] < sizes[0] + sizes[0] / 4, "{sizes:?}");
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let (_directory, _path, store) = store(|_| ()).await;
    store.close().await;
    store.close().await;
    let text = store.commit(&insert(1, [new_row(1)])).await.unwrap_err().to_string();
    assert!(text.contains("closed"), "{text}");
    store.rows(None, 1).await.unwrap_err();
}

#[tokio::test]
async fn after_a_failure_that_does_not_pass_nothing_more_is_written() {
    let (_directory, path, store) = store(|_| ()).await;
    store.commit(&insert(1, [new_row(1)])).await.unwrap();
    foreign(&path, "ALTER TABLE payload RENAME TO hidden").await.close().await.unwrap();
    let error = store.commit(&insert(2, [new_row(2)])).await.unwrap_err();
    assert!(matches!(error, StoreError::Failed(_)) && !error.may_pass(), "{error}");
    foreign(&path, "ALTER TABLE hidden RENAME TO payload").await.close().await.unwrap();
    let error = store.commit(&insert(2, [new_row(2)])).await.unwrap_err();
    assert!(error.to_string().contains("after an earlier failure"), "{error}");
    assert_eq!(store.rows(None, 9).await.unwrap().len(), 1);
}
