//! Recovering, from files that are really damaged.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use sqlx::{Connection, raw_sql};
use taskbroker_contract::store::{contents, new_row, new_row_in, position};
use taskbroker_domain::{
    activation::Key,
    ports::store::{ActivationStore, Commit, FailureCause, NewRow, Row, RowState},
};
use taskbroker_sqlite::{Recover, Recovered, SqliteOptions, SqliteStore, recover};

use crate::file::{NOW, TextCodec, Theirs, connect, copy_live, file, of, open, place, seconds, theirs};

const PAGE: usize = 4_096;

/// A row whose activation the tests' codec reads.
fn readable(key: u64, filler: usize) -> NewRow {
    let mut new = new_row(key);
    new.payload = format!("attempt 1 of {}{}", new.row.id, "+".repeat(filler)).into();
    new.row.payload_bytes = u32::try_from(new.payload.len()).unwrap();
    new
}

/// A store of 500 rows, some with payloads over many pages, closed.
async fn filled(path: &Path) {
    let store = SqliteStore::open(SqliteOptions::new(path, seconds(NOW))).await.unwrap().store;
    let insert = (1..=500).map(|key| readable(key, if key % 50 == 0 { 30_000 } else { 300 })).collect();
    let commit = Commit { number: 1, insert, positions: vec![position(1, 6)], closing: true, ..Commit::default() };
    store.commit(&commit).await.unwrap();
    store.close().await;
}

async fn get_out(path: &Path) -> (Recovered, Vec<Row>, SqliteStore) {
    let to = path.with_file_name("recovered.sqlite");
    fs::remove_file(&to).ok();
    let found = recover(Recover { from: path, to: &to, now: seconds(NOW), codec: &TextCodec }).await.unwrap();
    let store = SqliteStore::open(SqliteOptions::new(&to, seconds(NOW))).await.unwrap().store;
    let rows = store.rows(None, usize::MAX).await.unwrap();
    assert_eq!(found.path, to);
    (found, rows, store)
}

fn damage(path: &Path, from: usize, length: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[from..from + length].fill(0xa5);
    fs::write(path, bytes).unwrap();
}

/// The page on which a table begins.
async fn root(path: &Path, table: &'static str) -> usize {
    let mut conn = connect(path).await;
    let root: i64 = sqlx::query_scalar("SELECT rootpage FROM sqlite_schema WHERE name = ?")
        .bind(table)
        .fetch_one(&mut conn)
        .await
        .unwrap();
    conn.close().await.unwrap();
    usize::try_from(root).unwrap()
}

/// The first page that has this in it.
fn page_of(path: &Path, text: &str) -> usize {
    let bytes = fs::read(path).unwrap();
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap() / PAGE
}

#[tokio::test]
async fn of_a_sound_store_everything_comes_back() {
    let (_directory, path) = place();
    filled(&path).await;
    let before = fs::read(&path).unwrap();
    let (found, _, store) = get_out(&path).await;
    assert_eq!((found.whole, found.repaired, found.dead_letters, found.lost.len()), (500, 0, 0, 0));
    assert!(!found.log_unreadable && !found.free_pages_unknown);
    assert!(before == fs::read(&path).unwrap(), "the original was changed");
    let original = SqliteStore::open(SqliteOptions::new(&path, seconds(NOW))).await.unwrap().store;
    let (recovered, mut intact) = (contents(&store).await, contents(&original).await);
    assert!(!recovered.state.closed, "what is read again waits for reports on it");
    intact.state.closed = false;
    assert_eq!(recovered, intact);
    let keys: Vec<Key> = (1..=500).map(Key).collect();
    let sorted = |mut payloads: Vec<(Key, bytes::Bytes)>| {
        payloads.sort();
        payloads
    };
    let (ours, theirs) = (store.payloads(&keys).await.unwrap(), original.payloads(&keys).await.unwrap());
    assert!(sorted(ours) == sorted(theirs), "payloads over many pages, too");
}

#[tokio::test]
async fn without_the_header_everything_comes_back_and_what_was_deleted_may_do_so() {
    let (_directory, path) = place();
    filled(&path).await;
    damage(&path, 0, 100);
    let (found, rows, _) = get_out(&path).await;
    assert_eq!((found.whole, rows.len()), (500, 500));
    assert!(found.free_pages_unknown);
    assert_eq!(found.positions, vec![position(1, 6)]);
}

#[tokio::test]
async fn without_the_roots_of_the_tables_everything_comes_back() {
    let (_directory, path) = place();
    filled(&path).await;
    for table in ["activation", "payload"] {
        let root = root(&path, table).await;
        damage(&path, (root - 1) * PAGE, PAGE);
    }
    let (found, rows, _) = get_out(&path).await;
    assert_eq!((found.whole, rows.len()), (500, 500));
}

