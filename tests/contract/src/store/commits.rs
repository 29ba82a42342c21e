//! What a commit does as a whole.

use bytes::Bytes;
use taskbroker_domain::{
    activation::{Key, Slot},
    ports::store::{ActivationStore, Commit, RowState, RowUpdate, Tombstone},
};

use super::{
    Model, StoreUnderTest, accept, contents, early_report, fresh, id, moment, new_row, new_row_with, position,
};

/// Nothing in it, and nothing to recover.
pub async fn a_new_store_is_empty_and_counts_as_closed(subject: &dyn StoreUnderTest) {
    let store = fresh(subject).await;
    assert_eq!(contents(&*store).await, Model::default().contents());
    assert_eq!(store.state().await.expect("the state can be read").last_key, None);
}

/// But it marks the store as open.
pub async fn an_empty_commit_changes_no_row(subject: &dyn StoreUnderTest) {
    let store = fresh(subject).await;
    let insert = Commit { number: 1, insert: vec![new_row(1)], closing: true, ..Commit::default() };
    let empty = Commit { number: 2, ..Commit::default() };
    accept(&*store, &insert).await;
    accept(&*store, &empty).await;
    assert_eq!(contents(&*store).await, Model::after([&insert, &empty]).contents());
}

/// A commit with every kind of change, over what `seed` left.
fn everything(number: u64) -> Commit {
    Commit {
        number,
        insert: vec![new_row(10), new_row(11)],
        update: vec![RowUpdate {
            key: Key(1),
            lost_leases: 2,
            state: RowState::Processing { lease_ends_at: moment(40) },
        }],
        delete: vec![Key(2)],
        clear_origin: vec![Key(3)],
        positions: vec![position(2, 50)],
        drop_positions: vec![Slot(1)],
        remember: vec![early_report(100)],
        forget: vec![id(99)],
        bury: vec![Tombstone { id: id(200), slot: Slot(2) }],
        unbury: vec![id(199)],
        closing: false,
    }
}

fn seed(number: u64) -> Commit {
    Commit {
        number,
        insert: (1..=3).map(new_row).collect(),
        positions: vec![position(1, 5)],
        remember: vec![early_report(99)],
        bury: vec![Tombstone { id: id(199), slot: Slot(1) }],
        ..Commit::default()
    }
}

/// Rows, positions, early reports and tombstones change together.
pub async fn a_commit_is_atomic_over_all_kinds_of_changes(subject: &dyn StoreUnderTest) {
    let store = fresh(subject).await;
    let commits = [seed(1), everything(2)];
    for commit in &commits {
        accept(&*store, commit).await;
    }
    assert_eq!(contents(&*store).await, Model::after(&commits).contents());
}

/// A row may be added, changed and removed in one commit; of two changes to a row the later one counts.
pub async fn changes_apply_in_the_order_insert_update_delete_clear(subject: &dyn StoreUnderTest) {
    let store = fresh(subject).await;
    let commit = Commit {
        number: 1,
        insert: (1..=4).map(new_row).collect(),
        update: vec![delayed(1, 9), delayed(2, 9), delayed(4, 8), delayed(1, 3), delayed(4, 7)],
        delete: vec![Key(2), Key(3)],
        clear_origin: vec![Key(4)],
        ..Commit::default()
    };
    accept(&*store, &commit).await;
    assert_eq!(contents(&*store).await, Model::after([&commit]).contents());
}

/// An answer that was lost makes the caller send the commit again.
pub async fn the_same_commit_again_changes_nothing(subject: &dyn StoreUnderTest) {
    let store = fresh(subject).await;
    let commits = [seed(1), everything(2)];
    for commit in &commits {
        accept(&*store, commit).await;
        let once = contents(&*store).await;
        accept(&*store, commit).await;
        accept(&*store, commit).await;
        assert_eq!(contents(&*store).await, once);
    }
    assert_eq!(contents(&*store).await, Model::after(&commits).contents());
}

