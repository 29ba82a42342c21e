//! The memory source keeps the contract of its port.

#![allow(clippy::panic, reason = "tests")]

use std::{future::Future, sync::Arc, task::Poll};

use taskbroker_contract::store::partition;
use taskbroker_domain::{
    activation::PartitionId,
    ports::source::{ActivationSource, AssignmentId, Committed, GroupCommit, SourceEvent, Start},
};
use taskbroker_memory::{CommitMode, MemoryLog, MemorySource};

fn log_with(records: usize) -> (MemoryLog, Arc<PartitionId>) {
    let (log, partition) = (MemoryLog::new(), partition(0));
    for at in 0..records {
        log.append(&partition, format!("record {at}"));
    }
    (log, partition)
}

async fn assigned(source: &MemorySource) -> taskbroker_domain::ports::source::Assigned {
    match source.receive(0).await {
        SourceEvent::Assigned { mut partitions } if partitions.len() == 1 => partitions.remove(0),
        other => panic!("one assigned partition, not {other:?}"),
    }
}

/// Assigns the partition and starts it there.
async fn start(source: &MemorySource, partition: &Arc<PartitionId>, offset: i64) -> AssignmentId {
    let assignment = source.assign(std::slice::from_ref(partition));
    assert_eq!(assigned(source).await.assignment, assignment);
    source.start(Start { partition: partition.clone(), assignment, offset, leader_epoch: None });
    assignment
}

async fn offsets(source: &MemorySource, room: usize) -> Vec<i64> {
    match source.receive(room).await {
        SourceEvent::Records { records, .. } => records.iter().map(|record| record.offset).collect(),
        other => panic!("records, not {other:?}"),
    }
}

async fn end(source: &MemorySource) -> i64 {
    match source.receive(9).await {
        SourceEvent::End { offset, .. } => offset,
        other => panic!("the end, not {other:?}"),
    }
}

async fn is_silent(source: &MemorySource, room: usize) -> bool {
    let mut receive = std::pin::pin!(source.receive(room));
    std::future::poll_fn(|context| Poll::Ready(receive.as_mut().poll(context).is_pending())).await
}

fn commit(partition: &Arc<PartitionId>, assignment: AssignmentId, offset: i64) -> GroupCommit {
    let metadata = "taskbroker:test".into();
    GroupCommit { partition: partition.clone(), assignment, offset, leader_epoch: None, metadata }
}

#[tokio::test]
async fn nothing_comes_before_the_start_and_then_each_record_once_and_the_end() {
    let (log, partition) = log_with(5);
    let source = log.member();
    source.assign(std::slice::from_ref(&partition));
    let waiting = assigned(&source).await;
    assert_eq!((waiting.log_start, waiting.log_end, waiting.committed), (0, 5, None));
    assert!(is_silent(&source, 9).await);
    source.start(Start { partition: partition.clone(), assignment: waiting.assignment, offset: 1, leader_epoch: None });
    assert_eq!(offsets(&source, 2).await, [1, 2]);
    assert!(is_silent(&source, 0).await);
    assert_eq!(offsets(&source, 9).await, [3, 4]);
    assert_eq!(end(&source).await, 5);
    assert!(is_silent(&source, 9).await);
    log.append(&partition, "one more");
    assert_eq!(offsets(&source, 9).await, [5]);
    assert_eq!(end(&source).await, 6);
}

#[tokio::test]
async fn a_gap_is_passed_over_and_the_end_lies_behind_it() {
    let (log, partition) = log_with(1);
    log.append_gap(&partition, 3);
    log.append(&partition, "after the gap");
    log.append_gap(&partition, 1);
    let source = log.member();
    start(&source, &partition, 0).await;
    assert_eq!(offsets(&source, 1).await, [0]);
    assert_eq!(offsets(&source, 9).await, [4]);
    assert_eq!(end(&source).await, 6);
}

#[tokio::test]
async fn a_start_outside_the_log_is_reported_and_waits_for_another() {
    let (log, partition) = log_with(5);
    log.trim(&partition, 3);
    let source = log.member();
    let assignment = start(&source, &partition, 1).await;
    let SourceEvent::OutOfRange(waiting) = source.receive(9).await else { panic!("out of range") };
    assert_eq!((waiting.log_start, waiting.log_end), (3, 5));
    source.start(Start { partition: partition.clone(), assignment, offset: 3, leader_epoch: None });
    assert_eq!(offsets(&source, 9).await, [3, 4]);
    log.truncate(&partition, 2);
    assert!(matches!(source.receive(9).await, SourceEvent::OutOfRange(_)));
}

#[tokio::test]
async fn a_start_of_an_earlier_assignment_is_ignored() {
    let (log, partition) = log_with(1);
    let source = log.member();
    let earlier = start(&source, &partition, 0).await;
    source.assign(std::slice::from_ref(&partition));
    assert!(assigned(&source).await.assignment > earlier);
    source.start(Start { partition: partition.clone(), assignment: earlier, offset: 0, leader_epoch: None });
    assert!(is_silent(&source, 9).await);
}