#[tokio::test]
async fn a_row_whose_page_is_gone_is_made_anew_from_its_activation() {
    let (_directory, path) = place();
    filled(&path).await;
    let mut conn = connect(&path).await;
    raw_sql("DELETE FROM activation WHERE key = 7; UPDATE activation SET state = 9, id = x'00' WHERE key = 8")
        .execute(&mut conn)
        .await
        .unwrap();
    conn.close().await.unwrap();
    let (found, rows, _) = get_out(&path).await;
    assert_eq!((found.whole, found.repaired, found.lost.len()), (498, 2, 0));
    let repaired = &rows[6];
    assert!(repaired.id.text().starts_with(&*new_row(7).row.id.text()));
    assert_eq!((repaired.terms.attempt, &repaired.state), (1, &RowState::Pending { ready_at: seconds(NOW) }));
}

/// The first page that only goes on with a payload: the number of the next one, and nothing but filler.
fn page_of_a_chain(path: &Path) -> usize {
    let bytes = fs::read(path).unwrap();
    bytes.chunks(PAGE).position(|page| page[4..].iter().all(|byte| *byte == b'+')).unwrap()
}

#[tokio::test]
async fn a_payload_whose_pages_lead_back_to_themselves_is_lost_and_no_other() {
    let (_directory, path) = place();
    filled(&path).await;
    let page = page_of_a_chain(&path);
    let mut bytes = fs::read(&path).unwrap();
    let itself = u32::try_from(page + 1).unwrap().to_be_bytes();
    bytes[page * PAGE..page * PAGE + 4].copy_from_slice(&itself);
    fs::write(&path, bytes).unwrap();
    let (found, rows, _) = get_out(&path).await;
    assert_eq!((found.whole, found.lost.len(), rows.len()), (499, 1, 499));
}

#[tokio::test]
async fn a_damaged_page_costs_what_stands_on_it_and_nothing_else() {
    let (_directory, path) = place();
    filled(&path).await;
    let damaged = page_of(&path, &format!("attempt 1 of {}", new_row(123).row.id));
    damage(&path, damaged * PAGE, PAGE);
    let (found, rows, _) = get_out(&path).await;
    assert_eq!(found.whole + found.lost.len() as u64, 500);
    assert!((1..=20).contains(&found.lost.len()), "{:?}", found.lost);
    assert!(found.lost.contains(&new_row(123).row.id.to_string()));
    let left: BTreeSet<u64> = rows.iter().map(|row| row.key.0).collect();
    assert!(!left.contains(&123) && left.contains(&1) && left.contains(&500));
}

#[tokio::test]
async fn bytes_that_are_no_activation_any_more_go_to_the_dead_letter_topic() {
    let (_directory, path) = place();
    filled(&path).await;
    let mut conn = connect(&path).await;
    raw_sql("UPDATE payload SET bytes = x'ff00ff' WHERE key = 9").execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    let (found, rows, store) = get_out(&path).await;
    assert_eq!((found.whole, found.dead_letters), (499, 1));
    let RowState::Failed { cause: FailureCause::Undecodable(reason), .. } = &rows[8].state else {
        panic!("{:?}", rows[8].state)
    };
    assert_eq!((&**reason, &rows[8].id), ("recovered: not text", &new_row(9).row.id));
    assert_eq!(store.payloads(&[Key(9)]).await.unwrap()[0].1[..], [0xff, 0, 0xff]);
}

#[tokio::test]
async fn an_at_most_once_task_made_anew_fails() {
    let (_directory, path) = file(&[]).await;
    let mut conn = connect(&path).await;
    crate::file::insert(&mut conn, &[Theirs { activation: b"once of x".to_vec(), ..theirs("x", 0, 1, "Pending") }])
        .await;
    // A row of another shape than it should have: the delay is a text, which no STRICT table takes.
    raw_sql("PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'STRICT', '')")
        .execute(&mut conn)
        .await
        .unwrap();
    conn.close().await.unwrap();
    let mut conn = connect(&path).await;
    raw_sql("UPDATE inflight_taskactivations SET delay_until = 'soon'").execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    let (found, rows, _) = get_out(&path).await;
    assert_eq!((found.repaired, rows.len()), (1, 1));
    assert!(matches!(rows[0].state, RowState::Failed { cause: FailureCause::InDoubt, .. }), "{:?}", rows[0].state);
}

/// What is [`filled`], without its first 400 rows.
async fn mostly_emptied(path: &Path) {
    filled(path).await;
    let store = SqliteStore::open(SqliteOptions::new(path, seconds(NOW))).await.unwrap().store;
    let delete = (1..=400).map(Key).collect();
    store.commit(&Commit { number: 2, delete, closing: true, ..Commit::default() }).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn what_was_deleted_does_not_come_back() {
    let (_directory, path) = place();
    mostly_emptied(&path).await;
    let (found, rows, _) = get_out(&path).await;
    assert_eq!((found.whole, found.repaired, found.dead_letters, found.lost.len()), (100, 0, 0, 0));
    assert_eq!(rows[0].key, Key(401));
}

#[tokio::test]
async fn a_list_of_free_pages_that_leads_back_to_itself_counts_as_none() {
    let (_directory, path) = place();
    mostly_emptied(&path).await;
    let mut bytes = fs::read(&path).unwrap();
    let first: [u8; 4] = bytes[32..36].try_into().unwrap();
    let trunk = usize::try_from(u32::from_be_bytes(first)).unwrap();
    assert_ne!(trunk, 0, "pages were let go");
    bytes[(trunk - 1) * PAGE..(trunk - 1) * PAGE + 4].copy_from_slice(&first);
    fs::write(&path, bytes).unwrap();
    // On a thread that the end of the test does not wait for.
    let (done, found) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        done.send(runtime.block_on(async { get_out(&path).await.0 })).unwrap();
    });
    let found = found.recv_timeout(std::time::Duration::from_secs(60)).expect("it goes round in the list");
    assert!(found.free_pages_unknown && found.whole >= 100, "{found:?}");
}

