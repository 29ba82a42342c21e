//! The way back.

use std::{fs, path::Path};

use bytes::Bytes;
use sqlx::{Connection, Row as _, raw_sql, sqlite::SqliteRow};
use taskbroker_contract::store::{contents, every_state, new_row_in, position};
use taskbroker_domain::{
    activation::RetryWish,
    lifecycle::Publication,
    ports::store::{ActivationStore, Commit, NewRow, RowState, StoreError},
};
use taskbroker_sqlite::{Downgrade, Downgraded, SqliteOptions, SqliteStore, downgrade};

use crate::file::{NOW, TABLES, connect, open, place, seconds};

const CHECKSUMS: [(i64, &str, &str); 6] = [
    (1, "create inflight taskactivations", "0098ec0357575e700b4388a951736b95"),
    (2, "add delay", "03c22fde8411c57d97fc9d83e5b22452"),
    (3, "update activations table", "012fd5cab96406284d29966bab499fe8"),
    (4, "add application", "f0546b1eaba8545eab2eb69f89bd48b8"),
    (5, "add bucket", "144e04dbb515d48f5a0c7dd9c6c8c4b2"),
    (6, "add claim expires at", "54c2f44fc6907f5f87684bc36b81553c"),
];

fn with_wish(payload: &Bytes, wish: RetryWish) -> Result<Bytes, taskbroker_domain::ports::codec::Undecodable> {
    Ok(format!("{} with {:?}", String::from_utf8_lossy(payload), wish.max_attempts).into())
}

async fn bring_back(path: &Path, to: Option<&Path>) -> Result<Downgraded, StoreError> {
    downgrade(Downgrade { from: path, to, now: seconds(NOW), with_wish: &with_wish }).await
}

async fn ours(path: &Path, rows: Vec<NewRow>) {
    let store = SqliteStore::open(SqliteOptions::new(path, seconds(NOW))).await.unwrap().store;
    let commit =
        Commit { number: 1, insert: rows, positions: vec![position(1, 6)], closing: true, ..Commit::default() };
    store.commit(&commit).await.unwrap();
    store.close().await;
}

async fn all(path: &Path, sql: &'static str) -> Vec<SqliteRow> {
    let mut conn = connect(path).await;
    let rows = raw_sql(sql).fetch_all(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    rows
}

/// Rows of each state, none parked, with activations that the tests' codec reads.
fn some_of_each() -> Vec<NewRow> {
    let states = [
        RowState::Pending { ready_at: seconds(NOW - 5) },
        RowState::Pending { ready_at: seconds(NOW + 500) },
        RowState::Processing { lease_ends_at: seconds(NOW + 300) },
        RowState::Retry { wish: RetryWish::default(), publication: Publication::Waiting },
        RowState::Retry { wish: RetryWish { max_attempts: Some(4), delay_s: None }, publication: Publication::Waiting },
    ];
    let row = |(key, state): (u64, RowState)| {
        let mut new = new_row_in(key, state);
        new.payload = format!("attempt 0 of {}", new.row.id).into();
        new.row.payload_bytes = u32::try_from(new.payload.len()).unwrap();
        new
    };
    (1..).zip(states).map(row).collect()
}

#[tokio::test]
async fn the_file_has_the_tables_and_the_record_of_migrations_that_the_existing_system_looks_for() {
    let (directory, path) = place();
    ours(&path, some_of_each()).await;
    let done = bring_back(&path, None).await.unwrap();
    assert_eq!(done.path, path);
    let migrations = all(
        &path,
        "SELECT version, description, lower(hex(checksum)), success, length(checksum) FROM _sqlx_migrations",
    )
    .await;
    assert_eq!(migrations.len(), 6);
    for (row, (version, description, checksum)) in migrations.iter().zip(CHECKSUMS) {
        assert_eq!((row.get::<i64, _>(0), row.get::<String, _>(1)), (version, description.to_owned()));
        assert!(row.get::<String, _>(2).starts_with(checksum));
        assert_eq!((row.get::<bool, _>(3), row.get::<i64, _>(4)), (true, 48));
    }

    // The same columns, types, defaults and index as in a file made from what is known of theirs.
    let known = directory.path().join("known.sqlite");
    let mut conn = connect(&known).await;
    raw_sql(TABLES).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    for sql in [
        "SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info('inflight_taskactivations')",
        "SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info('_sqlx_migrations')",
        "SELECT name, '', 0, '', 0 FROM pragma_index_info('idx_pending_activation')",
        "SELECT name, type, strict, '', 0 FROM pragma_table_list WHERE name NOT LIKE 'sqlite%'",
    ] {
        let columns = |rows: Vec<SqliteRow>| {
            let column = |row: &SqliteRow| {
                (
                    row.get::<String, _>(0),
                    row.get::<String, _>(1),
                    row.get::<i64, _>(2),
                    row.get::<Option<String>, _>(3),
                    row.get::<i64, _>(4),
                )
            };
            rows.iter().map(column).collect::<Vec<_>>()
        };
        let (mut found, mut wanted) = (columns(all(&path, sql).await), columns(all(&known, sql).await));
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted, "{sql}");
        assert!(!found.is_empty());
    }
    assert_eq!(all(&path, "PRAGMA journal_mode").await[0].get::<String, _>(0), "wal");
    assert_eq!(all(&path, "PRAGMA auto_vacuum").await[0].get::<i64, _>(0), 2, "incremental");
}

