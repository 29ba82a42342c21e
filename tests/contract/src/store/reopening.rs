//! What outlives a store's being open.

use std::sync::Arc;

use taskbroker_domain::{
    activation::{Route, Slot},
    ports::store::{Commit, StoreError, Tombstone},
};

use super::{
    Model, StoreUnderTest, accept, contents, early_report, every_state, fresh, id, new_row, new_row_in, new_row_with,
    position,
};

/// Two stores are never taken for one another.
pub async fn the_identity_is_its_own_and_stays(subject: &dyn StoreUnderTest) {
    let first = subject.open("first").await.expect("the first store opens");
    let second = subject.open("second").await.expect("the second store opens");
    assert!(!first.identity().is_nil());
    assert_ne!(first.identity(), second.identity());
    let identity = first.identity();
    first.close().await;
    drop(first);
    if subject.persists() {
        let again = subject.open("first").await.expect("the first store opens again");
        assert_eq!(again.identity(), identity);
    }
}

/// Closed in good order or not.
pub async fn everything_is_there_after_reopening(subject: &dyn StoreUnderTest) {
    if !subject.persists() {
        return;
    }
    let mut model = Model::default();
    for number in 1..=4 {
        let store = subject.open("again").await.expect("the store opens");
        assert_eq!(contents(&*store).await, model.contents());
        let commit = generation(number);
        accept(&*store, &commit).await;
        model.apply(&commit);
        store.close().await;
    }
}

fn generation(number: u64) -> Commit {
    let start = number * 1_000;
    let mut insert: Vec<_> = (start..).zip(every_state()).map(|(key, state)| new_row_in(key, state)).collect();
    let mut routed = new_row(start + 900);
    routed.row.route = Arc::new(Route::new("app", "namespace", &format!("task{number}")));
    insert.push(routed);
    insert.push(new_row_with(start + 901, vec![9; 300_000]));
    let slot = u32::try_from(number).expect("a few");
    Commit {
        number,
        insert,
        delete: (start - 1_000..start - 970).map(taskbroker_domain::activation::Key).collect(),
        positions: vec![position(slot, 77)],
        remember: vec![early_report(number)],
        bury: vec![Tombstone { id: id(10 - number), slot: Slot(slot) }],
        closing: number.is_multiple_of(2),
        ..Commit::default()
    }
}

/// And can open it once the first has closed it.
pub async fn a_second_owner_is_refused_by_name(subject: &dyn StoreUnderTest) {
    if !subject.has_one_owner() {
        return;
    }
    let first = fresh(subject).await;
    match subject.open("contract").await {
        Err(StoreError::Owned { owner, .. }) => assert!(!owner.is_empty()),
        Err(other) => assert_eq!(other.to_string(), "an error that names the owner"),
        Ok(_) => assert_eq!("opened", "refused"),
    }
    accept(&*first, &Commit { number: 1, insert: vec![new_row(1)], ..Commit::default() }).await;
    first.close().await;
    let second = fresh(subject).await;
    assert_eq!(contents(&*second).await.rows.len(), 1);
}
