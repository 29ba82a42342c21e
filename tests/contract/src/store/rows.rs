//! What a row keeps.

use std::sync::Arc;

use taskbroker_domain::{
    activation::{ActivationId, Key, Origin, Route, Slot},
    ports::store::{Commit, NewRow, RowState, RowUpdate},
};

use super::{
    Model, StoreUnderTest, accept, contents, every_state, every_term, fresh, moment, new_row, new_row_in, odd_texts,
};

/// Commits these rows and expects exactly them.
async fn round_trip(subject: &dyn StoreUnderTest, insert: Vec<NewRow>) {
    let store = fresh(subject).await;
    let commit = Commit { number: 1, insert, ..Commit::default() };
    accept(&*store, &commit).await;
    assert_eq!(contents(&*store).await, Model::after([&commit]).contents());
}

/// Inserted in each state.
pub async fn every_state_comes_back_with_all_its_fields(subject: &dyn StoreUnderTest) {
    round_trip(subject, (1..).zip(every_state()).map(|(key, state)| new_row_in(key, state)).collect()).await;
}

/// And everything else in a row that can differ.
pub async fn every_term_comes_back(subject: &dyn StoreUnderTest) {
    let mut rows: Vec<_> = (1..).zip(every_term()).map(|(key, terms)| with_terms(key, terms)).collect();
    rows[0].row.origin = None;
    rows[1].row.marked = true;
    rows[2].row.lost_leases = u32::MAX;
    rows[3].row.origin = Some(Origin { slot: Slot(u32::MAX), offset: i64::MAX });
    rows[4].row.origin = Some(Origin { slot: Slot(0), offset: 0 });
    rows[5].row.payload_bytes = u32::MAX;
    rows[6].row.received_at = moment(-1_000_000);
    round_trip(subject, rows).await;
}

fn with_terms(key: u64, terms: taskbroker_domain::activation::Terms) -> NewRow {
    let mut new = new_row(key);
    new.row.terms = terms;
    new
}

/// From each state into each form of the next, leaving nothing of the former.
pub async fn every_update_comes_back(subject: &dyn StoreUnderTest) {
    let store = fresh(subject).await;
    let states = every_state();
    let mut model = Model::default();
    let keys = 1..=u64::try_from(states.len()).expect("a few states");
    let insert = keys.clone().zip(&states).map(|(key, state)| new_row_in(key, state.clone())).collect();
    let mut commits = vec![Commit { number: 1, insert, ..Commit::default() }];
    for (number, shift) in [(2, 1), (3, 5), (4, 24)] {
        let next = states.iter().cycle().skip(shift);
        let update = keys.clone().zip(next).map(|(key, state)| update(key, number, state)).collect();
        commits.push(Commit { number: u64::from(number), update, ..Commit::default() });
    }
    for commit in &commits {
        accept(&*store, commit).await;
        model.apply(commit);
        assert_eq!(contents(&*store).await, model.contents());
    }
}

fn update(key: u64, lost_leases: u32, state: &RowState) -> RowUpdate {
    RowUpdate { key: Key(key), lost_leases, state: state.clone() }
}

/// The ledger may have removed it in a commit of unknown outcome.
pub async fn a_change_to_a_missing_row_is_ignored(subject: &dyn StoreUnderTest) {
    let store = fresh(subject).await;
    let insert = Commit { number: 1, insert: vec![new_row(5)], ..Commit::default() };
    let absent = RowUpdate { key: Key(6), lost_leases: 1, state: RowState::Pending { ready_at: moment(1) } };
    let change = Commit {
        number: 2,
        update: vec![absent],
        delete: vec![Key(4), Key(7), Key(u64::MAX)],
        clear_origin: vec![Key(8)],
        drop_positions: vec![Slot(9)],
        forget: vec![ActivationId::new("never remembered")],
        unbury: vec![ActivationId::new("never buried")],
        ..Commit::default()
    };
    accept(&*store, &insert).await;
    accept(&*store, &change).await;
    assert_eq!(contents(&*store).await, Model::after([&insert, &change]).contents());
}

/// Ids and names are opaque bytes of UTF-8.
pub async fn odd_ids_and_routes_come_back(subject: &dyn StoreUnderTest) {
    let texts = odd_texts();
    let mut rows = Vec::new();
    for (key, (at, text)) in (1..).zip(texts.iter().enumerate()) {
        let other = &texts[(at + 1) % texts.len()];
        let mut new = new_row(key);
        new.row.id = ActivationId::new(text.as_str());
        new.row.route = Arc::new(Route::new(text, other, &format!("{other}{text}")));
        rows.push(new);
    }
    round_trip(subject, rows).await;
}

/// Ids are judged by the ledger alone.
pub async fn an_id_may_stand_in_several_rows(subject: &dyn StoreUnderTest) {
    let mut rows: Vec<_> = (1..=3).map(new_row).collect();
    for new in &mut rows {
        new.row.id = ActivationId::new("the same");
    }
    round_trip(subject, rows).await;
}

/// A void log takes the origin of its rows along, and nothing else.
pub async fn clearing_an_origin_leaves_the_rest(subject: &dyn StoreUnderTest) {
    let store = fresh(subject).await;
    let insert = Commit { number: 1, insert: (1..=5).map(new_row).collect(), ..Commit::default() };
    let clear = Commit { number: 2, clear_origin: vec![Key(2), Key(4)], ..Commit::default() };
    accept(&*store, &insert).await;
    accept(&*store, &clear).await;
    let held = contents(&*store).await;
    assert_eq!(held, Model::after([&insert, &clear]).contents());
    assert_eq!(held.rows.iter().filter(|row| row.origin.is_none()).count(), 2);
}

/// A key that was deleted has neither row nor payload.
pub async fn deleted_rows_take_their_payloads_along(subject: &dyn StoreUnderTest) {
    let store = fresh(subject).await;
    accept(&*store, &Commit { number: 1, insert: (1..=3).map(new_row).collect(), ..Commit::default() }).await;
    accept(&*store, &Commit { number: 2, delete: vec![Key(1), Key(3)], ..Commit::default() }).await;
    let left = store.payloads(&[Key(1), Key(2), Key(3)]).await.expect("payloads can be read");
    assert_eq!(left, vec![(Key(2), new_row(2).payload)]);
}
