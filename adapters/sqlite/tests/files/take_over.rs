//! Taking over.

use std::{fs, path::Path, time::Duration};

use sqlx::{Connection, raw_sql};
use taskbroker_domain::{
    activation::{OnFailure, RetryWish, Route, TopicId},
    lifecycle::Publication,
    ports::store::{ActivationStore, FailureCause, RowState, StoreError},
};
use taskbroker_sqlite::{SqliteOptions, SqliteStore, TakeOver, TakeOverLog, TakenOver, TakenOverPartition};

use crate::file::{
    NOW, TABLES, Theirs, connect, copy_live, file, insert, log, of, open, options, place, seconds, theirs,
};

async fn rows(store: &SqliteStore) -> Vec<taskbroker_domain::ports::store::Row> {
    store.rows(None, usize::MAX).await.unwrap()
}

#[tokio::test]
async fn rows_of_every_status_go_on_where_they_were() {
    let there = [
        Theirs { expires_at: Some(NOW + 500), ..theirs("pending", 0, 1, "Pending") },
        Theirs { delay_until: Some(NOW + 50), at_most_once: true, ..theirs("delayed", 0, 2, "Delay") },
        Theirs { deadline: Some(NOW + 300), ..theirs("with a worker", 0, 3, "Processing") },
        Theirs { deadline: Some(NOW - 30), ..theirs("overdue", 0, 4, "Processing") },
        Theirs { claim_expires_at: Some(NOW + 5), ..theirs("claimed", 1, 5, "Claimed") },
        theirs("again", 1, 6, "Retry"),
        Theirs { on_attempts_exceeded: 2, ..theirs("failed", 1, 7, "Failure") },
        theirs("failed and unwanted", 1, 8, "Failure"),
        theirs("done", 1, 9, "Complete"),
    ];
    let (_directory, path) = file(&there).await;
    let opened = open(&path).await;
    let rows = rows(&opened.store).await;
    let state = |id: &str| of(&rows, id).state.clone();
    let lease = |at| RowState::Processing { lease_ends_at: seconds(at) };
    assert_eq!(state("pending"), RowState::Pending { ready_at: seconds(NOW - 100) });
    assert_eq!(state("delayed"), RowState::Pending { ready_at: seconds(NOW + 50) });
    assert_eq!(state("with a worker"), lease(NOW + 300));
    assert_eq!(state("overdue"), lease(NOW + 60), "its worker gets as long to report as it had there after a start");
    assert_eq!(state("claimed"), lease(NOW + 60));
    assert_eq!(state("again"), RowState::Retry { wish: RetryWish::default(), publication: Publication::Waiting });
    assert_eq!(state("failed"), RowState::Failed { cause: FailureCause::Reported, publication: Publication::Waiting });
    assert_eq!(rows.len(), 7);

    let pending = of(&rows, "pending");
    assert_eq!((pending.added_at, pending.received_at), (seconds(NOW - 100), seconds(NOW - 101)));
    assert_eq!((pending.lost_leases, pending.terms.attempt), (1, 2), "the attempt is in the activation alone");
    assert_eq!(
        (pending.terms.run_limit, pending.terms.expires_at),
        (Duration::from_secs(10), Some(seconds(NOW + 500)))
    );
    assert_eq!(*pending.route, Route::new("sentry", "ingest", "ingest.save"));
    assert_eq!(of(&rows, "delayed").terms.delayed_until, Some(seconds(NOW + 50)));
    assert!(of(&rows, "delayed").terms.at_most_once && !pending.terms.at_most_once);
    assert_eq!(of(&rows, "failed").terms.on_failure, OnFailure::DeadLetter);
    let payloads = opened.store.payloads(&[pending.key]).await.unwrap();
    assert_eq!(payloads[0].1, "attempt 2 of pending");

    let partitions = vec![TakenOverPartition { partition: 0, next: 5 }, TakenOverPartition { partition: 1, next: 10 }];
    let original = Some(path.with_file_name("store.sqlite.before-takeover"));
    let expected = TakenOver { original, rows: 7, done: 1, discarded: 1, undecodable: 0, partitions };
    assert_eq!(opened.taken_over, Some(expected));
}