#[tokio::test]
async fn commits_are_kept_with_their_metadata_and_acknowledged() {
    let (log, partition) = log_with(3);
    let source = log.member();
    let assignment = start(&source, &partition, 3).await;
    assert_eq!(end(&source).await, 3);
    source.commit(vec![commit(&partition, assignment, 2)]);
    assert!(matches!(source.receive(0).await, SourceEvent::Committed { offset: 2, .. }));
    let kept = Committed { offset: 2, metadata: "taskbroker:test".into() };
    assert_eq!(log.committed(&partition), Some(kept.clone()));
    let successor = log.member();
    successor.assign(std::slice::from_ref(&partition));
    assert_eq!(assigned(&successor).await.committed, Some(kept));
}

#[tokio::test]
async fn commits_fail_or_lose_their_answers_when_told_to() {
    let (log, partition) = log_with(3);
    let source = log.member();
    let assignment = start(&source, &partition, 3).await;
    assert_eq!(end(&source).await, 3);
    let committed = || log.committed(&partition).map(|committed| committed.offset);
    source.commits_are(CommitMode::Failed);
    source.commit(vec![commit(&partition, assignment, 1)]);
    assert!(matches!(source.receive(0).await, SourceEvent::CommitFailed { .. }));
    assert_eq!(committed(), None);
    source.commits_are(CommitMode::AnswerLost);
    source.commit(vec![commit(&partition, assignment, 2)]);
    assert!(matches!(source.receive(0).await, SourceEvent::CommitFailed { .. }));
    assert_eq!(committed(), Some(2));
    source.commits_are(CommitMode::Unheard);
    source.commit(vec![commit(&partition, assignment, 3)]);
    assert!(is_silent(&source, 9).await);
    assert_eq!(committed(), Some(3));
}

#[tokio::test]
async fn a_held_commit_is_fenced_off_once_its_assignment_is_over_but_may_land_late() {
    let (log, partition) = log_with(3);
    let source = log.member();
    let assignment = start(&source, &partition, 0).await;
    source.commits_are(CommitMode::Held);
    source.commit(vec![commit(&partition, assignment, 1)]);
    assert_eq!(source.held().len(), 1);
    source.answer_held();
    assert!(matches!(source.receive(0).await, SourceEvent::Committed { offset: 1, .. }));
    source.commit(vec![commit(&partition, assignment, 2)]);
    source.lose(std::slice::from_ref(&partition));
    assert!(matches!(source.receive(9).await, SourceEvent::Lost { .. }));
    source.land_held();
    assert_eq!(log.committed(&partition).map(|committed| committed.offset), Some(2));
    assert!(is_silent(&source, 9).await);
    source.commit(vec![commit(&partition, assignment, 3)]);
    assert_eq!(log.committed(&partition).map(|committed| committed.offset), Some(2));
}

#[tokio::test]
async fn a_revoked_partition_is_silent_and_gone_once_its_barrier_is_released() {
    let (log, partition) = log_with(3);
    let source = log.member();
    let assignment = start(&source, &partition, 0).await;
    assert_eq!(offsets(&source, 1).await, [0]);
    let revocation = source.revoke(std::slice::from_ref(&partition));
    let SourceEvent::Revoking { barrier, partitions } = source.receive(9).await else { panic!("revoking") };
    assert_eq!(partitions, std::slice::from_ref(&partition));
    assert!(is_silent(&source, 9).await);
    barrier.release(vec![commit(&partition, assignment, 1)]);
    assert_eq!(revocation.released().await, [commit(&partition, assignment, 1)]);
    log.committed_up_to(&partition, 1).await;
    assert!(is_silent(&source, 9).await);
}

#[tokio::test]
async fn while_the_log_is_away_nothing_comes_and_nothing_is_committed() {
    let (log, partition) = log_with(1);
    let source = log.member();
    let assignment = start(&source, &partition, 0).await;
    source.connected(false);
    assert!(matches!(source.receive(9).await, SourceEvent::Connection { up: false }));
    assert!(is_silent(&source, 9).await);
    source.commit(vec![commit(&partition, assignment, 1)]);
    assert!(matches!(source.receive(9).await, SourceEvent::CommitFailed { .. }));
    source.connected(true);
    assert!(matches!(source.receive(9).await, SourceEvent::Connection { up: true }));
    assert_eq!(offsets(&source, 9).await, [0]);
}

#[tokio::test]
async fn partitions_take_turns() {
    let (log, first) = log_with(4);
    let second = partition(1);
    for _ in 0..4 {
        log.append(&second, "x");
    }
    let source = log.member();
    for id in [&first, &second] {
        start(&source, id, 0).await;
    }
    let mut order = Vec::new();
    for _ in 0..4 {
        match source.receive(1).await {
            SourceEvent::Records { partition, .. } => order.push(partition.partition),
            other => panic!("records, not {other:?}"),
        }
    }
    assert_eq!(order, [0, 1, 0, 1]);
}

#[tokio::test]
async fn closing_commits_what_it_is_given_and_ends_everything() {
    let (log, partition) = log_with(2);
    let source = log.member();
    let assignment = start(&source, &partition, 0).await;
    source.close(vec![commit(&partition, assignment, 1)]).await;
    assert_eq!(log.committed(&partition).map(|committed| committed.offset), Some(1));
    assert!(is_silent(&source, 9).await);
}
