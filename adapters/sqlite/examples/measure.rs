//! Measures the store: `cargo run -p taskbroker-sqlite --example measure -- DIRECTORY [ROWS]`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for developers")]
#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::{path::PathBuf, time::Instant};

use taskbroker_contract::store::{moment, new_row_with};
use taskbroker_domain::{
    activation::Key,
    ports::store::{ActivationStore, Commit, RowState, RowUpdate},
};
use taskbroker_sqlite::{IntegrityCheck, SqliteOptions, SqliteStore};

const BATCH: u64 = 256;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().expect("a directory"));
    let rows: u64 = arguments.next().map_or(1_000_000, |rows| rows.parse().unwrap());
    let path = directory.join("measure.sqlite");
    let store = SqliteStore::open(SqliteOptions::new(&path, moment(0))).await.unwrap().store;
    let mut number = 0;
    let mut commit = async |what: &str, batches: u64, make: &dyn Fn(u64) -> Commit| {
        let start = Instant::now();
        let mut longest = 0.0_f64;
        for batch in 0..batches {
            number += 1;
            let commit = Commit { number, ..make(batch) };
            let begin = Instant::now();
            store.commit(&commit).await.unwrap();
            longest = longest.max(begin.elapsed().as_secs_f64());
        }
        let took = start.elapsed().as_secs_f64();
        let per_row = took * 1e6 / (batches * BATCH) as f64;
        println!("{what}: {took:.2} s, {per_row:.2} µs a row, longest commit {:.1} ms", longest * 1e3);
    };
    let keys = |batch: u64| batch * BATCH + 1..=(batch + 1) * BATCH;
    commit("insert", rows / BATCH, &|batch| Commit {
        insert: keys(batch).map(|key| new_row_with(key, vec![7; 600])).collect(),
        ..Commit::default()
    })
    .await;
    commit("update", 200, &|batch| Commit {
        update: keys(batch)
            .map(|key| RowUpdate {
                key: Key(key),
                lost_leases: 0,
                state: RowState::Processing { lease_ends_at: moment(9) },
            })
            .collect(),
        ..Commit::default()
    })
    .await;
    commit("empty (with closing)", 200, &|batch| Commit { closing: batch % 2 == 0, ..Commit::default() }).await;
    let start = Instant::now();
    store.close().await;
    println!("close: {:.2?}", start.elapsed());
    drop(store);
    for check in [IntegrityCheck::Never, IntegrityCheck::Always] {
        let start = Instant::now();
        let options = SqliteOptions { check, ..SqliteOptions::new(&path, moment(0)) };
        let store = SqliteStore::open(options).await.unwrap().store;
        println!("open, check {check:?}: {:.2?}", start.elapsed());
        store.close().await;
    }
    let store = SqliteStore::open(SqliteOptions::new(&path, moment(0))).await.unwrap().store;
    println!("usage: {:?}", store.usage().await.unwrap());
    let start = Instant::now();
    let (mut after, mut loaded) = (None, 0);
    loop {
        let page = store.rows(after, 10_000).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.key);
        loaded += page.len();
    }
    println!("load {loaded} rows: {:.2?}", start.elapsed());
    let start = Instant::now();
    let wanted: Vec<_> = (1..=100_000.min(rows)).map(Key).collect();
    println!("read {} payloads: {:.2?}", store.payloads(&wanted).await.unwrap().len(), start.elapsed());
    let start = Instant::now();
    for batch in 0..rows / BATCH {
        number_delete(&store, batch).await;
    }
    println!("delete: {:.2?}, {:.2} µs a row", start.elapsed(), start.elapsed().as_secs_f64() * 1e6 / rows as f64);
    let start = Instant::now();
    for batch in rows / BATCH..rows / BATCH + 200 {
        let insert = keys(batch).map(|key| new_row_with(key, vec![7; 600])).collect();
        let delete = if batch == rows / BATCH { vec![] } else { keys(batch - 1).map(Key).collect() };
        store.commit(&Commit { number: batch, insert, delete, ..Commit::default() }).await.unwrap();
    }
    println!("insert and delete 256: {:.2} µs a row", start.elapsed().as_secs_f64() * 1e6 / (200 * BATCH) as f64);
    store.close().await;
}

async fn number_delete(store: &SqliteStore, batch: u64) {
    let delete = (batch * BATCH + 1..=(batch + 1) * BATCH).map(Key).collect();
    store.commit(&Commit { number: batch + 1, delete, ..Commit::default() }).await.unwrap();
}