#[tokio::test]
async fn partitions_and_offsets_count_as_read_up_to_the_largest_that_was_stored() {
    let canary = Theirs { namespace: "internal", task_name: "canary_task", ..theirs("canary", 0, 900, "Pending") };
    let there = [theirs("a", 0, 41, "Pending"), theirs("b", 0, 7, "Pending"), theirs("c", 3, 5, "Complete"), canary];
    let (_directory, path) = file(&there).await;
    let opened = open(&path).await;
    let state = opened.store.state().await.unwrap();
    let found: Vec<_> = state.positions.iter().map(|p| (p.partition.partition, p.watermark, p.read_limit)).collect();
    assert_eq!(found, [(0, 42, 42), (3, 6, 6)], "a canary comes from no log");
    let partition = &state.positions[0].partition;
    assert_eq!(
        (&*partition.topic, &*partition.group, partition.topic_id),
        ("taskworker", "taskworker", TopicId::UNKNOWN)
    );
    assert!(state.closed);
    let rows = rows(&opened.store).await;
    let origin = of(&rows, "b").origin.unwrap();
    assert_eq!((origin.slot, origin.offset), (state.positions[0].slot, 7));
    assert_eq!(of(&rows, "canary").origin, None);
}

#[tokio::test]
async fn rows_that_may_be_of_another_topic_say_nothing_about_this_one() {
    let raw = Theirs { namespace: "raw", task_name: "raw.task", ..theirs("raw", 0, 5_000, "Pending") };
    let (_directory, path) = file(&[theirs("a", 0, 41, "Pending"), raw]).await;
    let log = TakeOverLog { except: vec![Route::new("sentry", "raw", "raw.task")], ..log() };
    let store = SqliteStore::open(options(&path, Some(log))).await.unwrap().store;
    assert_eq!(store.state().await.unwrap().positions[0].watermark, 42);
    assert_eq!(of(&rows(&store).await, "raw").origin, None);
}

#[tokio::test]
async fn without_a_log_rows_go_on_and_positions_are_unknown() {
    let (_directory, path) = file(&[theirs("a", 0, 41, "Pending")]).await;
    let store = SqliteStore::open(options(&path, None)).await.unwrap().store;
    assert!(store.state().await.unwrap().positions.is_empty());
    assert_eq!(of(&rows(&store).await, "a").origin, None);
}

#[tokio::test]
async fn the_oldest_come_first_and_keys_are_in_their_order() {
    let aged = |id, added_at| Theirs { added_at, ..theirs(id, 0, 1, "Pending") };
    let there = [aged("z", NOW - 1), aged("a", NOW - 5), aged("m", NOW - 5), aged("k", NOW - 9)];
    let (_directory, path) = file(&there).await;
    let rows = rows(&open(&path).await.store).await;
    let order: Vec<_> = rows.iter().map(|row| format!("{} {}", row.key.0, row.id)).collect();
    assert_eq!(order, ["1 k", "2 a", "3 m", "4 z"]);
}

#[tokio::test]
async fn what_is_no_activation_is_on_its_way_to_the_dead_letter_topic() {
    let (_directory, path) = file(&[Theirs { activation: b"\xff".into(), ..theirs("odd", 0, 1, "Pending") }]).await;
    let opened = open(&path).await;
    let cause = FailureCause::Undecodable("not text".into());
    assert_eq!(
        of(&rows(&opened.store).await, "odd").state,
        RowState::Failed { cause, publication: Publication::Waiting }
    );
    assert_eq!(opened.taken_over.unwrap().undecodable, 1);
}

#[tokio::test]
async fn odd_values_are_made_sense_of() {
    let there = [
        Theirs { run_limit: -294_967_296, ..theirs("wrapped", 0, 1, "Pending") },
        Theirs { at_most_once: true, ..theirs("of no status", 0, 2, "Unspecified") },
        Theirs { attempts: -1, added_at: -7, ..theirs("negative", -4, -2, "Pending") },
    ];
    let (_directory, path) = file(&there).await;
    let rows = rows(&open(&path).await.store).await;
    assert_eq!(of(&rows, "wrapped").terms.run_limit, Duration::from_secs(77), "the activation has the true one");
    assert!(matches!(of(&rows, "of no status").state, RowState::Processing { .. }), "a worker may have it");
    assert_eq!((of(&rows, "negative").lost_leases, of(&rows, "negative").origin), (0, None));
}

#[tokio::test]
async fn what_stands_only_in_the_log_of_a_killed_process_is_taken_over() {
    let (directory, path) = file(&[theirs("in the file", 0, 1, "Pending")]).await;
    let mut conn = connect(&path).await;
    raw_sql("PRAGMA wal_autocheckpoint = 0").execute(&mut conn).await.unwrap();
    insert(&mut conn, &[theirs("in the log", 0, 2, "Pending")]).await;
    let left = directory.path().canonicalize().unwrap().join("left.sqlite");
    copy_live(&path, &left);
    assert!(!String::from_utf8_lossy(&fs::read(&left).unwrap()).contains("in the log"), "only the log has it");
    let opened = open(&left).await;
    assert_eq!(opened.taken_over.as_ref().unwrap().rows, 2);
    assert_eq!(rows(&opened.store).await.len(), 2);
    opened.store.close().await;
    let original = opened.taken_over.unwrap().original.unwrap();
    let kept: i64 = count(&original).await;
    assert_eq!(kept, 2, "the original holds everything, too");
}