#[tokio::test]
async fn what_stands_only_in_the_log_comes_back() {
    let (directory, path) = place();
    filled(&path).await;
    let store = SqliteStore::open(SqliteOptions::new(&path, seconds(NOW))).await.unwrap().store;
    store.commit(&Commit { number: 2, insert: vec![readable(501, 1)], ..Commit::default() }).await.unwrap();
    let left = directory.path().canonicalize().unwrap().join("left.sqlite");
    copy_live(&path, &left);
    let root = root(&path, "payload").await;
    damage(&left, (root - 1) * PAGE, PAGE);
    let (found, rows, _) = get_out(&left).await;
    assert!(!found.log_unreadable);
    assert_eq!((found.whole, rows.last().unwrap().key), (501, Key(501)));
}

#[tokio::test]
async fn rows_of_the_existing_system_come_back() {
    let there: Vec<_> = (0..300).map(|offset| theirs(&format!("id-{offset}"), 0, offset, "Pending")).collect();
    let (_directory, path) = file(&there).await;
    let root = root(&path, "inflight_taskactivations").await;
    damage(&path, (root - 1) * PAGE, PAGE);
    let (found, rows, _) = get_out(&path).await;
    assert_eq!((found.whole, rows.len()), (300, 300));
    assert_eq!((of(&rows, "id-7").terms.attempt, of(&rows, "id-7").lost_leases), (2, 1));
}

#[tokio::test]
async fn what_holds_nothing_of_a_store_is_refused() {
    let (_directory, path) = place();
    fs::write(&path, vec![b'x'; 9_000]).unwrap();
    let to: PathBuf = path.with_file_name("new.sqlite");
    let error = recover(Recover { from: &path, to: &to, now: seconds(NOW), codec: &TextCodec }).await.unwrap_err();
    assert!(error.to_string().contains("nothing of a store can be found"), "{error}");
    assert!(!to.exists());
    filled(&to).await;
    let error = recover(Recover { from: &to, to: &to, now: seconds(NOW), codec: &TextCodec }).await.unwrap_err();
    assert!(error.to_string().contains("exists and is not overwritten"), "{error}");
}

#[tokio::test]
async fn whatever_is_damaged_it_ends_and_makes_a_sound_store_or_says_why_not() {
    let (_directory, path) = place();
    let store = SqliteStore::open(SqliteOptions::new(&path, seconds(NOW))).await.unwrap().store;
    let state = RowState::Processing { lease_ends_at: seconds(NOW) };
    let mut insert: Vec<_> = (1..=60).map(|key| readable(key, 200)).collect();
    insert.extend([readable(61, 20_000), new_row_in(62, state)]);
    store.commit(&Commit { number: 1, insert, positions: vec![position(1, 6)], ..Commit::default() }).await.unwrap();
    store.commit(&Commit { number: 2, delete: (1..=9).map(Key).collect(), ..Commit::default() }).await.unwrap();
    store.close().await;
    let whole = fs::read(&path).unwrap();
    let to = path.with_file_name("recovered.sqlite");
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    for _ in 0..60 {
        let mut bytes = whole.clone();
        for _ in 0..40 {
            let at = next(bytes.len());
            bytes[at] = u8::try_from(next(256)).unwrap();
        }
        let (from, length) = (next(whole.len()), next(3_000));
        let until = whole.len().min(from + length);
        bytes[from..until].fill(u8::try_from(next(256)).unwrap());
        fs::write(&path, &bytes).unwrap();
        fs::remove_file(&to).ok();
        if recover(Recover { from: &path, to: &to, now: seconds(NOW), codec: &TextCodec }).await.is_ok() {
            let store = SqliteStore::open(SqliteOptions::new(&to, seconds(NOW))).await.unwrap();
            assert!(store.set_aside.is_none());
            store.store.rows(None, usize::MAX).await.unwrap();
            store.store.close().await;
        }
    }
}

#[tokio::test]
async fn a_store_in_use_is_not_recovered() {
    let (_directory, path) = place();
    filled(&path).await;
    let taken = open(&path).await;
    let to = path.with_file_name("new.sqlite");
    let error = recover(Recover { from: &path, to: &to, now: seconds(NOW), codec: &TextCodec }).await.unwrap_err();
    assert!(error.to_string().contains("in use by pid"), "{error}");
    taken.store.close().await;
}
