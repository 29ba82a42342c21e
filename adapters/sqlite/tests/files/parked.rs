//! What waits for a decision.

use std::path::Path;

use sqlx::{Connection, raw_sql};
use taskbroker_contract::store::{new_row, new_row_in, position};
use taskbroker_domain::{
    activation::{Origin, RetryWish, Slot},
    lifecycle::Publication,
    ports::store::{ActivationStore, Commit, FailureCause, NewRow, Row, RowState, StoreError},
};
use taskbroker_sqlite::{Shelf, ShelvedKind, SqliteOptions, SqliteStore};

use crate::file::{NOW, connect, place, seconds};

fn parked(reason: &str) -> Publication {
    Publication::Parked(reason.into())
}

fn failed(publication: Publication) -> RowState {
    RowState::Failed { cause: FailureCause::Reported, publication }
}

fn rows_of_all_kinds() -> Vec<NewRow> {
    vec![
        new_row(1),
        new_row_in(2, failed(parked("too large"))),
        new_row_in(3, failed(Publication::Waiting)),
        new_row_in(4, RowState::Retry { wish: RetryWish::default(), publication: parked("too large, too") }),
        new_row(5),
    ]
}

async fn store(path: &Path, rows: Vec<NewRow>) {
    let store = SqliteStore::open(SqliteOptions::new(path, seconds(NOW))).await.unwrap().store;
    let positions = vec![position(1, 1)];
    store.commit(&Commit { number: 1, insert: rows, positions, closing: true, ..Commit::default() }).await.unwrap();
    store.close().await;
}

async fn shelf(path: &Path) -> Shelf {
    Shelf::open(path, seconds(NOW)).await.unwrap()
}

async fn after(path: &Path) -> (Vec<Row>, taskbroker_domain::ports::store::StoredState) {
    let store = SqliteStore::open(SqliteOptions::new(path, seconds(NOW))).await.unwrap().store;
    let found = (store.rows(None, 100).await.unwrap(), store.state().await.unwrap());
    store.close().await;
    found
}

/// A row of it made no sense and was moved aside.
async fn with_nonsense(path: &Path) {
    store(path, rows_of_all_kinds()).await;
    let mut conn = connect(path).await;
    raw_sql("UPDATE activation SET state = 9 WHERE key = 5").execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    assert_eq!(after(path).await.0.len(), 4);
}

#[tokio::test]
async fn everything_that_waits_is_listed_with_its_reason() {
    let (_directory, path) = place();
    with_nonsense(&path).await;
    let shelf = shelf(&path).await;
    let found = shelf.list().await.unwrap();
    let reasons: Vec<&str> = found.iter().map(|item| item.reason.as_str()).collect();
    assert_eq!(reasons, ["too large", "too large, too", "state is 9, which is none"]);
    assert!(matches!(found[0].kind, ShelvedKind::DeadLetter(_)) && matches!(found[1].kind, ShelvedKind::Retry(_)));
    assert!(
        matches!(&found[2].kind, ShelvedKind::Nonsense { payload: Some(payload), .. } if payload == "payload of 5")
    );
    assert_eq!(found[2].id, new_row(5).row.id);
}

#[tokio::test]
async fn what_is_let_go_is_published_again_at_the_next_start() {
    let (_directory, path) = place();
    with_nonsense(&path).await;
    let shelf = shelf(&path).await;
    let found = shelf.list().await.unwrap();
    assert_eq!(shelf.retry(&found).await.unwrap(), 3);
    assert!(shelf.list().await.unwrap().is_empty());
    shelf.close().await;
    let (rows, state) = after(&path).await;
    assert!(state.closed);
    assert_eq!(rows[1].state, failed(Publication::Waiting));
    assert_eq!(rows[3].state, RowState::Retry { wish: RetryWish::default(), publication: Publication::Waiting });
    let RowState::Failed { cause: FailureCause::Undecodable(reason), publication: Publication::Waiting } =
        &rows[4].state
    else {
        panic!("{:?}", rows[4].state)
    };
    assert_eq!((&**reason, rows[4].key.0), ("its row made no sense: state is 9, which is none", 5));
    assert_eq!(rows.len(), 5);
}

#[tokio::test]
async fn what_is_removed_stays_settled() {
    let (_directory, path) = place();
    let mut rows = rows_of_all_kinds();
    let watermark = position(1, 1).watermark;
    rows[1].row.origin = Some(Origin { slot: Slot(1), offset: watermark + 3 });
    store(&path, rows).await;
    let before = after(&path).await.1.positions[0].clone();
    let shelf = shelf(&path).await;
    let found = shelf.list().await.unwrap();
    assert_eq!(shelf.drop(&found).await.unwrap(), 2);
    shelf.close().await;
    let (rows, state) = after(&path).await;
    assert_eq!(rows.iter().map(|row| row.key.0).collect::<Vec<_>>(), [1, 3, 5]);
    let position = &state.positions[0];
    assert_eq!(position.watermark, before.watermark);
    let bit = |settled: &[u8]| settled.first().copied().unwrap_or(0) >> 3 & 1;
    assert_eq!((bit(&before.settled), bit(&position.settled)), (0, 1), "it is not read from Kafka again");
}

#[tokio::test]
async fn a_store_in_use_is_refused_by_the_name_of_its_owner() {
    let (_directory, path) = place();
    store(&path, rows_of_all_kinds()).await;
    let _owner = SqliteStore::open(SqliteOptions::new(&path, seconds(NOW))).await.unwrap();
    let error = Shelf::open(&path, seconds(NOW)).await.unwrap_err();
    assert!(matches!(error, StoreError::Owned { .. }) && error.to_string().contains("pid"), "{error}");
    let missing = path.with_file_name("missing");
    assert!(Shelf::open(&missing, seconds(NOW)).await.unwrap_err().to_string().contains("there is no store at"));
    assert!(!missing.exists());
}
