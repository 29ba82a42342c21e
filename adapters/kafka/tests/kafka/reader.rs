//! A stand-in for the engine: starts what is assigned, notes what comes, commits when it must let go.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use taskbroker_domain::{
    activation::PartitionId,
    ports::source::{ActivationSource, Assigned, AssignmentId, Barrier, GroupCommit, Record, SourceEvent, Start},
};
use taskbroker_kafka::{ClusterOptions, KafkaSource, KafkaSourceOptions};
use tokio::{sync::Notify, task::JoinHandle, time::timeout};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const METADATA: &str = "taskbroker:test";

/// Everything a reader has seen, in order of kind.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) assigned: Vec<Assigned>,
    pub(crate) out_of_range: Vec<Assigned>,
    pub(crate) records: Vec<(i32, Record)>,
    pub(crate) ends: BTreeMap<i32, i64>,
    pub(crate) revoked: Vec<Vec<i32>>,
    pub(crate) lost: Vec<Arc<PartitionId>>,
    pub(crate) committed: Vec<(i32, AssignmentId, i64)>,
    pub(crate) commits_failed: usize,
    pub(crate) connection: Vec<bool>,
    /// Where each partition stands now.
    pub(crate) positions: BTreeMap<i32, Standing>,
    /// Barriers that are not released by themselves.
    pub(crate) barriers: Vec<Barrier>,
}

#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) partition: Arc<PartitionId>,
    pub(crate) assignment: AssignmentId,
    pub(crate) next: i64,
    pub(crate) leader_epoch: Option<i32>,
}

impl Standing {
    pub(crate) fn commit(&self) -> GroupCommit {
        GroupCommit {
            partition: Arc::clone(&self.partition),
            assignment: self.assignment,
            offset: self.next,
            leader_epoch: self.leader_epoch,
            metadata: METADATA.into(),
        }
    }

    pub(crate) fn start(&self, offset: i64) -> Start {
        let (partition, assignment) = (Arc::clone(&self.partition), self.assignment);
        Start { partition, assignment, offset, leader_epoch: None }
    }
}

impl Seen {
    pub(crate) fn offsets(&self, partition: i32) -> Vec<i64> {
        self.records.iter().filter(|(of, _)| *of == partition).map(|(_, record)| record.offset).collect()
    }

    pub(crate) fn commits(&self) -> Vec<GroupCommit> {
        self.positions.values().map(Standing::commit).collect()
    }

    fn summary(&self) -> String {
        format!(
            "assigned {:?}, out of range {:?}, {} records, ends {:?}, revoked {:?}, lost {:?}, committed {:?} ({} failed), \
             connection {:?}, positions {:?}",
            self.assigned,
            self.out_of_range,
            self.records.len(),
            self.ends,
            self.revoked,
            self.lost,
            self.committed,
            self.commits_failed,
            self.connection,
            self.positions
        )
    }
}

/// What a reader does by itself.
#[derive(Clone, Copy)]
pub(crate) struct Conduct {
    /// Where to start an assigned partition; `None` leaves it waiting.
    pub(crate) start: fn(&Assigned) -> Option<i64>,
    /// Where to start one that is out of range.
    pub(crate) start_again: fn(&Assigned) -> Option<i64>,
    /// Whether barriers are released at once, with the positions.
    pub(crate) releases: bool,
}

impl Default for Conduct {
    fn default() -> Self {
        Self { start: committed_or_first, start_again: |assigned| Some(assigned.log_start), releases: true }
    }
}

pub(crate) fn committed_or_first(assigned: &Assigned) -> Option<i64> {
    Some(assigned.committed.as_ref().map_or(assigned.log_start, |committed| committed.offset.max(assigned.log_start)))
}

pub(crate) struct Reader {
    pub(crate) source: Arc<KafkaSource>,
    seen: Arc<Mutex<Seen>>,
    changed: Arc<Notify>,
    pub(crate) room: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

/// Options with times that suit tests.
pub(crate) fn options(address: &str, group: &str, topic: &str) -> KafkaSourceOptions {
    KafkaSourceOptions {
        session_timeout: Duration::from_secs(6),
        topic_check_interval: Duration::from_millis(500),
        ..KafkaSourceOptions::new(ClusterOptions::plaintext(address), group, topic)
    }
}

impl Reader {
    pub(crate) fn start(options: KafkaSourceOptions) -> Self {
        Self::with(options, Conduct::default())
    }