async fn count(path: &Path) -> i64 {
    let mut conn = connect(path).await;
    let count = sqlx::query_scalar("SELECT count(*) FROM inflight_taskactivations").fetch_one(&mut conn).await;
    conn.close().await.unwrap();
    count.unwrap()
}

#[tokio::test]
async fn it_is_done_once_and_the_second_start_finds_a_store_of_ours() {
    let (_directory, path) = file(&[theirs("a", 0, 1, "Pending")]).await;
    open(&path).await.store.close().await;
    let again = open(&path).await;
    assert!(again.taken_over.is_none() && again.checked);
    assert_eq!(rows(&again.store).await.len(), 1);
}

#[tokio::test]
async fn one_that_was_killed_half_way_is_begun_again() {
    let (_directory, path) = file(&[theirs("a", 0, 1, "Pending")]).await;
    for part in ["", "-wal", "-shm"] {
        fs::write(format!("{}.taking-over{part}", path.display()), vec![7; 9_000]).unwrap();
    }
    fs::hard_link(&path, format!("{}.before-takeover", path.display())).unwrap();
    let opened = open(&path).await;
    assert_eq!(rows(&opened.store).await.len(), 1);
    let original = opened.taken_over.unwrap().original.unwrap();
    assert_eq!(count(&original).await, 1);
    assert!(!fs::exists(format!("{}.taking-over", path.display())).unwrap());
}

#[tokio::test]
async fn a_file_that_the_existing_system_has_open_is_refused_and_left_as_it_is() {
    let (_directory, path) = file(&[theirs("a", 0, 1, "Pending")]).await;
    let mut theirs_open = connect(&path).await;
    raw_sql("SELECT count(*) FROM inflight_taskactivations").execute(&mut theirs_open).await.unwrap();
    let error = SqliteStore::open(options(&path, Some(log()))).await.unwrap_err();
    assert!(matches!(error, StoreError::Owned { .. }), "{error}");
    assert!(error.to_string().contains("stop it first"), "{error}");
    theirs_open.close().await.unwrap();
    assert_eq!(count(&path).await, 1);
    assert!(open(&path).await.taken_over.is_some());
}

#[tokio::test]
async fn the_original_need_not_be_kept() {
    let (directory, path) = file(&[theirs("a", 0, 1, "Pending")]).await;
    let mut options = options(&path, None);
    options.take_over = options.take_over.map(|with| TakeOver { keep_original: false, ..with });
    let opened = SqliteStore::open(options).await.unwrap();
    assert_eq!(opened.taken_over.unwrap().original, None);
    opened.store.close().await;
    let mut names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["store.sqlite", "store.sqlite.lock"]);
}

#[tokio::test]
async fn a_file_of_another_version_of_it_is_refused_by_the_number_of_its_migrations() {
    for (sql, number) in [
        ("DELETE FROM _sqlx_migrations WHERE version > 4", "4 of its migrations"),
        ("INSERT INTO _sqlx_migrations SELECT 7, 'new', 0, TRUE, x'00', 0", "7 of its migrations"),
    ] {
        let (_directory, path) = place();
        let mut conn = connect(&path).await;
        raw_sql(TABLES).execute(&mut conn).await.unwrap();
        raw_sql(sql).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
        let before = fs::read(&path).unwrap();
        let error = SqliteStore::open(options(&path, Some(log()))).await.unwrap_err();
        assert!(matches!(error, StoreError::Incompatible { .. }) && error.to_string().contains(number), "{error}");
        assert!(before == fs::read(&path).unwrap());
    }
}

#[tokio::test]
async fn without_being_asked_nothing_is_taken_over() {
    let (_directory, path) = file(&[theirs("a", 0, 1, "Pending")]).await;
    let error = SqliteStore::open(SqliteOptions::new(&path, seconds(NOW))).await.unwrap_err();
    assert!(matches!(error, StoreError::Incompatible { .. }), "{error}");
    assert_eq!(count(&path).await, 1);
}

#[tokio::test]
async fn thousands_of_rows_are_taken_over_in_commits_of_bounded_size() {
    let there: Vec<_> =
        (0..5_000).map(|offset| theirs(&format!("id {offset}"), offset % 4, offset, "Pending")).collect();
    let (_directory, path) = file(&there).await;
    let opened = open(&path).await;
    assert_eq!(rows(&opened.store).await.len(), 5_000);
    assert_eq!(opened.taken_over.unwrap().partitions.iter().map(|p| p.next).max(), Some(5_000));
}