/// More than any limit on variables of one statement admits.
pub async fn five_thousand_rows_fit_in_one_commit(subject: &dyn StoreUnderTest) {
    let store = fresh(subject).await;
    let commits = [
        Commit { number: 1, insert: (1..=5_000).map(new_row).collect(), ..Commit::default() },
        Commit {
            number: 2,
            insert: (5_001..=10_000).map(new_row).collect(),
            update: (1..=5_000).map(|key| delayed(key, 7)).collect(),
            clear_origin: (1..=5_000).map(Key).collect(),
            ..Commit::default()
        },
        Commit { number: 3, delete: (1_000..=9_000).map(Key).collect(), ..Commit::default() },
    ];
    for commit in &commits {
        accept(&*store, commit).await;
    }
    assert_eq!(contents(&*store).await, Model::after(&commits).contents());
}

fn delayed(key: u64, seconds: i64) -> RowUpdate {
    RowUpdate { key: Key(key), lost_leases: 1, state: RowState::Pending { ready_at: moment(seconds) } }
}

/// Batches are often cut into fixed sizes: none may lose or invent a row at the edges.
pub async fn every_batch_size_is_stored_completely(subject: &dyn StoreUnderTest) {
    let store = fresh(subject).await;
    let mut model = Model::default();
    let mut next = 1;
    for (number, size) in (1..).zip([1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 100, 255, 256, 257, 300, 511, 512, 513]) {
        let insert = (next..next + size).map(|key| new_row_with(key, Bytes::from(vec![b'x'; 3]))).collect();
        next += size;
        let commit = Commit { number, insert, ..Commit::default() };
        accept(&*store, &commit).await;
        model.apply(&commit);
    }
    assert_eq!(contents(&*store).await, model.contents());
}

/// A few hundred commits drawn from a small world, so that changes meet.
pub async fn random_commits_agree_with_a_model(subject: &dyn StoreUnderTest) {
    let store = fresh(subject).await;
    let mut model = Model::default();
    let mut draw = Draw(0x2545_f491_4f6c_dd1d);
    for number in 1..=200 {
        let commit = random_commit(number, &mut draw);
        accept(&*store, &commit).await;
        model.apply(&commit);
        if draw.below(8) == 0 {
            accept(&*store, &commit).await;
        }
        if number % 20 == 0 {
            assert_eq!(contents(&*store).await, model.contents(), "after commit {number}");
        }
    }
}

fn random_commit(number: u64, draw: &mut Draw) -> Commit {
    let fresh_keys = number * 100..number * 100 + draw.below(6);
    let any_keys = |draw: &mut Draw| -> Vec<u64> {
        (0..draw.below(5)).map(|_| (1 + draw.below(number)) * 100 + draw.below(6)).collect()
    };
    let mut commit = Commit {
        number,
        insert: fresh_keys.map(new_row).collect(),
        update: any_keys(draw).into_iter().map(|key| delayed(key, i64::try_from(number).unwrap_or(0))).collect(),
        delete: any_keys(draw).into_iter().map(Key).collect(),
        clear_origin: any_keys(draw).into_iter().map(Key).collect(),
        closing: draw.below(10) == 0,
        ..Commit::default()
    };
    random_memories(&mut commit, draw);
    commit
}

fn random_memories(commit: &mut Commit, draw: &mut Draw) {
    let slot = u32::try_from(draw.below(4)).unwrap_or(0);
    match draw.below(4) {
        0 => commit.positions.push(position(slot, i64::try_from(commit.number).unwrap_or(0))),
        1 => commit.drop_positions.push(Slot(slot)),
        _ => {}
    }
    match draw.below(3) {
        0 => commit.remember.push(early_report(draw.below(9))),
        1 => commit.forget.push(id(draw.below(9))),
        _ => {}
    }
    match draw.below(3) {
        0 => commit.bury.push(Tombstone { id: id(draw.below(9)), slot: Slot(0) }),
        1 => commit.unbury.push(id(draw.below(9))),
        _ => {}
    }
}

/// Numbers that look random and are the same in every run (xorshift).
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// `closed` tells an orderly stop from a crash.
pub async fn only_a_closing_commit_leaves_the_store_closed(subject: &dyn StoreUnderTest) {
    let store = fresh(subject).await;
    for (number, closing) in [(1, false), (2, true), (3, false), (4, false), (5, true), (6, true)] {
        accept(&*store, &Commit { number, closing, ..Commit::default() }).await;
        assert_eq!(is_closed(&*store).await, closing, "after commit {number}");
    }
}

async fn is_closed(store: &dyn ActivationStore) -> bool {
    store.state().await.expect("the state can be read").closed
}