    pub(crate) fn with(options: KafkaSourceOptions, conduct: Conduct) -> Self {
        let source = Arc::new(KafkaSource::open(options).unwrap());
        let (seen, changed, room) = (Arc::default(), Arc::new(Notify::new()), Arc::new(AtomicUsize::new(usize::MAX)));
        let drive = drive(Arc::clone(&source), conduct, Arc::clone(&seen), Arc::clone(&changed), Arc::clone(&room));
        Self { source, seen, changed, room, task: tokio::spawn(drive) }
    }

    pub(crate) fn seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.seen.lock().unwrap())
    }

    /// Waits until the condition holds.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Seen) -> bool) {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                if self.seen(|seen| holds(seen)) {
                    return;
                }
                changed.await;
            }
        };
        if timeout(PATIENCE, waiting).await.is_err() {
            panic!(
                "not seen in {PATIENCE:?}: {what}; {}; {:?}",
                self.seen(|seen| seen.summary()),
                self.source.status()
            );
        }
    }

    /// Asks for no more than this many records at once, from now on.
    pub(crate) fn set_room(&self, room: usize) {
        self.room.store(room, Ordering::SeqCst);
    }

    /// Commits where everything stands and leaves.
    pub(crate) async fn close(self) {
        let positions = self.seen(|seen| seen.commits());
        self.task.abort();
        self.source.close(positions).await;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn drive(
    source: Arc<KafkaSource>,
    conduct: Conduct,
    seen: Arc<Mutex<Seen>>,
    changed: Arc<Notify>,
    room: Arc<AtomicUsize>,
) {
    loop {
        // Asked anew now and then, since the room may have changed; nothing is lost by that.
        let room = room.load(Ordering::SeqCst);
        let Ok(event) = timeout(Duration::from_millis(50), source.receive(room)).await else {
            continue;
        };
        if let SourceEvent::Records { records, .. } = &event {
            assert!(!records.is_empty() && records.len() <= room, "{} records for room {room}", records.len());
        }
        note(&source, conduct, &mut seen.lock().unwrap(), event);
        changed.notify_waiters();
        changed.notify_one();
    }
}

fn note(source: &KafkaSource, conduct: Conduct, seen: &mut Seen, event: SourceEvent) {
    match event {
        SourceEvent::Assigned { partitions } => {
            for assigned in partitions {
                begin(source, seen, &assigned, (conduct.start)(&assigned));
                seen.assigned.push(assigned);
            }
        }
        SourceEvent::OutOfRange(assigned) => {
            begin(source, seen, &assigned, (conduct.start_again)(&assigned));
            seen.out_of_range.push(assigned);
        }
        SourceEvent::Records { partition, assignment, records } => {
            let standing = seen.positions.get_mut(&partition.partition).expect("records only of what is assigned");
            assert_eq!((&standing.partition, standing.assignment), (&partition, assignment));
            for record in records {
                assert!(record.offset >= standing.next, "{} after {}", record.offset, standing.next);
                standing.next = record.offset + 1;
                standing.leader_epoch = record.leader_epoch;
                seen.records.push((partition.partition, record));
            }
        }
        SourceEvent::End { partition, assignment, offset } => {
            let standing = seen.positions.get_mut(&partition.partition).expect("ends only of what is assigned");
            assert_eq!(standing.assignment, assignment);
            assert!(offset >= standing.next);
            standing.next = offset;
            seen.ends.insert(partition.partition, offset);
        }
        SourceEvent::Revoking { partitions, barrier } => {
            let numbers: Vec<i32> = partitions.iter().map(|partition| partition.partition).collect();
            let standing = numbers.iter().filter_map(|number| seen.positions.remove(number));
            let commits = standing.map(|standing| standing.commit()).collect();
            seen.revoked.push(numbers);
            if conduct.releases {
                barrier.release(commits);
            } else {
                seen.barriers.push(barrier);
            }
        }
        SourceEvent::Lost { partitions } => {
            partitions.iter().for_each(|partition| drop(seen.positions.remove(&partition.partition)));
            seen.lost.extend(partitions);
        }
        SourceEvent::Committed { partition, assignment, offset } => {
            seen.committed.push((partition.partition, assignment, offset));
        }
        SourceEvent::CommitFailed { .. } => seen.commits_failed += 1,
        SourceEvent::Connection { up } => seen.connection.push(up),
    }
}

fn begin(source: &KafkaSource, seen: &mut Seen, assigned: &Assigned, offset: Option<i64>) {
    let standing = Standing {
        partition: Arc::clone(&assigned.partition),
        assignment: assigned.assignment,
        next: offset.unwrap_or(0),
        leader_epoch: None,
    };
    if let Some(offset) = offset {
        source.start(standing.start(offset));
    }
    seen.positions.insert(assigned.partition.partition, standing);
}
