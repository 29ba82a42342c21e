//! The way back.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use sqlx::{
    Connection, Row as _, SqlSafeStr,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    raw_sql,
    sqlite::SqliteRow,
};
use taskbroker_contract::store::{contents, every_state, new_row_in, position};
use taskbroker_domain::{
    activation::RetryWish,
    lifecycle::Publication,
    ports::store::{ActivationStore, Commit, NewRow, RowState, StoreError},
};
use taskbroker_sqlite::{Downgrade, Downgraded, SqliteOptions, SqliteStore, downgrade};

use crate::file::{NOW, TABLES, connect, open, place, seconds};

/// What sqlx's migrator of the existing system knows of its six migrations. Were one of them to be run on a file that has
/// them all, it would fail.
fn migrator(known: &[Applied]) -> Migrator {
    let migration = |applied: &Applied| Migration {
        version: applied.version,
        description: applied.description.clone().into(),
        migration_type: MigrationType::Simple,
        sql: "this migration must not be run again".into_sql_str(),
        checksum: applied.checksum.clone().into(),
        no_tx: false,
    };
    Migrator::with_migrations(known.iter().map(migration).collect())
}

/// What a file says of a migration.
#[derive(Clone, Debug, PartialEq)]
struct Applied {
    version: i64,
    description: String,
    checksum: Vec<u8>,
    success: bool,
}

async fn applied(path: &Path) -> Vec<Applied> {
    let rows = all(path, "SELECT version, description, checksum, success FROM _sqlx_migrations ORDER BY version").await;
    let of = |row: &SqliteRow| Applied {
        version: row.get(0),
        description: row.get(1),
        checksum: row.get(2),
        success: row.get(3),
    };
    rows.iter().map(of).collect()
}

/// A file made from what is known of theirs.
async fn known(directory: &Path) -> PathBuf {
    let path = directory.join("known.sqlite");
    let mut conn = connect(&path).await;
    raw_sql(TABLES).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    path
}

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
async fn sqlx_s_migrator_finds_every_migration_applied_and_runs_none() {
    let (directory, path) = place();
    ours(&path, some_of_each()).await;
    bring_back(&path, None).await.unwrap();
    let migrations = applied(&known(directory.path()).await).await;
    let mut conn = connect(&path).await;
    migrator(&migrations).run(&mut conn).await.unwrap();
    let mut other = migrations.clone();
    other[3].checksum[0] ^= 1;
    let refused = migrator(&other).run(&mut conn).await;
    assert!(matches!(refused, Err(MigrateError::VersionMismatch(4))), "it does look at them: {refused:?}");
    conn.close().await.unwrap();
}

#[tokio::test]
async fn the_file_has_the_tables_and_the_record_of_migrations_that_the_existing_system_looks_for() {
    let (directory, path) = place();
    ours(&path, some_of_each()).await;
    let done = bring_back(&path, None).await.unwrap();
    assert_eq!(done.path, path);

    // The same migrations, columns, types, defaults and index as in a file made from what is known of theirs.
    let known = known(directory.path()).await;
    let migrations = applied(&path).await;
    assert_eq!(migrations, applied(&known).await);
    assert!(migrations.len() == 6 && migrations.iter().all(|applied| applied.success && applied.checksum.len() == 48));
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
