//! The memory adapters fail when told to, and only then.

#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use taskbroker_contract::store::{contents, new_row};
use taskbroker_domain::{
    activation::Key,
    ports::{
        clock::Clock,
        outbox::{Destination, Message, Outbox, PublishError},
        store::{ActivationStore, Commit, StoreError},
    },
};
use taskbroker_memory::{Answer, Fault, ManualClock, MemoryOutbox, MemoryStore, Outcome};
use uuid::Uuid;

fn store() -> MemoryStore {
    MemoryStore::new(Uuid::from_u128(1))
}

fn insert(key: u64) -> Commit {
    Commit { number: key, insert: vec![new_row(key)], ..Commit::default() }
}

#[tokio::test]
async fn a_refused_commit_changes_nothing_and_the_next_one_succeeds() {
    let store = store();
    store.faults().next_commit(Fault::refused(Answer::Busy));
    assert!(matches!(store.commit(&insert(1)).await, Err(StoreError::Busy(_))));
    assert!(contents(&store).await.rows.is_empty());
    store.commit(&insert(1)).await.unwrap();
    assert_eq!(store.commits(), 1);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_durable() {
    let store = store();
    store.faults().next_commit(Fault::answer_lost(Answer::Full));
    assert!(matches!(store.commit(&insert(1)).await, Err(StoreError::Full(_))));
    assert_eq!(contents(&store.clone()).await.rows.len(), 1);
}

#[tokio::test]
async fn a_commit_that_never_answers_is_durable_or_not_as_planned() {
    for (fault, rows) in [(Fault::refused(Answer::Never), 0), (Fault::answer_lost(Answer::Never), 1)] {
        let store = store();
        store.faults().next_commit(fault);
        let commit = insert(1);
        tokio::select! {
            biased;
            answer = store.commit(&commit) => assert!(answer.is_err(), "no answer is expected"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(contents(&store).await.rows.len(), rows);
    }
}

#[tokio::test]
async fn a_held_commit_is_not_there_before_it_is_released() {
    let store = store();
    let mut held = store.faults().hold_next_commit();
    let committing = tokio::spawn({
        let store = store.clone();
        async move { store.commit(&insert(1)).await }
    });
    held.reached().await;
    assert!(contents(&store).await.rows.is_empty());
    held.release();
    committing.await.unwrap().unwrap();
    assert_eq!(contents(&store).await.rows.len(), 1);
}

#[tokio::test]
async fn a_held_answer_belongs_to_a_commit_that_is_there() {
    let store = store();
    let mut held = store.faults().hold_next_answer();
    let committing = tokio::spawn({
        let store = store.clone();
        async move { store.commit(&insert(1)).await }
    });
    held.reached().await;
    assert_eq!(contents(&store).await.rows.len(), 1);
    committing.abort();
    assert!(committing.await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn a_planned_read_fails_and_the_next_one_succeeds() {
    let store = store();
    store.commit(&insert(1)).await.unwrap();
    store.faults().next_read(Answer::Corrupt);
    assert!(matches!(store.payloads(&[Key(1)]).await, Err(StoreError::Corrupt(_))));
    assert_eq!(store.payloads(&[Key(1)]).await.unwrap().len(), 1);
}

fn message(text: &'static str) -> Message {
    Message { destination: Destination::Retry, key: None, payload: Bytes::from(text), headers: vec![] }
}

#[tokio::test]
async fn an_outbox_keeps_what_was_delivered_and_fails_as_planned() {
    let outbox = MemoryOutbox::default();
    outbox.usually(Outcome::Unavailable);
    outbox.next(Outcome::Delivered);
    outbox.next(Outcome::AcknowledgementLost);
    outbox.next(Outcome::Refused);
    outbox.publish(message("a")).await.unwrap();
    assert!(matches!(outbox.publish(message("b")).await, Err(PublishError::Unavailable(_))));
    assert!(matches!(outbox.publish(message("c")).await, Err(PublishError::Refused(_))));
    assert!(matches!(outbox.publish(message("d")).await, Err(PublishError::Unavailable(_))));
    outbox.delivered(2).await;
    assert_eq!(outbox.take(), [message("a"), message("b")]);
    assert_eq!(outbox.attempts(), 4);
    assert_eq!(outbox.messages(), []);
}

#[test]
fn the_two_clocks_move_together_and_apart() {
    use std::time::Duration;
    let clock = ManualClock::default();
    let start = clock.now();
    clock.advance(Duration::from_secs(2));
    clock.advance_steady(Duration::from_secs(1));
    clock.advance_wall(Duration::from_secs(5));
    let now = clock.now();
    assert_eq!(now.steady.since(start.steady), Duration::from_secs(3));
    assert_eq!(now.wall.since(start.wall), Duration::from_secs(7));
    clock.set_wall(start.wall);
    assert_eq!(clock.now().wall, start.wall);
}
