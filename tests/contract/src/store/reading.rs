//! What reads answer.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use taskbroker_domain::{
    activation::{Key, Route},
    ports::store::{ActivationStore, Commit},
};

use super::{StoreUnderTest, accept, contents, fresh, model::all_rows, new_row, new_row_with, position};

async fn with_rows(subject: &dyn StoreUnderTest, keys: impl IntoIterator<Item = u64>) -> Arc<dyn ActivationStore> {
    let store = fresh(subject).await;
    let insert = keys.into_iter().map(new_row).collect();
    accept(&*store, &Commit { number: 1, insert, ..Commit::default() }).await;
    store
}

async fn page(store: &dyn ActivationStore, after: Option<u64>, limit: usize) -> Vec<u64> {
    let rows = store.rows(after.map(Key), limit).await.expect("rows can be read");
    rows.into_iter().map(|row| row.key.0).collect()
}

/// Whatever the order of insertion, the gaps between keys, and the size of the page.
pub async fn rows_come_in_pages_by_ascending_key(subject: &dyn StoreUnderTest) {
    let store = with_rows(subject, [40, 10, 30, 1_000_000_000_000, 20]).await;
    assert_eq!(page(&*store, None, 2).await, [10, 20]);
    assert_eq!(page(&*store, Some(20), 2).await, [30, 40]);
    assert_eq!(page(&*store, Some(25), 1).await, [30]);
    assert_eq!(page(&*store, Some(40), 9).await, [1_000_000_000_000]);
    assert_eq!(page(&*store, Some(1_000_000_000_000), 9).await, [0_u64; 0]);
    assert_eq!(page(&*store, Some(u64::MAX), 9).await, [0_u64; 0]);
    assert_eq!(page(&*store, None, 0).await, [0_u64; 0]);
    assert_eq!(page(&*store, None, usize::MAX).await.len(), 5);
    for size in [1, 2, 3, 4, 5, 6] {
        assert_eq!(all_rows(&*store, size).await.len(), 5);
    }
}

/// From there on the ledger numbers new rows.
pub async fn the_last_key_is_the_largest_present(subject: &dyn StoreUnderTest) {
    let store = with_rows(subject, [7, 3]).await;
    assert_eq!(store.state().await.expect("the state can be read").last_key, Some(Key(7)));
    accept(&*store, &Commit { number: 2, delete: vec![Key(3)], insert: vec![new_row(8)], ..Commit::default() }).await;
    assert_eq!(store.state().await.expect("the state can be read").last_key, Some(Key(8)));
}

/// In any order; those without a row are left out.
pub async fn payloads_come_for_the_keys_that_have_rows(subject: &dyn StoreUnderTest) {
    let store = with_rows(subject, 1..=3_000).await;
    assert_eq!(store.payloads(&[]).await.expect("payloads can be read"), vec![]);
    let keys: Vec<_> = (0..=6_000).rev().step_by(2).map(Key).chain([Key(u64::MAX)]).collect();
    let found: BTreeMap<_, _> = store.payloads(&keys).await.expect("payloads can be read").into_iter().collect();
    let expected: BTreeMap<_, _> = (2..=3_000).step_by(2).map(|key| (Key(key), new_row(key).payload)).collect();
    assert_eq!(found, expected);
}

/// From nothing to 20 MB, all byte values.
pub async fn large_and_empty_payloads_come_back(subject: &dyn StoreUnderTest) {
    let store = fresh(subject).await;
    let patterned = |length: usize| Bytes::from_iter((0..=u8::MAX).cycle().take(length));
    let payloads = [0, 1, 255, 4_095, 4_096, 4_097, 1_000_000, 20_000_000].map(patterned);
    let insert = (1..).zip(payloads).map(|(key, payload)| new_row_with(key, payload)).collect();
    let commit = Commit { number: 1, insert, ..Commit::default() };
    accept(&*store, &commit).await;
    let held = contents(&*store).await;
    for new in &commit.insert {
        assert!(held.payloads[&new.row.key] == new.payload, "payload of {} bytes", new.payload.len());
    }
}

/// Also across commits, and when a route comes back after all its rows were gone.
pub async fn many_routes_are_told_apart(subject: &dyn StoreUnderTest) {
    let store = fresh(subject).await;
    let routed = |key: u64| {
        let mut new = new_row(key);
        let (application, namespace) = (format!("app{}", key % 3), format!("ns{}", key % 7));
        new.row.route = Arc::new(Route::new(&application, &namespace, &format!("task{}", key % 500)));
        new
    };
    for (number, start) in [(1, 1), (3, 501), (5, 1_001)] {
        let insert: Vec<_> = (start..start + 500).map(routed).collect();
        let commit = Commit { number, insert, ..Commit::default() };
        accept(&*store, &commit).await;
        let expected: Vec<_> = commit.insert.iter().map(|new| new.row.clone()).collect();
        assert_eq!(all_rows(&*store, 128).await, expected);
        let delete = expected.iter().map(|row| row.key).collect();
        accept(&*store, &Commit { number: number + 1, delete, ..Commit::default() }).await;
    }
}

/// Each commit moves ten rows, the position and a payload on; no read sees two generations at once.
pub async fn reads_beside_commits_see_no_halves(subject: &dyn StoreUnderTest) {
    let store = fresh(subject).await;
    accept(&*store, &generation(1)).await;
    let writer = async {
        for number in 2..=60 {
            accept(&*store, &generation(number)).await;
        }
    };
    let reader = async {
        for _ in 0..60 {
            let rows = page(&*store, None, 100).await;
            assert_eq!(rows.len(), 10);
            assert_eq!(rows[9] - rows[0], 9, "rows of two generations: {rows:?}");
            let state = store.state().await.expect("the state can be read");
            let last = state.last_key.expect("there are rows").0;
            let watermark = state.positions.first().expect("there is a position").watermark;
            assert_eq!(i64::try_from(last).expect("test keys are small"), watermark);
            tokio::task::yield_now().await;
        }
    };
    futures::future::join(writer, reader).await;
}

fn generation(number: u64) -> Commit {
    let keys = number * 10..number * 10 + 10;
    let last = i64::try_from(keys.end - 1).expect("test keys are small");
    Commit {
        number,
        insert: keys.clone().map(new_row).collect(),
        delete: if number == 1 { vec![] } else { (keys.start - 10..keys.start).map(Key).collect() },
        positions: vec![position(1, last)],
        ..Commit::default()
    }
}

/// It is what limits on the size of the store are judged by.
pub async fn usage_grows_with_what_is_stored(subject: &dyn StoreUnderTest) {
    let store = fresh(subject).await;
    let before = store.usage().await.expect("usage can be read");
    let insert = (1..=100).map(|key| new_row_with(key, vec![7; 10_000])).collect();
    accept(&*store, &Commit { number: 1, insert, ..Commit::default() }).await;
    let full = store.usage().await.expect("usage can be read");
    assert!(full.used_bytes >= before.used_bytes + 1_000_000, "{before:?} → {full:?}");
    accept(&*store, &Commit { number: 2, delete: (1..=100).map(Key).collect(), ..Commit::default() }).await;
    let emptied = store.usage().await.expect("usage can be read");
    assert!(emptied.used_bytes < before.used_bytes + 200_000, "{before:?} → {emptied:?}");
}