#[tokio::test]
async fn each_row_says_in_its_words_what_ours_said() {
    let (_directory, path) = place();
    ours(&path, some_of_each()).await;
    let done = bring_back(&path, None).await.unwrap();
    assert_eq!((done.rows, done.parked, done.left_behind), (5, 0, 0));
    let rows = all(
        &path,
        "SELECT status, delay_until, processing_deadline, partition, offset, processing_deadline_duration, bucket, application,
            CAST(activation AS TEXT) FROM inflight_taskactivations ORDER BY offset",
    )
    .await;
    let found: Vec<_> = rows
        .iter()
        .map(|row| (row.get::<String, _>(0), row.get::<Option<i64>, _>(1), row.get::<Option<i64>, _>(2)))
        .collect();
    let word = |word: &str, delay, deadline| (word.to_owned(), delay, deadline);
    assert_eq!(
        found,
        [
            word("Pending", None, None),
            word("Delay", Some(NOW + 500), None),
            word("Processing", None, Some(NOW + 300)),
            word("Retry", None, None),
            word("Retry", None, None),
        ]
    );
    let first = &rows[0];
    let partition = position(1, 6).partition.partition;
    assert_eq!((first.get::<i32, _>(3), first.get::<i64, _>(4)), (partition, 1));
    assert_eq!(
        (first.get::<i64, _>(5), first.get::<i64, _>(6), first.get::<String, _>(7)),
        (10, 0x5a, "sentry".into())
    );
    assert!(!rows[3].get::<String, _>(8).contains("with"));
    assert!(rows[4].get::<String, _>(8).ends_with("with Some(4)"), "the wish is in the activation");
}

#[tokio::test]
async fn what_is_brought_back_and_taken_over_again_is_the_same() {
    let (_directory, path) = place();
    let rows = some_of_each().into_iter().take(4).collect::<Vec<_>>();
    ours(&path, rows.clone()).await;
    bring_back(&path, None).await.unwrap();
    let opened = open(&path).await;
    assert!(opened.taken_over.is_some());
    let found = contents(&opened.store).await;
    for (new, back) in rows.iter().zip(&found.rows) {
        let (row, back) = (&new.row, back);
        assert_eq!((&row.id, &row.route, &row.terms.run_limit), (&back.id, &back.route, &back.terms.run_limit));
        assert_eq!((row.lost_leases, row.terms.at_most_once), (back.lost_leases, back.terms.at_most_once));
        assert_eq!(row.origin.unwrap().offset, back.origin.unwrap().offset);
        let payload = opened.store.payloads(&[back.key]).await.unwrap().remove(0).1;
        assert_eq!(new.payload, payload);
        match (&row.state, &back.state) {
            (RowState::Pending { ready_at: before }, RowState::Pending { ready_at }) if *before < seconds(NOW) => {
                assert!(*ready_at <= seconds(NOW));
            }
            (ours, back) => assert_eq!(ours, back),
        }
    }
    assert_eq!(found.rows.len(), 4);
}

#[tokio::test]
async fn every_state_becomes_a_row_of_theirs_but_for_what_is_parked() {
    let (_directory, path) = place();
    let states = every_state();
    let parked = |state: &RowState| match state {
        RowState::Retry { publication, .. }
        | RowState::Forward { publication }
        | RowState::Failed { publication, .. } => {
            matches!(publication, Publication::Parked(_))
        }
        RowState::Pending { .. } | RowState::Processing { .. } => false,
    };
    let count = states.iter().filter(|state| parked(state)).count() as u64;
    let total = states.len() as u64;
    ours(&path, (1..).zip(states).map(|(key, state)| new_row_in(key, state)).collect()).await;
    let done = bring_back(&path, None).await.unwrap();
    assert_eq!((done.rows, done.parked, done.left_behind), (total - count, count, 0));
    assert!(count > 0);
}

#[tokio::test]
async fn ours_is_kept_in_the_place_of_nothing_or_where_it_was() {
    let (directory, path) = place();
    ours(&path, some_of_each()).await;
    let to = directory.path().canonicalize().unwrap().join("theirs.sqlite");
    let before = fs::read(&path).unwrap();
    let done = bring_back(&path, Some(&to)).await.unwrap();
    assert_eq!((&done.path, &done.original), (&to, &path));
    assert!(before == fs::read(&path).unwrap(), "ours is as it was");
    let again = bring_back(&path, Some(&to)).await.unwrap_err();
    assert!(again.to_string().contains("exists and is not overwritten"), "{again}");

    let done = bring_back(&path, None).await.unwrap();
    assert_eq!(done.original, path.with_file_name("store.sqlite.before-downgrade"));
    let kept = SqliteStore::open(SqliteOptions::new(&done.original, seconds(NOW))).await.unwrap().store;
    assert_eq!(kept.rows(None, 10).await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_store_in_use_is_refused_and_a_damaged_one_is_left_where_it_is() {
    let (_directory, path) = place();
    ours(&path, some_of_each()).await;
    let store = SqliteStore::open(SqliteOptions::new(&path, seconds(NOW))).await.unwrap().store;
    let error = bring_back(&path, None).await.unwrap_err();
    assert!(matches!(error, StoreError::Owned { .. }), "{error}");
    store.close().await;
    fs::write(&path, vec![b'x'; 9_000]).unwrap();
    let error = bring_back(&path, None).await.unwrap_err();
    assert!(error.to_string().contains("taskbroker recover"), "{error}");
    assert_eq!(fs::read(&path).unwrap().len(), 9_000);
}

#[tokio::test]
async fn a_row_without_its_payload_stays_behind() {
    let (_directory, path) = place();
    ours(&path, some_of_each()).await;
    let mut conn = connect(&path).await;
    raw_sql("DELETE FROM payload WHERE key = 2").execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    let done = bring_back(&path, None).await.unwrap();
    assert_eq!((done.rows, done.left_behind), (4, 1));
    assert_eq!(done.positions.len(), 1);
}
