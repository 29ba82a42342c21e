//! Opening: what is refused, what is set aside, and what each error says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
use taskbroker_contract::store::{contents, moment, new_row, new_row_with};
use taskbroker_domain::ports::store::{ActivationStore, Commit, StoreError};
use taskbroker_sqlite::{IntegrityCheck, Opened, SCHEMA_VERSION, SqliteOptions, SqliteStore};
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap().join("store.sqlite");
    (directory, path)
}

fn options(path: &Path) -> SqliteOptions {
    SqliteOptions::new(path, moment(0))
}

async fn open(path: &Path) -> Opened {
    SqliteStore::open(options(path)).await.unwrap()
}

async fn refusal(path: &Path) -> StoreError {
    match SqliteStore::open(options(path)).await {
        Ok(opened) => panic!("refused, not {opened:?}"),
        Err(error) => error,
    }
}

async fn execute(path: &Path, sql: &'static str) {
    let mut conn = SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap();
    sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
    sqlx::Connection::close(conn).await.unwrap();
}

/// A store with rows over many pages, closed.
async fn filled(path: &Path) {
    let store = open(path).await.store;
    let insert = (1..=500).map(|key| new_row_with(key, vec![3; 900])).collect();
    store.commit(&Commit { number: 1, insert, closing: true, ..Commit::default() }).await.unwrap();
    store.close().await;
}

