//! What a commit takes, fsync included: `cargo bench -p taskbroker-sqlite`. The file lies in the system's directory for
//! temporary files; on a memory file system the numbers are none.
#![expect(clippy::unwrap_used, reason = "a benchmark")]

use divan::{Bencher, counter::ItemsCount};
use taskbroker_contract::store::{moment, new_row_with};
use taskbroker_domain::{
    activation::Key,
    ports::store::{ActivationStore as _, Commit},
};
use taskbroker_sqlite::{SqliteOptions, SqliteStore};
use tempfile::TempDir;
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

struct Bench {
    runtime: Runtime,
    store: SqliteStore,
    number: u64,
    _directory: TempDir,
}

impl Bench {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let options = SqliteOptions::new(directory.path().join("bench.sqlite"), moment(0));
        let store = runtime.block_on(SqliteStore::open(options)).unwrap().store;
        Self { runtime, store, number: 0, _directory: directory }
    }

    fn commit(&mut self, commit: Commit) {
        self.number += 1;
        let commit = Commit { number: self.number, ..commit };
        self.runtime.block_on(self.store.commit(&commit)).unwrap();
    }

    /// The next commit's keys, if each has so many.
    fn keys(&self, rows: u64) -> std::ops::RangeInclusive<u64> {
        self.number * rows + 1..=(self.number + 1) * rows
    }
}

fn insert(keys: std::ops::RangeInclusive<u64>) -> Commit {
    Commit { insert: keys.map(|key| new_row_with(key, vec![7; 395])).collect(), ..Commit::default() }
}

/// New rows of 395 bytes.
#[divan::bench(args = [1, 16, 64, 256], sample_size = 1)]
fn insert_rows(bencher: Bencher<'_, '_>, rows: u64) {
    let mut bench = Bench::new();
    bencher.counter(ItemsCount::new(rows)).bench_local(|| bench.commit(insert(bench.keys(rows))));
}

/// As many new rows as rows that go, which is how a backlog is worked off.
#[divan::bench(args = [1, 16, 64, 256], sample_size = 1)]
fn insert_and_delete_rows(bencher: Bencher<'_, '_>, rows: u64) {
    let mut bench = Bench::new();
    bencher.counter(ItemsCount::new(rows)).bench_local(|| {
        let keys = bench.keys(rows);
        let delete = keys.clone().map(|key| Key(key.saturating_sub(rows))).collect();
        bench.commit(Commit { delete, ..insert(keys) });
    });
}