fn damage(path: &Path, from: usize, length: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[from..from + length].fill(0xa5);
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_new_file_is_made_and_said_to_be_new() {
    let (_directory, path) = place();
    let first = open(&path).await;
    assert!(first.created && first.set_aside.is_none());
    first.store.close().await;
    let second = open(&path).await;
    assert!(!second.created && second.checked && second.set_aside.is_none());
}

#[tokio::test]
async fn a_brand_new_file_holds_its_schema_before_anything_is_committed() {
    let (_directory, path) = place();
    let opened = open(&path).await;
    let header = fs::read(&path).unwrap();
    let text = String::from_utf8_lossy(&header);
    assert!(text.contains("CREATE TABLE activation"), "the schema is in the file, not only in its log");
    drop(opened);
}

#[tokio::test]
async fn an_empty_file_is_a_new_one() {
    let (_directory, path) = place();
    fs::write(&path, b"").unwrap();
    assert!(open(&path).await.created);
}

#[tokio::test]
async fn the_check_runs_when_it_is_asked_for() {
    let (_directory, path) = place();
    filled(&path).await;
    for (closing, check, checked) in [
        (true, IntegrityCheck::AfterCrash, false),
        (false, IntegrityCheck::Never, false),
        (false, IntegrityCheck::AfterCrash, true),
        (true, IntegrityCheck::AfterCrash, true),
        (true, IntegrityCheck::Always, true),
    ] {
        let opened = SqliteStore::open(SqliteOptions { check, ..options(&path) }).await.unwrap();
        assert_eq!(opened.checked, checked, "{check:?}");
        opened.store.commit(&Commit { number: 1, closing, ..Commit::default() }).await.unwrap();
        opened.store.close().await;
    }
}

#[tokio::test]
async fn a_missing_directory_is_named_with_what_to_do() {
    let (directory, _path) = place();
    let text = refusal(&directory.path().join("missing/store.sqlite")).await.to_string();
    assert!(text.contains("/missing") && text.contains("create the directory"), "{text}");
}

#[tokio::test]
async fn a_directory_is_no_store() {
    let (directory, _path) = place();
    let text = refusal(directory.path()).await.to_string();
    assert!(text.contains("is a directory"), "{text}");
}

#[tokio::test]
async fn a_second_owner_learns_who_the_first_is_by_whatever_path_it_comes() {
    let (directory, path) = place();
    let _first = open(&path).await;
    let link = directory.path().join("link.sqlite");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for name in [&path, &link] {
        match refusal(name).await {
            StoreError::Owned { path: named, owner } => {
                assert_eq!(named, path.display().to_string());
                assert!(owner.contains(&format!("pid {}", std::process::id())), "{owner}");
                assert!(owner.contains("since 2026-05-28T"), "{owner}");
            }
            other => panic!("owned, not {other}"),
        }
    }
}

#[tokio::test]
async fn a_store_that_was_dropped_without_closing_can_be_opened_again() {
    let (_directory, path) = place();
    for number in 1..=3 {
        let store = open(&path).await.store;
        store.commit(&Commit { number, insert: vec![new_row(number)], ..Commit::default() }).await.unwrap();
    }
    assert_eq!(contents(&open(&path).await.store).await.rows.len(), 3);
}

#[tokio::test]
async fn a_newer_schema_is_refused_by_name_and_left_as_it_is() {
    let (_directory, path) = place();
    filled(&path).await;
    execute(&path, "UPDATE taskbroker_meta SET value = 99 WHERE name = 'schema_version'").await;
    let before = fs::read(&path).unwrap();
    let error = refusal(&path).await;
    assert!(matches!(error, StoreError::Incompatible { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("version 99") && text.contains(&format!("version {SCHEMA_VERSION}")), "{text}");
    assert!(before == fs::read(&path).unwrap(), "the file was changed");
}

#[tokio::test]
async fn files_of_others_are_refused_and_left_as_they_are() {
    for (sql, word) in [
        ("CREATE TABLE inflight_taskactivations (id TEXT)", "existing system"),
        ("CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY)", "existing system"),
        ("CREATE TABLE bookmarks (url TEXT)", "something else"),
    ] {
        let (_directory, path) = place();
        execute(&path, sql).await;
        let before = fs::read(&path).unwrap();
        let error = refusal(&path).await;
        assert!(matches!(error, StoreError::Incompatible { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
        assert!(before == fs::read(&path).unwrap(), "the file was changed");
    }
}

/// Opens a damaged file and expects it to be found whole, beside a new store.
async fn expect_set_aside(path: &Path) -> PathBuf {
    let before = fs::read(path).unwrap();
    let opened = open(path).await;
    let aside = opened.set_aside.expect("the damage is found");
    assert!(opened.created);
    assert!(!aside.reason.is_empty());
    assert_eq!(aside.path, PathBuf::from(format!("{}.damaged-20260528T202640Z", path.display())));
    assert!(before == fs::read(&aside.path).unwrap(), "the damaged file was changed");
    opened.store.commit(&Commit { number: 1, insert: vec![new_row(1)], ..Commit::default() }).await.unwrap();
    assert_eq!(contents(&opened.store).await.rows.len(), 1);
    opened.store.close().await;
    aside.path
}

#[tokio::test]
async fn what_is_no_database_is_set_aside() {
    let (_directory, path) = place();
    fs::write(&path, b"certainly not a database; certainly not a database; certainly not a database").unwrap();
    expect_set_aside(&path).await;
}

#[tokio::test]
async fn a_damaged_header_is_set_aside() {
    let (_directory, path) = place();
    filled(&path).await;
    damage(&path, 0, 100);
    expect_set_aside(&path).await;
}

#[tokio::test]
async fn a_damaged_page_in_the_middle_is_set_aside() {
    let (_directory, path) = place();
    filled(&path).await;
    damage(&path, 40 * 4_096, 4_096);
    expect_set_aside(&path).await;
}

#[tokio::test]
async fn a_cut_off_file_is_set_aside() {
    let (_directory, path) = place();
    filled(&path).await;
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    expect_set_aside(&path).await;
}

#[tokio::test]
async fn two_damaged_files_of_one_second_are_both_kept() {
    let (_directory, path) = place();
    for _ in 0..2 {
        fs::write(&path, vec![b'x'; 5_000]).unwrap();
        open(&path).await.store.close().await;
    }
    fs::write(&path, vec![b'x'; 5_000]).unwrap();
    let third = open(&path).await.set_aside.unwrap().path;
    assert!(third.display().to_string().ends_with("Z.3"), "{}", third.display());
}

/// The files of a running store as a crash of the machine would leave them.
fn copy_live(path: &Path, to: &Path) {
    for part in ["", "-wal"] {
        let (from, to) = (format!("{}{part}", path.display()), format!("{}{part}", to.display()));
        // By another process: closing a second handle in this one would drop SQLite's locks.
        assert!(Command::new("cp").args([from, to]).status().unwrap().success());
    }
}

#[tokio::test]
async fn a_damaged_file_takes_its_log_along() {
    let (directory, path) = place();
    filled(&path).await;
    let store = open(&path).await.store;
    store.commit(&Commit { number: 1, insert: vec![new_row(9_000)], ..Commit::default() }).await.unwrap();
    let left = directory.path().canonicalize().unwrap().join("left.sqlite");
    copy_live(&path, &left);
    damage(&left, 40 * 4_096, 4_096);
    let wal = fs::read(format!("{}-wal", left.display())).unwrap();
    assert!(!wal.is_empty());
    let aside = expect_set_aside(&left).await;
    assert!(wal == fs::read(format!("{}-wal", aside.display())).unwrap(), "the log was changed");
}

#[tokio::test]
async fn what_stands_only_in_the_log_is_there_after_a_crash() {
    let (directory, path) = place();
    let store = open(&path).await.store;
    let insert = (1..=50).map(new_row).collect();
    store.commit(&Commit { number: 1, insert, ..Commit::default() }).await.unwrap();
    let left = directory.path().join("left.sqlite");
    copy_live(&path, &left);
    let opened = open(&left).await;
    assert!(opened.checked && opened.set_aside.is_none());
    assert_eq!(contents(&opened.store).await, contents(&store).await);
}

#[tokio::test]
async fn a_row_that_makes_no_sense_is_moved_aside_with_its_column_named_and_stops_no_other() {
    for (change, reason) in [
        ("UPDATE activation SET state = 9 WHERE key = 250", "state is 9, which is none"),
        ("UPDATE activation SET state_at_ms = NULL WHERE key = 250", "state_at_ms is missing"),
        ("UPDATE activation SET state = 3, cause = 'fate' WHERE key = 250", "cause is Some(\"fate\"), which is none"),
        ("UPDATE activation SET added_at_ms = 'today' WHERE key = 250", "added_at_ms holds a text"),
        ("UPDATE activation SET id = x'ff00' WHERE key = 250", "id holds a blob"),
        ("UPDATE activation SET cause = x'ff00' WHERE key = 250", "cause holds a blob"),
        ("UPDATE activation SET attempt = -1 WHERE key = 250", "attempt is -1, which is out of range"),
        (
            "UPDATE activation SET lost_leases = 5000000000 WHERE key = 250",
            "lost_leases is 5000000000, which is out of range",
        ),
        ("UPDATE activation SET slot = 1.5 WHERE key = 250", "slot holds a real"),
        ("UPDATE activation SET route = 77 WHERE key = 250", "route is 77, which is missing"),
    ] {
        let (_directory, path) = place();
        filled(&path).await;
        execute(&path, change).await;
        let opened = open(&path).await;
        assert!(opened.set_aside.is_none(), "quick_check finds nothing wrong");
        let rows = opened.store.rows(None, usize::MAX).await.unwrap();
        assert_eq!(rows.len(), 499, "{change}");
        assert!(rows.iter().all(|row| row.key.0 != 250));
        assert_eq!(opened.store.rows(None, usize::MAX).await.unwrap(), rows);
        opened.store.close().await;
        let mut conn = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
        let sql = "SELECT key || ': ' || reason || ': ' || length(bytes) FROM reject";
        let rejected: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut conn).await.unwrap();
        assert_eq!(rejected, [format!("250: {reason}: 900")]);
    }
}

#[tokio::test]
async fn rows_that_make_no_sense_at_the_ends_of_pages_hide_nothing() {
    let (_directory, path) = place();
    filled(&path).await;
    execute(&path, "UPDATE activation SET state = 9 WHERE key IN (1, 2, 99, 100, 101, 500)").await;
    let store = open(&path).await.store;
    let (mut after, mut seen) = (None, 0);
    loop {
        let page = store.rows(after, 50).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.key);
        seen += page.len();
    }
    assert_eq!(seen, 494);
}
